#include <algorithm>
#include <optional>

#include "cuda/device_array.h"
#include "diffusion_update/diffusion_update_cuda.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::ByRow;
using logitkit::cuda::Compute;
using logitkit::cuda::DeviceArray;

/// An array, if there is one.
std::optional<DeviceArray> given(const py::object& array, const char* name) {
  if (array.is_none()) return std::nullopt;
  return DeviceArray(array, name);
}

/// A number for all rows, or an array of one for each.
class Coefficient {
 public:
  Coefficient(const py::object& given, const char* name, std::size_t rows) {
    if (py::isinstance<py::float_>(given) || py::isinstance<py::int_>(given)) {
      of_all_ = given.cast<double>();
    } else {
      of_row_.emplace(given, name);
      of_row_->expect({static_cast<std::int64_t>(rows)});
    }
  }
  template <class T>
  ByRow<T> as() const {
    return {of_row_ ? of_row_->data<T>() : nullptr, static_cast<T>(of_all_)};
  }

 private:
  std::optional<DeviceArray> of_row_;
  double of_all_ = 0.0;
};

void diffusion_update(const py::object& given_x, const py::object& given_y,
                      const py::object& given_a, const py::object& given_b,
                      const py::object& given_c, double lower, double upper, std::uint64_t seed,
                      std::uint32_t step, const py::object& given_rows, const py::object& given_out,
                      std::uintptr_t stream) {
  const DeviceArray x(given_x, "x"), out(given_out, "out");
  const auto y = given(given_y, "y"), rows = given(given_rows, "rows");
  if (x.ndim() == 0) x.fail("has no axis of samples");
  const std::size_t count = x.shape(0), elements = x.size() / std::max<std::size_t>(1, count);
  if (out.size() != x.size()) out.fail("has another size than x");
  if (y && y->size() != x.size()) y->fail("has another size than x");
  if (rows) rows->expect({static_cast<std::int64_t>(count)});
  const Coefficient a(given_a, "a", count), b(given_b, "b", count), c(given_c, "c", count);
  constexpr std::size_t most_blocks = (std::size_t{1} << 31) - 1, least_chunk = 512;
  if (count * ((elements + least_chunk - 1) / least_chunk) > most_blocks || elements >> 32 != 0)
    x.fail("has too many elements for one call");
  with_element(x, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    using T = Compute<S>;
    const logitkit::cuda::DiffusionUpdate<S> update = {
        x.data<S>(),           y ? y->data<S>() : nullptr, a.as<T>(), b.as<T>(), c.as<T>(),
        static_cast<T>(lower), static_cast<T>(upper)};
    const logitkit::cuda::Rows of = {seed, step, rows ? rows->data<std::int64_t>() : nullptr,
                                     count};
    logitkit::cuda::on_device(x.device(), [&] {
      return logitkit::cuda::diffusion_update(update, of, elements, out.data<S>(),
                                              logitkit::cuda::as_stream(stream));
    });
  });
}

}  // namespace

void bind_diffusion_update(py::module_& m) {
  m.def("diffusion_update", &diffusion_update, py::arg("x"), py::arg("y"), py::arg("a"),
        py::arg("b"), py::arg("c"), py::arg("lower"), py::arg("upper"), py::arg("seed"),
        py::arg("step"), py::arg("rows"), py::arg("out"), py::kw_only(), py::arg("stream") = 0);
}
