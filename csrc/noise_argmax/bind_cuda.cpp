#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "cuda/device_array.h"
#include "noise_argmax/noise_argmax_cuda.h"
#include "noise_argmax/quantiles_cuda.h"

namespace py = pybind11;

namespace {

using logitkit::NoiseLaw;
using logitkit::NoiseTable;
using logitkit::cuda::DeviceArray;

NoiseLaw law_of(const std::string& name) {
  static const std::map<std::string, NoiseLaw> laws = {
      {"normal", NoiseLaw::normal},   {"logistic", NoiseLaw::logistic},
      {"laplace", NoiseLaw::laplace}, {"cauchy", NoiseLaw::cauchy},
      {"uniform", NoiseLaw::uniform}, {"exponential", NoiseLaw::exponential}};
  const auto found = laws.find(name);
  if (found == laws.end()) throw py::value_error("no kernels for " + name + " noise on a GPU");
  return found->second;
}

/// A law by its name, or (width, low, step, tail_index) of its table, whose polynomials, of log F
/// and log (f / F), lie on the device: bytes, as not all libraries have doubles.
class Law {
 public:
  Law(const py::object& law, const py::object& polynomials) {
    if (polynomials.is_none()) {
      law_ = law_of(law.cast<std::string>());
      return;
    }
    const auto [width, low, step, tail_index] =
        law.cast<std::tuple<double, double, double, double>>();
    memory_.emplace(polynomials, "polynomials");
    const auto* doubles = reinterpret_cast<const double*>(memory_->data<std::uint8_t>());
    constexpr std::size_t of_cell = 2 * NoiseTable::terms * sizeof(double);
    const std::size_t cells = memory_->size() / of_cell;
    if (cells == 0 || memory_->size() != cells * of_cell) memory_->fail("is not of whole cells");
    table_ = {width, low, step, tail_index, cells, doubles, doubles + cells * NoiseTable::terms};
  }
  logitkit::Noise noise() const { return {law_, memory_ ? &table_ : nullptr}; }

 private:
  NoiseLaw law_ = NoiseLaw::tabulated;
  std::optional<DeviceArray> memory_;
  NoiseTable table_ = {};
};

/// Rows of logits, and memory to work in.
struct Call {
  Call(const py::object& given, const py::object& law, const py::object& polynomials, double scale,
       const py::object& memory)
      : logits(given, "logits"),
        workspace(memory, "workspace"),
        law(law, polynomials),
        scale(scale) {
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
                                                law.noise(), scale};
      logitkit::cuda::on_device(logits.device(),
                                [&] { return f(x, workspace.data<std::uint8_t>()); });
    });
  }
  std::int64_t rows() const { return static_cast<std::int64_t>(logits.shape(0)); }
  std::int64_t classes() const { return static_cast<std::int64_t>(logits.shape(1)); }

  DeviceArray logits, workspace;
  Law law;
  double scale;
};

template <class S>
using NoisyLogits = logitkit::cuda::NoisyLogits<S>;

void probabilities(const py::object& logits, const py::object& law, double scale,
                   const py::object& to, const py::object& memory, bool is_log,
                   const py::object& polynomials, std::uintptr_t stream) {
  const Call call(logits, law, polynomials, scale, memory);
  const DeviceArray out(to, "out");
  out.expect({call.rows(), call.classes()});
  call.run([&](const auto& x, void* workspace) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x.logits)>>;
    return logitkit::cuda::noise_argmax(x, is_log, out.data<S>(), workspace,
                                        logitkit::cuda::as_stream(stream));
  });
}

void vjp(const py::object& logits, const py::object& given, const py::object& law, double scale,
         const py::object& to, const py::object& memory, const py::object& polynomials,
         std::uintptr_t stream) {
  const Call call(logits, law, polynomials, scale, memory);
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

void expected_max(const py::object& logits, const py::object& law, double scale,
                  const py::object& to, const py::object& memory, const py::object& polynomials,
                  std::uintptr_t stream) {
  const Call call(logits, law, polynomials, scale, memory);
  const DeviceArray out(to, "out");
  out.expect({call.rows()});
  call.run([&](const auto& x, void* workspace) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x.logits)>>;
    return logitkit::cuda::noise_argmax_expected_max(x, out.data<S>(), workspace,
                                                     logitkit::cuda::as_stream(stream));
  });
}

void log_prob(const py::object& logits, const py::object& given_index, const py::object& law,
              double scale, const py::object& to, const py::object& to_gradients,
              const py::object& memory, const py::object& polynomials, std::uintptr_t stream) {
  const Call call(logits, law, polynomials, scale, memory);
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

void quantiles(const py::object& to, const py::object& given_law, const py::object& polynomials,
               std::uintptr_t stream) {
  const DeviceArray numbers(to, "numbers");
  const Law law(given_law, polynomials);
  const logitkit::Noise noise = law.noise();
  if (noise.table == nullptr) throw py::type_error("expected the polynomials of a table, not None");
  logitkit::cuda::on_device(numbers.device(), [&] {
    return logitkit::cuda::tabulated_quantiles(*noise.table, numbers.data<double>(), numbers.size(),
                                               logitkit::cuda::as_stream(stream));
  });
}

}  // namespace

void bind_noise_argmax(py::module_& m) {
  m.def("noise_argmax_workspace", &logitkit::cuda::noise_argmax_workspace, py::arg("rows"),
        py::arg("classes"));
  m.def("noise_argmax_probs", &probabilities, py::arg("logits"), py::arg("law"), py::arg("scale"),
        py::arg("out"), py::arg("workspace"), py::kw_only(), py::arg("is_log") = false,
        py::arg("polynomials") = py::none(), py::arg("stream") = 0);
  m.def("noise_argmax_vjp", &vjp, py::arg("logits"), py::arg("cotangents"), py::arg("law"),
        py::arg("scale"), py::arg("out"), py::arg("workspace"), py::kw_only(),
        py::arg("polynomials") = py::none(), py::arg("stream") = 0);
  m.def("noise_argmax_expected_max", &expected_max, py::arg("logits"), py::arg("law"),
        py::arg("scale"), py::arg("out"), py::arg("workspace"), py::kw_only(),
        py::arg("polynomials") = py::none(), py::arg("stream") = 0);
  m.def("noise_argmax_log_prob", &log_prob, py::arg("logits"), py::arg("index"), py::arg("law"),
        py::arg("scale"), py::arg("out"), py::arg("gradients"), py::arg("workspace"), py::kw_only(),
        py::arg("polynomials") = py::none(), py::arg("stream") = 0);
  m.def("noise_quantiles", &quantiles, py::arg("numbers"), py::arg("law"), py::arg("polynomials"),
        py::kw_only(), py::arg("stream") = 0);
}
