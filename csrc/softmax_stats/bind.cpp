#include <pybind11/pybind11.h>

#include "softmax_stats/softmax_stats.h"
#include "sum_exp/array_layout.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

template <class T>
void define(py::module_& m) {
  using Array = logitkit::DenseArray<T>;
  m.def(
      "softmax_stats",
      [](const Array& x, std::size_t axis, T scale, Array& logsumexp, Array& entropy, Array& max,
         Array& sum_of_squares, std::size_t threads, logitkit::Isa isa) {
        const logitkit::Layout layout = logitkit::layout_of(x, axis);
        const std::size_t items = layout.outer * layout.inner;
        const T* from = x.data();
        const logitkit::SoftmaxStats<T> to = {
            logitkit::output_of(logsumexp, items, "logsumexp"),
            logitkit::output_of(entropy, items, "entropy"), logitkit::output_of(max, items, "max"),
            logitkit::output_of(sum_of_squares, items, "sum_of_squares")};
        logitkit::without_gil(
            [&] { logitkit::softmax_stats(from, layout, scale, to, threads, isa); });
      },
      py::arg("x").noconvert(), py::arg("axis"), py::arg("scale"), py::arg("logsumexp").noconvert(),
      py::arg("entropy").noconvert(), py::arg("max").noconvert(),
      py::arg("sum_of_squares").noconvert(), py::kw_only(), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}

}  // namespace

void bind_softmax_stats(py::module_& m) {
  define<float>(m);
  define<double>(m);
}
