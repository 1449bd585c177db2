#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "diffusion_update/diffusion_update.h"
#include "plain_array.h"
#include "without_gil.h"

namespace py = pybind11;

namespace {

using Doubles = py::array_t<double, py::array::c_style>;
using Ids = py::array_t<std::int64_t, py::array::c_style>;

/// A factor: a number, or an array of one for each row.
struct Factor {
  double number;
  Doubles numbers;  // empty unless there is one for each row

  Factor() : number(0.0), numbers(py::reinterpret_steal<Doubles>(py::handle())) {}

  logitkit::ByRow<double> read(py::handle factor, std::size_t rows) {
    if (PyFloat_Check(factor.ptr()) != 0) {
      number = PyFloat_AS_DOUBLE(factor.ptr());
      return {&number, 0};
    }
    numbers = Doubles::ensure(factor);
    if (!numbers) throw py::error_already_set();
    if (static_cast<std::size_t>(numbers.size()) != rows && numbers.size() != 1)
      throw py::value_error("expected a factor, or one for each sample");
    return {numbers.data(), numbers.size() == 1 ? std::size_t{0} : std::size_t{1}};
  }
};

// Results of fewer numbers take no longer than to give the lock away and to take it back.
constexpr std::size_t small = 4096;

/// The noise of an update: its factor, and which it is.
struct Noise {
  logitkit::ByRow<double> c = {nullptr, 0};
  logitkit::Rows rows = {0, 0, nullptr, 0};
};

template <class T, std::size_t n>
py::object combined(const std::array<logitkit::PlainArray, n>& arrays,
                    const std::array<logitkit::ByRow<double>, n>& factors, std::size_t count,
                    Noise noise, std::size_t threads, std::optional<logitkit::Isa> isa) {
  std::array<logitkit::Term<T>, n> terms;
  for (std::size_t j = 0; j < count; ++j)
    terms[j] = {static_cast<const T*>(arrays[j].data), factors[j]};
  void* data = nullptr;
  py::object out = new_like(arrays[0], data);
  noise.rows.count = static_cast<std::size_t>(arrays[0].shape[0]);
  const std::size_t elements = arrays[0].size / noise.rows.count;
  const logitkit::Isa with = isa ? *isa : logitkit::default_isa();
  const auto run = [&] {
    logitkit::combine(terms.data(), count, noise.c, noise.rows, elements, static_cast<T*>(data),
                      threads, with);
  };
  if (arrays[0].size < small)
    run();
  else
    logitkit::without_gil(run);
  return out;
}

/// None if the memory of the arrays is not all there is to them.
py::object combine_with_noise(const py::tuple& arrays, const py::tuple& factors, py::handle c,
                   std::uint64_t seed, std::uint32_t step, const std::optional<Ids>& ids,
                   std::size_t threads, std::optional<logitkit::Isa> isa) {
  constexpr std::size_t most = logitkit::most_terms;
  const std::size_t count = arrays.size();
  if (count == 0 || count > most || factors.size() != count)
    throw py::value_error("expected from 1 to 8 arrays, and a factor for each");
  std::array<logitkit::PlainArray, most> looked;
  std::array<logitkit::ByRow<double>, most> by;
  std::array<Factor, most> kept;
  for (std::size_t j = 0; j < count; ++j) {
    if (!look_at(arrays[j], looked[j], true)) return py::none();
    const logitkit::PlainArray& first = looked[0];
    if (looked[j].type != first.type || looked[j].is_double != first.is_double ||
        !looked[j].same_shape(first) || first.ndim == 0 || first.size == 0)
      return py::none();
    by[j] = kept[j].read(factors[j], static_cast<std::size_t>(first.shape[0]));
  }
  const auto rows = static_cast<std::size_t>(looked[0].shape[0]);
  Noise noise;
  Factor of_noise;
  if (!c.is_none()) {
    if (!ids || static_cast<std::size_t>(ids->size()) != rows)
      throw py::value_error("expected an id for each row of the noise");
    noise = {of_noise.read(c, rows), {seed, step, ids->data(), rows}};
  }
  const auto make = looked[0].is_double ? combined<double, most> : combined<float, most>;
  return make(looked, by, count, noise, threads, isa);
}

/// The same without noise: each argument that is not given costs time too.
py::object combine(const py::tuple& arrays, const py::tuple& factors) {
  return combine_with_noise(arrays, factors, py::none(), 0, 0, std::nullopt, 0, std::nullopt);
}

/// Whether `value` is plain memory of the type and shape of `x`, without NaN.
bool fits(py::handle value, py::handle x) {
  logitkit::PlainArray a, b;
  if (!look_at(value, a, false) || !look_at(x, b, false)) return false;
  if (a.type != b.type || a.is_double != b.is_double || !a.same_shape(b)) return false;
  const logitkit::Isa isa = logitkit::default_isa();
  return a.is_double ? !logitkit::has_nan(static_cast<const double*>(a.data), a.size, isa)
                     : !logitkit::has_nan(static_cast<const float*>(a.data), a.size, isa);
}

}  // namespace

void bind_combine(py::module_& m) {
  m.def("combine", &combine);
  m.def("combine_with_noise", &combine_with_noise, py::arg("arrays"), py::arg("factors"),
        py::arg("c"), py::arg("seed"), py::arg("step"), py::arg("ids").noconvert(), py::kw_only(),
        py::arg("threads") = 0, py::arg("isa") = py::none());
  m.def("fits", &fits);
}
