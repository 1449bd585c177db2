#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "random/random.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

template <class T>
using DenseArray = py::array_t<T, py::array::c_style>;
using Ids = DenseArray<std::int64_t>;

void check(bool holds, const std::string& expected) {
  if (!holds) throw py::value_error("expected " + expected);
}

logitkit::Rows rows_of(std::uint64_t seed, std::uint32_t step, const Ids& rows) {
  check(rows.ndim() == 1, "rows of one dimension");
  return {seed, step, rows.data(), static_cast<std::size_t>(rows.size())};
}

/// The elements of each row of an array (rows, count).
template <class T>
std::size_t count_of(const DenseArray<T>& x, const logitkit::Rows& rows, const char* name) {
  check(x.ndim() == 2 && static_cast<std::size_t>(x.shape(0)) == rows.count,
        std::string(name) + " of two dimensions, the first one that of rows");
  return static_cast<std::size_t>(x.shape(1));
}

// An argument that is not given costs nothing, unlike one of an enumeration.
using OptionalIsa = std::optional<logitkit::Isa>;
logitkit::Isa chosen(OptionalIsa isa) { return isa ? *isa : logitkit::default_isa(); }

template <class T>
void define_law(py::module_& m, const char* name, logitkit::Law law) {
  m.def(
      name,
      [law](std::uint64_t seed, std::uint32_t step, const Ids& rows, DenseArray<T>& out,
            std::size_t threads, OptionalIsa isa) {
        const logitkit::Rows from = rows_of(seed, step, rows);
        const std::size_t count = count_of(out, from, "out");
        T* to = out.mutable_data();
        const logitkit::Isa with = chosen(isa);
        logitkit::without_gil(
            [&] { logitkit::random_numbers(law, from, count, to, threads, with); });
      },
      py::arg("seed"), py::arg("step"), py::arg("rows").noconvert(), py::arg("out").noconvert(),
      py::kw_only(), py::arg("threads") = 0, py::arg("isa") = py::none());
}

template <class T>
void define(py::module_& m) {
  define_law<T>(m, "random_uniform", logitkit::Law::uniform);
  define_law<T>(m, "random_exponential", logitkit::Law::exponential);
  define_law<T>(m, "random_gumbel", logitkit::Law::gumbel);
  define_law<T>(m, "random_normal", logitkit::Law::normal);
  m.def(
      "gumbel_argmax",
      [](const DenseArray<T>& logits, std::uint64_t seed, std::uint32_t step, const Ids& rows,
         Ids& indices, std::size_t threads, OptionalIsa isa) {
        const logitkit::Rows from = rows_of(seed, step, rows);
        const std::size_t count = count_of(logits, from, "logits");
        check(count > 0, "at least one logit in a row");
        check(indices.size() == rows.size(), "as many indices as rows");
        const T* x = logits.data();
        std::int64_t* to = indices.mutable_data();
        const logitkit::Isa with = chosen(isa);
        logitkit::without_gil([&] { logitkit::gumbel_argmax(x, from, count, to, threads, with); });
      },
      py::arg("logits").noconvert(), py::arg("seed"), py::arg("step"), py::arg("rows").noconvert(),
      py::arg("indices").noconvert(), py::kw_only(), py::arg("threads") = 0,
      py::arg("isa") = py::none());
  m.def(
      "gumbel_top_k",
      [](const DenseArray<T>& logits, std::uint64_t seed, std::uint32_t step, const Ids& rows,
         DenseArray<T>& values, Ids& indices, std::size_t threads, OptionalIsa isa) {
        const logitkit::Rows from = rows_of(seed, step, rows);
        const std::size_t count = count_of(logits, from, "logits");
        const std::size_t k = count_of(values, from, "values");
        check(k == count_of(indices, from, "indices"), "as many indices as values");
        check(k >= 1 && k <= count, "from 1 to all logits of a row");
        const T* x = logits.data();
        T* to_values = values.mutable_data();
        std::int64_t* to_indices = indices.mutable_data();
        const logitkit::Isa with = chosen(isa);
        logitkit::without_gil([&] {
          logitkit::gumbel_top_k(x, from, count, k, to_values, to_indices, threads, with);
        });
      },
      py::arg("logits").noconvert(), py::arg("seed"), py::arg("step"), py::arg("rows").noconvert(),
      py::arg("values").noconvert(), py::arg("indices").noconvert(), py::kw_only(),
      py::arg("threads") = 0, py::arg("isa") = py::none());
}

}  // namespace

void bind_random(py::module_& m) {
  m.def(
      "random_bits",
      [](std::uint64_t seed, std::uint32_t step, const Ids& rows, DenseArray<std::uint64_t>& out,
         std::size_t threads, OptionalIsa isa) {
        const logitkit::Rows from = rows_of(seed, step, rows);
        const std::size_t count = count_of(out, from, "out");
        std::uint64_t* to = out.mutable_data();
        const logitkit::Isa with = chosen(isa);
        logitkit::without_gil([&] { logitkit::random_bits(from, count, to, threads, with); });
      },
      py::arg("seed"), py::arg("step"), py::arg("rows").noconvert(), py::arg("out").noconvert(),
      py::kw_only(), py::arg("threads") = 0, py::arg("isa") = py::none());
  define<float>(m);
  define<double>(m);
}
