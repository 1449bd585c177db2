#include "cross_entropy/cross_entropy_cuda.h"
#include "cuda/device_array.h"
#include "cuda/optional_array.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::DeviceArray;
using logitkit::cuda::OptionalArray;

void cross_entropy(const py::object& of_logits, const py::object& of_labels,
                   const py::object& to_values, const py::object& given_targets,
                   const py::object& given_weight, double smoothing, double z_loss,
                   const py::object& to_logsumexp, const py::object& to_gradient,
                   std::uintptr_t stream) {
  const DeviceArray logits(of_logits, "logits"), labels(of_labels, "labels"),
      values(to_values, "values");
  logits.expect({-1, -1});
  const std::size_t rows = logits.shape(0), classes = logits.shape(1);
  labels.expect({static_cast<std::int64_t>(rows)});
  values.expect({static_cast<std::int64_t>(rows)});
  if (rows >= std::size_t{1} << 31) logits.fail("has 2^31 rows or more");
  const OptionalArray targets(given_targets, "targets", {rows, classes}),
      weight(given_weight, "class_weight", {classes}), logsumexp(to_logsumexp, "logsumexp", {rows}),
      gradient(to_gradient, "gradient", {rows, classes});
  with_element(logits, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    const logitkit::cuda::CrossEntropyInput<S> in = {
        logits.data<S>(), rows,      classes, labels.data<std::int64_t>(), targets.data<S>(),
        weight.data<S>(), smoothing, z_loss};
    const logitkit::cuda::CrossEntropyOutput<S> out = {
        values.data<double>(), logsumexp.data<double>(), gradient.data<S>()};
    logitkit::cuda::on_device(logits.device(), [&] {
      return logitkit::cuda::cross_entropy(in, out, logitkit::cuda::as_stream(stream));
    });
  });
}

}  // namespace

void bind_cross_entropy(py::module_& m) {
  m.def("cross_entropy", &cross_entropy, py::arg("logits"), py::arg("labels"), py::arg("values"),
        py::arg("targets") = py::none(), py::arg("class_weight") = py::none(),
        py::arg("smoothing") = 0.0, py::arg("z_loss") = 0.0, py::arg("logsumexp") = py::none(),
        py::arg("gradient") = py::none(), py::kw_only(), py::arg("stream") = 0);
}
