#include <algorithm>

#include "gemm/choose_arithmetic_cuda.h"
#include "linear_argmax/linear_argmax_cuda.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::Compute;
using logitkit::cuda::DeviceArray;

std::size_t workspace_size(std::size_t rows, std::size_t classes, std::size_t k) {
  return std::max({logitkit::cuda::linear_topk_workspace<float>(rows, classes, k),
                   logitkit::cuda::linear_topk_workspace<double>(rows, classes, k)});
}

void linear_topk(const py::object& from, const py::object& of_classes, const py::object& added,
                 const py::object& to_values, const py::object& to_indices,
                 const py::object& memory, bool exact, std::uintptr_t stream) {
  const DeviceArray x(from, "x"), weight(of_classes, "weight"), values(to_values, "values"),
      indices(to_indices, "indices"), workspace(memory, "workspace");
  x.expect({-1, -1});
  weight.expect({-1, static_cast<std::int64_t>(x.shape(1))});
  values.expect({static_cast<std::int64_t>(x.shape(0)), -1});
  const std::size_t k = values.shape(1);
  indices.expect({static_cast<std::int64_t>(x.shape(0)), static_cast<std::int64_t>(k)});
  const std::size_t classes = weight.shape(0);
  if (classes == 0 || classes > (std::size_t{1} << 31) - 256)
    weight.fail("does not have from 1 to 2^31 - 256 rows");
  if (k == 0 || k > classes) values.fail("does not have from 1 to n columns");
  with_element(x, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    logitkit::cuda::LinearScores<S> scores = {x.data<S>(), weight.data<S>(), nullptr,
                                              x.shape(0),  classes,          x.shape(1)};
    if (!added.is_none()) {
      const DeviceArray bias(added, "bias");
      bias.expect({static_cast<std::int64_t>(classes)});
      scores.bias = bias.data<S>();
    }
    if (workspace.size() < logitkit::cuda::linear_topk_workspace<S>(scores.rows, classes, k))
      workspace.fail("is too small");
    logitkit::cuda::on_device(x.device(), [&] {
      return logitkit::cuda::linear_topk(
          scores, k, values.data<Compute<S>>(), indices.data<std::int64_t>(),
          logitkit::cuda::arithmetic_of(x, exact), workspace.data<std::uint8_t>(),
          logitkit::cuda::as_stream(stream));
    });
  });
}

}  // namespace

void bind_linear_argmax(py::module_& m) {
  m.def("linear_topk_workspace", &workspace_size, py::arg("rows"), py::arg("classes"),
        py::arg("k"));
  m.def("linear_topk", &linear_topk, py::arg("x"), py::arg("weight"), py::arg("bias"),
        py::arg("values"), py::arg("indices"), py::arg("workspace"), py::kw_only(),
        py::arg("exact") = false, py::arg("stream") = 0);
}
