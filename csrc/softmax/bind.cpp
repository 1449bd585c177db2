#include <pybind11/pybind11.h>

#include "softmax/softmax.h"
#include "sum_exp/array_layout.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

using logitkit::DenseArray;
template <class T>
using Kernel = void (*)(const T*, const logitkit::Layout&, T*, std::size_t, logitkit::Isa);

template <class T>
void define(py::module_& m, const char* name, Kernel<T> kernel) {
  m.def(
      name,
      [kernel](const DenseArray<T>& x, std::size_t axis, DenseArray<T>& out, std::size_t threads,
               logitkit::Isa isa) {
        const logitkit::Layout layout = logitkit::layout_of(x, axis);
        const T* from = x.data();
        T* to = logitkit::output_of(out, static_cast<std::size_t>(x.size()), "out");
        logitkit::without_gil([&] { kernel(from, layout, to, threads, isa); });
      },
      py::arg("x").noconvert(), py::arg("axis"), py::arg("out").noconvert(), py::kw_only(),
      py::arg("threads") = 0, py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}

}  // namespace

void bind_softmax(py::module_& m) {
  define<float>(m, "softmax", logitkit::softmax);
  define<double>(m, "softmax", logitkit::softmax);
  define<float>(m, "log_softmax", logitkit::log_softmax);
  define<double>(m, "log_softmax", logitkit::log_softmax);
}
