#include <pybind11/pybind11.h>

#include "gemm/score.h"
#include "without_gil.h"

namespace py = pybind11;

void bind_gemm(py::module_& m) {
  m.def(
      "multiply_add",
      [](std::size_t count, logitkit::Isa isa) {
        std::size_t done;
        logitkit::without_gil([&] { done = logitkit::score_loops(isa).multiply_add(count); });
        return done;
      },
      py::arg("count"), py::kw_only(), py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}
