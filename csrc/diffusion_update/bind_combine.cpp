#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <numeric>
#include <optional>
#include <vector>

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

/// Whether `out` may be written while `x` is read: it is x, or apart from it.
bool may_share(const logitkit::PlainArray& x, const logitkit::PlainArray& out) {
  const std::size_t bytes = x.size * (x.is_double ? 8 : 4);
  const auto first = reinterpret_cast<std::uintptr_t>(x.data);
  const auto second = reinterpret_cast<std::uintptr_t>(out.data);
  return first == second || first + bytes <= second || second + bytes <= first;
}

/// The numbers of an update.
struct Scalars {
  double a, b, c, lower, upper;
  std::uint64_t seed;
  std::uint32_t step;
};

template <class T>
void update_in(const logitkit::PlainArray& x, const logitkit::PlainArray* y, const Scalars& with,
               void* out) {
  const T a = static_cast<T>(with.a), b = static_cast<T>(with.b), c = static_cast<T>(with.c);
  const bool noisy = c != T{0};
  const auto count = noisy ? static_cast<std::size_t>(x.shape[0]) : std::size_t{1};
  std::vector<std::int64_t> ids(noisy ? count : 0);
  std::iota(ids.begin(), ids.end(), 0);
  const logitkit::DiffusionUpdate<T> update = {
      static_cast<const T*>(x.data),
      y == nullptr ? nullptr : static_cast<const T*>(y->data),
      {&a, 0},
      {&b, 0},
      {noisy ? &c : nullptr, 0},
      static_cast<T>(with.lower),
      static_cast<T>(with.upper)};
  const auto run = [&] {
    logitkit::diffusion_update(update, {with.seed, with.step, ids.data(), count}, x.size / count,
                               static_cast<T*>(out), 0, logitkit::default_isa());
  };
  if (x.size < small)
    run();
  else
    logitkit::without_gil(run);
}

/// a x + b y + c z between bounds, with the same factors for all rows, whose ids are 0, 1, ...
/// None where an argument is not what it should be, or not plain memory: who calls has more to say.
py::object update(py::handle x, py::handle y, py::handle a, py::handle b, py::handle c,
                  std::uint64_t seed, std::uint32_t step, double lower, double upper,
                  py::handle out) {
  logitkit::PlainArray of_x, of_y, of_out;
  const auto like_x = [&](const logitkit::PlainArray& array) {
    return array.type == of_x.type && array.is_double == of_x.is_double && array.same_shape(of_x);
  };
  for (const py::handle factor : {a, b, c})
    if (PyFloat_Check(factor.ptr()) == 0) return py::none();
  if (!(lower <= upper) || !look_at(x, of_x, true) || of_x.ndim == 0 || of_x.size == 0)
    return py::none();
  const bool two = !y.is_none(), given = !out.is_none();
  if (two && (!look_at(y, of_y, true) || !like_x(of_y))) return py::none();
  if (given && (!look_at(out, of_out, true) || !of_out.writeable || !like_x(of_out) ||
                !may_share(of_x, of_out) || (two && !may_share(of_y, of_out))))
    return py::none();
  void* data = const_cast<void*>(of_out.data);
  py::object result = given ? py::reinterpret_borrow<py::object>(out) : new_like(of_x, data);
  const Scalars with = {PyFloat_AS_DOUBLE(a.ptr()),
                        PyFloat_AS_DOUBLE(b.ptr()),
                        PyFloat_AS_DOUBLE(c.ptr()),
                        lower,
                        upper,
                        seed,
                        step};
  const auto run = of_x.is_double ? update_in<double> : update_in<float>;
  run(of_x, two ? &of_y : nullptr, with, data);
  return result;
}

bool has_nan_in(const logitkit::PlainArray& x, logitkit::Isa isa) {
  return x.is_double ? logitkit::has_nan(static_cast<const double*>(x.data), x.size, isa)
                     : logitkit::has_nan(static_cast<const float*>(x.data), x.size, isa);
}

/// Whether `value` is plain memory of the type and shape of `x`, without NaN.
bool fits(py::handle value, py::handle x) {
  logitkit::PlainArray a, b;
  if (!look_at(value, a, false) || !look_at(x, b, false)) return false;
  if (a.type != b.type || a.is_double != b.is_double || !a.same_shape(b)) return false;
  return !has_nan_in(a, logitkit::default_isa());
}

bool has_nan(py::handle x, std::optional<logitkit::Isa> isa) {
  logitkit::PlainArray array;
  if (!look_at(x, array, false)) throw py::type_error("expected plain memory");
  return has_nan_in(array, isa ? *isa : logitkit::default_isa());
}

}  // namespace

void bind_combine(py::module_& m) {
  m.def("combine", &combine);
  m.def("combine_with_noise", &combine_with_noise, py::arg("arrays"), py::arg("factors"),
        py::arg("c"), py::arg("seed"), py::arg("step"), py::arg("ids").noconvert(), py::kw_only(),
        py::arg("threads") = 0, py::arg("isa") = py::none());
  m.def("update", &update);
  m.def("fits", &fits);
  m.def("has_nan", &has_nan, py::arg("x"), py::kw_only(), py::arg("isa") = py::none());
}
