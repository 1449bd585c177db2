#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "noise_argmax/noise_argmax.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using logitkit::Isa;
using logitkit::NoiseLaw;

/// One of the laws that have a name, or a table, whose memory it holds.
class Law {
 public:
  explicit Law(NoiseLaw law) : law_(law) {}
  Law(double width, double low, double step, double tail_index, const Array<double>& log_cdf,
      const Array<double>& log_ratio)
      : law_(NoiseLaw::tabulated), log_cdf_(log_cdf), log_ratio_(log_ratio) {
    constexpr py::ssize_t terms = logitkit::NoiseTable::terms;
    if (log_cdf.ndim() != 2 || log_cdf.shape(0) == 0 || log_cdf.shape(1) != terms ||
        log_ratio.ndim() != 2 || log_ratio.shape(0) != log_cdf.shape(0) ||
        log_ratio.shape(1) != terms)
      throw py::value_error("expected two tables of " + std::to_string(terms) + " columns");
    const auto cells = static_cast<std::size_t>(log_cdf.shape(0));
    table_ = {width, low, step, tail_index, cells, log_cdf_.data(), log_ratio_.data()};
  }
  logitkit::Noise noise() const { return {law_, law_ == NoiseLaw::tabulated ? &table_ : nullptr}; }

 private:
  NoiseLaw law_;
  Array<double> log_cdf_, log_ratio_;
  logitkit::NoiseTable table_ = {};
};

template <class T>
logitkit::NoisyLogits<T> noisy(const Array<T>& logits, const Law& law, double scale) {
  if (logits.ndim() != 2 || logits.shape(1) == 0)
    throw py::value_error("expected logits of two dimensions, the last one not empty");
  return {logits.data(), static_cast<std::size_t>(logits.shape(0)),
          static_cast<std::size_t>(logits.shape(1)), law.noise(), scale};
}

/// The memory of an array that must hold `size` elements.
template <class A>
auto* memory_of(A& array, std::size_t size, const char* name) {
  if (static_cast<std::size_t>(array.size()) != size)
    throw py::value_error(std::string(name) + " has " + std::to_string(array.size()) +
                          " elements, not " + std::to_string(size));
  return array.mutable_data();
}

template <class T>
void define(py::module_& m) {
  const auto threads = py::arg("threads") = 0;
  const auto isa = py::arg_v("isa", logitkit::default_isa(), "default_isa()");
  const auto logits = py::arg("logits").noconvert();

  const auto define_probabilities = [&](const char* name, bool logarithms) {
    m.def(
        name,
        [logarithms](const Array<T>& logits, const Law& law, double scale, Array<T>& out,
                     std::size_t threads, Isa isa) {
          const auto x = noisy(logits, law, scale);
          T* to = memory_of(out, x.rows * x.classes, "out");
          logitkit::without_gil([&] {
            logitkit::noise_argmax(x, logarithms ? nullptr : to, logarithms ? to : nullptr, threads,
                                   isa);
          });
        },
        logits, py::arg("law"), py::arg("scale"), py::arg("out").noconvert(), py::kw_only(),
        threads, isa);
  };
  define_probabilities("noise_argmax_probs", false);
  define_probabilities("noise_argmax_log_probs", true);

  m.def(
      "noise_argmax_vjp",
      [](const Array<T>& logits, const Array<T>& cotangents, const Law& law, double scale,
         Array<T>& out, std::size_t threads, Isa isa) {
        const auto x = noisy(logits, law, scale);
        if (cotangents.size() != logits.size())
          throw py::value_error("expected as many cotangents as logits");
        const T* from = cotangents.data();
        T* to = memory_of(out, x.rows * x.classes, "out");
        logitkit::without_gil([&] { logitkit::noise_argmax_vjp(x, from, to, threads, isa); });
      },
      logits, py::arg("cotangents").noconvert(), py::arg("law"), py::arg("scale"),
      py::arg("out").noconvert(), py::kw_only(), threads, isa);

  m.def(
      "noise_argmax_expected_max",
      [](const Array<T>& logits, const Law& law, double scale, Array<T>& out, std::size_t threads,
         Isa isa) {
        const auto x = noisy(logits, law, scale);
        T* to = memory_of(out, x.rows, "out");
        logitkit::without_gil([&] { logitkit::noise_argmax_expected_max(x, to, threads, isa); });
      },
      logits, py::arg("law"), py::arg("scale"), py::arg("out").noconvert(), py::kw_only(), threads,
      isa);

  m.def(
      "noise_argmax_log_prob",
      [](const Array<T>& logits, const Array<std::size_t>& index, const Law& law, double scale,
         Array<T>& out, py::object gradients, std::size_t threads, Isa isa) {
        const auto x = noisy(logits, law, scale);
        if (static_cast<std::size_t>(index.size()) != x.rows)
          throw py::value_error("expected one index for each row");
        const std::size_t* of = index.data();
        for (std::size_t row = 0; row < x.rows; ++row)
          if (of[row] >= x.classes) throw py::value_error("index out of range");
        T* to = memory_of(out, x.rows, "out");
        T* gradients_to = nullptr;
        if (!gradients.is_none()) {
          if (!py::isinstance<Array<T>>(gradients))
            throw py::type_error("expected gradients of the type of logits");
          Array<T> array = py::reinterpret_borrow<Array<T>>(gradients);
          gradients_to = memory_of(array, x.rows * x.classes, "gradients");
        }
        logitkit::without_gil(
            [&] { logitkit::noise_argmax_log_prob(x, of, to, gradients_to, threads, isa); });
      },
      logits, py::arg("index").noconvert(), py::arg("law"), py::arg("scale"),
      py::arg("out").noconvert(), py::arg("gradients"), py::kw_only(), threads, isa);
}

}  // namespace

void bind_noise_argmax(py::module_& m) {
  py::class_<Law> law(m, "NoiseLaw");
  law.def(py::init<double, double, double, double, const Array<double>&, const Array<double>&>(),
          py::kw_only(), py::arg("width"), py::arg("low"), py::arg("step"), py::arg("tail_index"),
          py::arg("log_cdf").noconvert(), py::arg("log_ratio").noconvert());
  law.attr("normal") = Law(NoiseLaw::normal);
  law.attr("logistic") = Law(NoiseLaw::logistic);
  law.attr("laplace") = Law(NoiseLaw::laplace);
  law.attr("cauchy") = Law(NoiseLaw::cauchy);
  law.attr("uniform") = Law(NoiseLaw::uniform);
  law.attr("exponential") = Law(NoiseLaw::exponential);
  define<float>(m);
  define<double>(m);
}
