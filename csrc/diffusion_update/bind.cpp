#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "diffusion_update/diffusion_update.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

template <class T>
using DenseArray = py::array_t<T, py::array::c_style>;

// An argument that is not given costs nothing, unlike one of an enumeration.
using OptionalIsa = std::optional<logitkit::Isa>;
logitkit::Isa chosen(OptionalIsa isa) { return isa ? *isa : logitkit::default_isa(); }

template <class Array>
void check_size(const Array& x, py::ssize_t size, const char* name) {
  if (x.size() != size)
    throw py::value_error(std::string(name) + " has " + std::to_string(x.size()) +
                          " elements, not " + std::to_string(size));
}

template <class T>
constexpr logitkit::ByRow<T> nothing = {nullptr, 0};

/// One number for all rows, or one for each.
template <class T>
logitkit::ByRow<T> by_row(const DenseArray<T>& x, py::ssize_t rows, const char* name) {
  if (x.size() == 1) return {x.data(), 0};
  check_size(x, rows, name);
  return {x.data(), 1};
}

template <class T>
void define(py::module_& m) {
  using Array = DenseArray<T>;
  using Ids = DenseArray<std::int64_t>;
  m.def(
      "diffusion_update",
      [](const Array& x, const std::optional<Array>& y, const Array& a, const Array& b,
         const std::optional<Array>& c, T lower, T upper, std::uint64_t seed, std::uint32_t step,
         const Ids& rows, Array& out, std::size_t threads, OptionalIsa isa) {
        if (x.ndim() == 0 || x.size() == 0) throw py::value_error("expected rows in x");
        const py::ssize_t count = x.shape(0);
        check_size(out, x.size(), "out");
        if (y) check_size(*y, x.size(), "y");
        if (c) check_size(rows, count, "rows");
        const logitkit::DiffusionUpdate<T> update = {x.data(),
                                                     y ? y->data() : nullptr,
                                                     by_row(a, count, "a"),
                                                     by_row(b, count, "b"),
                                                     c ? by_row(*c, count, "c") : nothing<T>,
                                                     lower,
                                                     upper};
        const logitkit::Rows of = {seed, step, rows.data(), static_cast<std::size_t>(count)};
        const auto elements = static_cast<std::size_t>(x.size() / count);
        T* to = out.mutable_data();
        const logitkit::Isa with = chosen(isa);
        logitkit::without_gil(
            [&] { logitkit::diffusion_update(update, of, elements, to, threads, with); });
      },
      py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("a").noconvert(),
      py::arg("b").noconvert(), py::arg("c").noconvert(), py::arg("lower"), py::arg("upper"),
      py::arg("seed"), py::arg("step"), py::arg("rows").noconvert(), py::arg("out").noconvert(),
      py::kw_only(), py::arg("threads") = 0, py::arg("isa") = py::none());
}

}  // namespace

void bind_diffusion_update(py::module_& m) {
  define<float>(m);
  define<double>(m);
}
