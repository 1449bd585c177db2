#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "linear_cross_entropy/linear_cross_entropy.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
template <class T>
using Optional = std::optional<Array<T>>;
using Labels = Array<std::int64_t>;

template <class A>
std::size_t length(const A& x, py::ssize_t axis) {
  return static_cast<std::size_t>(x.shape(axis));
}

template <class A>
void check_shape(const A& x, std::initializer_list<std::size_t> shape, const char* name) {
  bool fits = x.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (const std::size_t n : shape) fits = fits && length(x, axis++) == n;
  if (!fits) throw py::value_error(std::string("unexpected shape of ") + name);
}

template <class T>
const T* given(const Optional<T>& x, std::initializer_list<std::size_t> shape, const char* name) {
  if (!x) return nullptr;
  check_shape(*x, shape, name);
  return x->data();
}

template <class T>
T* wanted(Optional<T>& x, std::initializer_list<std::size_t> shape, const char* name) {
  if (!x) return nullptr;
  check_shape(*x, shape, name);
  return x->mutable_data();
}

template <class T>
logitkit::LayerLossInput<T> input_of(const Array<T>& input, const Array<T>& weight,
                                     const Labels& labels, const Optional<T>& bias, T softcap,
                                     const Optional<T>& targets, const Optional<T>& class_weight) {
  if (input.ndim() != 2 || weight.ndim() != 2)
    throw py::value_error("expected input and weight of two dimensions");
  logitkit::LayerLossInput<T> in = {};
  in.rows = length(input, 0);
  in.depth = length(input, 1);
  in.classes = length(weight, 0);
  check_shape(weight, {in.classes, in.depth}, "weight");
  if (in.classes == 0) throw py::value_error("expected at least one row of weight");
  check_shape(labels, {in.rows}, "labels");
  in.input = input.data();
  in.weight = weight.data();
  in.bias = given(bias, {in.classes}, "bias");
  in.softcap = softcap;
  in.labels = labels.data();
  for (std::size_t i = 0; i < in.rows; ++i)
    if (in.labels[i] >= static_cast<std::int64_t>(in.classes))
      throw py::value_error("label " + std::to_string(in.labels[i]) + " of row " +
                            std::to_string(i) + " is not below " + std::to_string(in.classes));
  in.targets = given(targets, {in.rows, in.classes}, "targets");
  in.class_weight = given(class_weight, {in.classes}, "class_weight");
  return in;
}

template <class T>
void define(py::module_& m) {
  m.def(
      "linear_cross_entropy",
      [](const Array<T>& input, const Array<T>& weight, const Labels& labels,
         const Optional<T>& bias, T softcap, const Optional<T>& targets,
         const Optional<T>& class_weight, Optional<double> logsumexp, Optional<double> entropy,
         Optional<double> target, Optional<double> total, Optional<std::int64_t> best,
         std::size_t threads, logitkit::Isa isa) {
        const auto in = input_of<T>(input, weight, labels, bias, softcap, targets, class_weight);
        const logitkit::LayerLossStats stats = {
            wanted(logsumexp, {in.rows}, "logsumexp"), wanted(entropy, {in.rows}, "entropy"),
            wanted(target, {in.rows}, "target"), wanted(total, {in.rows}, "total"),
            wanted(best, {in.rows}, "best")};
        logitkit::without_gil([&] { logitkit::linear_cross_entropy(in, stats, threads, isa); });
      },
      py::arg("input").noconvert(), py::arg("weight").noconvert(), py::arg("labels").noconvert(),
      py::kw_only(), py::arg("bias").noconvert() = py::none(), py::arg("softcap") = 0.0,
      py::arg("targets").noconvert() = py::none(), py::arg("class_weight").noconvert() = py::none(),
      py::arg("logsumexp").noconvert() = py::none(), py::arg("entropy").noconvert() = py::none(),
      py::arg("target").noconvert() = py::none(), py::arg("total").noconvert() = py::none(),
      py::arg("best").noconvert() = py::none(), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
  m.def(
      "linear_cross_entropy_gradient",
      [](const Array<T>& input, const Array<T>& weight, const Labels& labels,
         const Array<double>& base, const Array<double>& slope, const Array<double>& peak,
         const Optional<double>& spread, const Optional<T>& bias, T softcap,
         const Optional<T>& targets, const Optional<T>& class_weight, Optional<double> logsumexp,
         Optional<double> entropy, Optional<double> target, Optional<double> total,
         Optional<std::int64_t> best, Optional<T> grad_input, Optional<T> grad_weight,
         Optional<T> grad_bias, std::size_t threads, logitkit::Isa isa) {
        const auto in = input_of<T>(input, weight, labels, bias, softcap, targets, class_weight);
        for (const Array<double>* factors : {&base, &slope, &peak})
          check_shape(*factors, {in.rows}, "base, slope or peak");
        const logitkit::LayerLossFactors factors = {base.data(), slope.data(), peak.data(),
                                                    given(spread, {in.rows}, "spread")};
        const logitkit::LayerLossStats stats = {
            wanted(logsumexp, {in.rows}, "logsumexp"), wanted(entropy, {in.rows}, "entropy"),
            wanted(target, {in.rows}, "target"), wanted(total, {in.rows}, "total"),
            wanted(best, {in.rows}, "best")};
        const logitkit::LayerLossGradient<T> gradient = {
            wanted(grad_input, {in.rows, in.depth}, "grad_input"),
            wanted(grad_weight, {in.classes, in.depth}, "grad_weight"),
            wanted(grad_bias, {in.classes}, "grad_bias")};
        logitkit::without_gil([&] {
          logitkit::linear_cross_entropy_gradient(in, factors, stats, gradient, threads, isa);
        });
      },
      py::arg("input").noconvert(), py::arg("weight").noconvert(), py::arg("labels").noconvert(),
      py::kw_only(), py::arg("base").noconvert(), py::arg("slope").noconvert(),
      py::arg("peak").noconvert(), py::arg("spread").noconvert() = py::none(),
      py::arg("bias").noconvert() = py::none(), py::arg("softcap") = 0.0,
      py::arg("targets").noconvert() = py::none(), py::arg("class_weight").noconvert() = py::none(),
      py::arg("logsumexp").noconvert() = py::none(), py::arg("entropy").noconvert() = py::none(),
      py::arg("target").noconvert() = py::none(), py::arg("total").noconvert() = py::none(),
      py::arg("best").noconvert() = py::none(), py::arg("grad_input").noconvert() = py::none(),
      py::arg("grad_weight").noconvert() = py::none(),
      py::arg("grad_bias").noconvert() = py::none(), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}

}  // namespace

void bind_linear_cross_entropy(py::module_& m) {
  define<float>(m);
  define<double>(m);
}
