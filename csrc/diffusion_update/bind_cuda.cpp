#include "cuda/device_array.h"
#include "diffusion_update/diffusion_update_cuda.h"

#include <optional>

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

/// One number for all rows, or one for each; nothing where there is no array.
template <class T>
ByRow<T> by_row(const std::optional<DeviceArray>& x, std::size_t rows) {
  if (!x) return {nullptr, 0};
  if (x->size() != 1 && x->size() != rows) x->fail("has neither one element nor one for each row");
  return {x->data<T>(), x->size() == 1 ? std::size_t{0} : std::size_t{1}};
}

void diffusion_update(const py::object& given_x, const py::object& given_y,
                      const py::object& given_a, const py::object& given_b,
                      const py::object& given_c, double lower, double upper, std::uint64_t seed,
                      std::uint32_t step, const py::object& given_rows, const py::object& given_out,
                      std::uintptr_t stream) {
  const DeviceArray x(given_x, "x"), out(given_out, "out");
  const auto y = given(given_y, "y"), a = given(given_a, "a"), b = given(given_b, "b");
  const auto c = given(given_c, "c"), rows = given(given_rows, "rows");
  x.expect({-1, -1});
  const std::size_t count = x.shape(0), elements = x.shape(1);
  const auto same = {static_cast<std::int64_t>(count), static_cast<std::int64_t>(elements)};
  out.expect(same);
  if (y) y->expect(same);
  if (!a || (y && !b)) x.fail("comes without its coefficients");
  if (c && !rows) x.fail("comes with noise, but without rows");
  if (c) rows->expect({static_cast<std::int64_t>(count)});
  constexpr std::size_t most_blocks = (std::size_t{1} << 31) - 1, least_chunk = 512;
  if (count * ((elements + least_chunk - 1) / least_chunk) > most_blocks || elements >> 32 != 0)
    x.fail("has too many elements for one call");
  with_element(x, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    using T = Compute<S>;
    const logitkit::cuda::DiffusionUpdate<S> update = {x.data<S>(),
                                                       y ? y->data<S>() : nullptr,
                                                       by_row<T>(a, count),
                                                       by_row<T>(b, count),
                                                       by_row<T>(c, count),
                                                       static_cast<T>(lower),
                                                       static_cast<T>(upper)};
    const logitkit::cuda::Rows of = {seed, step, c ? rows->data<std::int64_t>() : nullptr, count};
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
