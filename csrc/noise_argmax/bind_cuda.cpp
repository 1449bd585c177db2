#include <map>

#include "cuda/device_array.h"
#include "noise_argmax/noise_argmax_cuda.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::DeviceArray;
using logitkit::cuda::NoiseLaw;

NoiseLaw law_of(const std::string& name) {
  static const std::map<std::string, NoiseLaw> laws = {
      {"normal", NoiseLaw::normal},   {"logistic", NoiseLaw::logistic},
      {"laplace", NoiseLaw::laplace}, {"cauchy", NoiseLaw::cauchy},
      {"uniform", NoiseLaw::uniform}, {"exponential", NoiseLaw::exponential}};
  const auto found = laws.find(name);
  if (found == laws.end()) throw py::value_error("no kernels for " + name + " noise on a GPU");
  return found->second;
}

/// Rows of logits, and memory to work in.
struct Call {
  Call(const py::object& given, const std::string& law, double scale, const py::object& memory)
      : logits(given, "logits"), workspace(memory, "workspace"), law(law_of(law)), scale(scale) {
    logits.expect({-1, -1});
    if (logits.shape(1) == 0) logits.fail("has rows without classes");
    if (!(scale > 0.0) || scale > 1.7976931348623157e308)
      throw py::value_error("expected 0 < scale < inf");
    if (workspace.size() < logitkit::cuda::noise_argmax_workspace(logits.shape(0), logits.shape(1)))
      workspace.fail("is too small");
  }
  /// Calls f(logits, workspace) for the type of elements that there is.
  template <class F>
  void run(const F& f) const {
    with_element(logits, [&](auto* type) {
      using S = std::remove_pointer_t<decltype(type)>;
      const logitkit::cuda::NoisyLogits<S> x = {logits.data<S>(), logits.shape(0), logits.shape(1),
                                                law, scale};
      logitkit::cuda::on_device(logits.device(),
                                [&] { return f(x, workspace.data<std::uint8_t>()); });
    });
  }
  std::int64_t rows() const { return static_cast<std::int64_t>(logits.shape(0)); }
  std::int64_t classes() const { return static_cast<std::int64_t>(logits.shape(1)); }

  DeviceArray logits, workspace;
  NoiseLaw law;
  double scale;
};

template <class S>
using NoisyLogits = logitkit::cuda::NoisyLogits<S>;

void probabilities(const py::object& logits, const std::string& law, double scale,
                   const py::object& to, const py::object& memory, bool is_log,
                   std::uintptr_t stream) {
  const Call call(logits, law, scale, memory);
  const DeviceArray out(to, "out");
  out.expect({call.rows(), call.classes()});
  call.run([&](const auto& x, void* workspace) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x.logits)>>;
    return logitkit::cuda::noise_argmax(x, is_log, out.data<S>(), workspace,
                                        logitkit::cuda::as_stream(stream));
  });
}

void vjp(const py::object& logits, const py::object& given, const std::string& law, double scale,
         const py::object& to, const py::object& memory, std::uintptr_t stream) {
  const Call call(logits, law, scale, memory);
  const DeviceArray cotangents(given, "cotangents"), out(to, "out");
  cotangents.expect({call.rows(), call.classes()});
  out.expect({call.rows(), call.classes()});
  call.run([&](const auto& x, void* workspace) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x.logits)>>;
    const S* from = cotangents.data<S>();
    return logitkit::cuda::noise_argmax_vjp(x, from, out.data<S>(), workspace,
                                            logitkit::cuda::as_stream(stream));
  });
}

void expected_max(const py::object& logits, const std::string& law, double scale,
                  const py::object& to, const py::object& memory, std::uintptr_t stream) {
  const Call call(logits, law, scale, memory);
  const DeviceArray out(to, "out");
  out.expect({call.rows()});
  call.run([&](const auto& x, void* workspace) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x.logits)>>;
    return logitkit::cuda::noise_argmax_expected_max(x, out.data<S>(), workspace,
                                                     logitkit::cuda::as_stream(stream));
  });
}

void log_prob(const py::object& logits, const py::object& given_index, const std::string& law,
              double scale, const py::object& to, const py::object& to_gradients,
              const py::object& memory, std::uintptr_t stream) {
  const Call call(logits, law, scale, memory);
  const DeviceArray index(given_index, "index"), out(to, "out");
  index.expect({call.rows()});
  out.expect({call.rows()});
  const bool has_gradients = !to_gradients.is_none();
  const DeviceArray gradients(has_gradients ? to_gradients : logits, "gradients");
  gradients.expect({call.rows(), call.classes()});
  call.run([&](const auto& x, void* workspace) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x.logits)>>;
    return logitkit::cuda::noise_argmax_log_prob(
        x, index.data<std::int64_t>(), out.data<S>(),
        has_gradients ? gradients.data<S>() : static_cast<S*>(nullptr), workspace,
        logitkit::cuda::as_stream(stream));
  });
}

}  // namespace

void bind_noise_argmax(py::module_& m) {
  m.def("noise_argmax_workspace", &logitkit::cuda::noise_argmax_workspace, py::arg("rows"),
        py::arg("classes"));
  m.def("noise_argmax_probs", &probabilities, py::arg("logits"), py::arg("law"), py::arg("scale"),
        py::arg("out"), py::arg("workspace"), py::kw_only(), py::arg("is_log") = false,
        py::arg("stream") = 0);
  m.def("noise_argmax_vjp", &vjp, py::arg("logits"), py::arg("cotangents"), py::arg("law"),
        py::arg("scale"), py::arg("out"), py::arg("workspace"), py::kw_only(),
        py::arg("stream") = 0);
  m.def("noise_argmax_expected_max", &expected_max, py::arg("logits"), py::arg("law"),
        py::arg("scale"), py::arg("out"), py::arg("workspace"), py::kw_only(),
        py::arg("stream") = 0);
  m.def("noise_argmax_log_prob", &log_prob, py::arg("logits"), py::arg("index"), py::arg("law"),
        py::arg("scale"), py::arg("out"), py::arg("gradients"), py::arg("workspace"), py::kw_only(),
        py::arg("stream") = 0);
}
