#include "cuda/device_array.h"
#include "softmax/softmax_cuda.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::DeviceArray;
using logitkit::cuda::Lines;

Lines lines_of(const DeviceArray& x) {
  x.expect({-1, -1, -1});
  const Lines lines = {x.shape(0), x.shape(1), x.shape(2)};
  constexpr std::size_t most = (std::size_t{1} << 31) - 1;
  if (lines.outer * lines.inner > most) x.fail("has 2^31 lines or more");
  return lines;
}

void* memory_for(const DeviceArray& workspace, std::size_t bytes) {
  if (workspace.size() < bytes) workspace.fail("is too small");
  return workspace.data<std::uint8_t>();
}

std::size_t workspace_size(std::size_t outer, std::size_t terms, std::size_t inner) {
  return logitkit::cuda::softmax_workspace<double>({outer, terms, inner});
}

void logsumexp(const py::object& from, const py::object& to, const py::object& memory,
               std::uintptr_t stream) {
  const DeviceArray x(from, "x"), out(to, "out"), workspace(memory, "workspace");
  const Lines lines = lines_of(x);
  out.expect({static_cast<std::int64_t>(lines.outer), static_cast<std::int64_t>(lines.inner)});
  with_element(x, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    void* memory = memory_for(workspace, logitkit::cuda::softmax_workspace<S>(lines));
    logitkit::cuda::on_device(x.device(), [&] {
      return logitkit::cuda::logsumexp(x.data<S>(), lines, out.data<S>(), memory,
                                       logitkit::cuda::as_stream(stream));
    });
  });
}

void softmax(const py::object& from, const py::object& to, const py::object& memory, bool is_log,
             std::uintptr_t stream) {
  const DeviceArray x(from, "x"), y(to, "y"), workspace(memory, "workspace");
  const Lines lines = lines_of(x);
  y.expect({static_cast<std::int64_t>(lines.outer), static_cast<std::int64_t>(lines.terms),
            static_cast<std::int64_t>(lines.inner)});
  with_element(x, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    void* memory = memory_for(workspace, logitkit::cuda::softmax_workspace<S>(lines));
    const auto compute = is_log ? &logitkit::cuda::log_softmax<S> : &logitkit::cuda::softmax<S>;
    logitkit::cuda::on_device(x.device(), [&] {
      return compute(x.data<S>(), lines, y.data<S>(), memory, logitkit::cuda::as_stream(stream));
    });
  });
}

void softmax_stats(const py::object& from, double scale, const py::object& to,
                   const py::object& memory, std::uintptr_t stream) {
  const DeviceArray x(from, "x"), out(to, "out"), workspace(memory, "workspace");
  const Lines lines = lines_of(x);
  out.expect({4, static_cast<std::int64_t>(lines.outer), static_cast<std::int64_t>(lines.inner)});
  with_element(x, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    using T = logitkit::cuda::Compute<S>;
    void* memory = memory_for(workspace, 2 * logitkit::cuda::softmax_workspace<S>(lines));
    T* first = out.data<T>();
    const std::size_t n = lines.outer * lines.inner;
    const logitkit::cuda::LineStats<T> stats = {first, first + n, first + 2 * n, first + 3 * n};
    logitkit::cuda::on_device(x.device(), [&] {
      return logitkit::cuda::softmax_stats(x.data<S>(), lines, static_cast<T>(scale), stats, memory,
                                           logitkit::cuda::as_stream(stream));
    });
  });
}

}  // namespace

void bind_softmax(py::module_& m) {
  m.def("softmax_workspace", &workspace_size, py::arg("outer"), py::arg("terms"), py::arg("inner"));
  m.def("logsumexp", &logsumexp, py::arg("x"), py::arg("out"), py::arg("workspace"), py::kw_only(),
        py::arg("stream") = 0);
  m.def("softmax", &softmax, py::arg("x"), py::arg("y"), py::arg("workspace"), py::kw_only(),
        py::arg("is_log") = false, py::arg("stream") = 0);
  m.def("softmax_stats", &softmax_stats, py::arg("x"), py::arg("scale"), py::arg("out"),
        py::arg("workspace"), py::kw_only(), py::arg("stream") = 0);
}
