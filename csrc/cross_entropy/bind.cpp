#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "cross_entropy/cross_entropy.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
template <class T>
using Optional = std::optional<Array<T>>;

void check(bool fits, const char* name) {
  if (!fits) throw py::value_error(std::string("unexpected shape of ") + name);
}

template <class T>
bool is_matrix(const Array<T>& x, py::ssize_t rows, py::ssize_t columns) {
  return x.ndim() == 2 && x.shape(0) == rows && x.shape(1) == columns;
}

template <class T>
bool is_vector(const Array<T>& x, py::ssize_t size) {
  return x.ndim() == 1 && x.shape(0) == size;
}

template <class T>
void define(py::module_& m) {
  m.def(
      "cross_entropy",
      [](const Array<T>& logits, const Array<std::int64_t>& labels, Array<double>& values,
         const Optional<T>& targets, const Optional<T>& class_weight, double smoothing,
         double z_loss, Optional<double> logsumexp, Optional<T> gradient, std::size_t threads,
         logitkit::Isa isa) {
        check(logits.ndim() == 2, "logits");
        const auto rows = logits.shape(0), classes = logits.shape(1);
        check(is_vector(labels, rows), "labels");
        check(is_vector(values, rows), "values");
        check(!targets || is_matrix(*targets, rows, classes), "targets");
        check(!class_weight || is_vector(*class_weight, classes), "class_weight");
        check(!logsumexp || is_vector(*logsumexp, rows), "logsumexp");
        check(!gradient || is_matrix(*gradient, rows, classes), "gradient");
        for (py::ssize_t i = 0; i < rows; ++i)
          if (labels.data()[i] >= classes && !targets)
            throw py::value_error("label " + std::to_string(labels.data()[i]) + " of row " +
                                  std::to_string(i) + " is not below " + std::to_string(classes));
        const logitkit::CrossEntropyInput<T> in = {logits.data(),
                                                   static_cast<std::size_t>(rows),
                                                   static_cast<std::size_t>(classes),
                                                   labels.data(),
                                                   targets ? targets->data() : nullptr,
                                                   class_weight ? class_weight->data() : nullptr,
                                                   smoothing,
                                                   z_loss};
        const logitkit::CrossEntropyOutput<T> to = {values.mutable_data(),
                                                    logsumexp ? logsumexp->mutable_data() : nullptr,
                                                    gradient ? gradient->mutable_data() : nullptr};
        logitkit::without_gil([&] { logitkit::cross_entropy(in, to, threads, isa); });
      },
      py::arg("logits").noconvert(), py::arg("labels").noconvert(), py::arg("values").noconvert(),
      py::kw_only(), py::arg("targets").noconvert() = py::none(),
      py::arg("class_weight").noconvert() = py::none(), py::arg("smoothing") = 0.0,
      py::arg("z_loss") = 0.0, py::arg("logsumexp").noconvert() = py::none(),
      py::arg("gradient").noconvert() = py::none(), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}

}  // namespace

void bind_cross_entropy(py::module_& m) {
  define<float>(m);
  define<double>(m);
}
