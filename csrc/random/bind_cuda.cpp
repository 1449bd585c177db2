#include <algorithm>
#include <optional>

#include "cuda/device_array.h"
#include "random/random_cuda.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::DeviceArray;
using logitkit::cuda::RandomLaw;

/// A seed, a step, and the ids of rows, if they are not 0, 1, ...
struct Draws {
  Draws(std::uint64_t seed, std::uint32_t step, const py::object& row_ids)
      : seed(seed), step(step) {
    if (!row_ids.is_none()) rows.emplace(row_ids, "rows");
  }
  logitkit::cuda::Rows of(const DeviceArray& x) const {
    return {seed, step, rows ? rows->data<std::int64_t>() : nullptr, x.shape(0)};
  }
  /// The elements of each row of an array (rows, ...).
  std::size_t count_of(const DeviceArray& x) const {
    if (x.ndim() == 0) x.fail("has no axis of rows");
    if (rows) rows->expect({static_cast<std::int64_t>(x.shape(0))});
    const std::size_t count = x.size() / std::max<std::size_t>(1, x.shape(0));
    constexpr std::size_t most_blocks = (std::size_t{1} << 31) - 1, least_chunk = 512;
    if (x.shape(0) * ((count + least_chunk - 1) / least_chunk) > most_blocks)
      x.fail("has too many elements for one call");
    if (count >> 32 != 0) x.fail("has rows of 2^32 elements or more");
    return count;
  }

  std::uint64_t seed;
  std::uint32_t step;
  std::optional<DeviceArray> rows;
};

/// The memory of an array of bytes.
void* memory_for(const DeviceArray& workspace, std::size_t bytes) {
  if (workspace.size() < bytes) workspace.fail("is too small");
  return workspace.data<std::uint8_t>();
}

void random_bits(const py::object& to, std::uint64_t seed, std::uint32_t step,
                 const py::object& rows, std::uintptr_t stream) {
  const Draws draws(seed, step, rows);
  const DeviceArray out(to, "out");
  const std::size_t count = draws.count_of(out);
  logitkit::cuda::on_device(out.device(), [&] {
    return logitkit::cuda::random_bits(draws.of(out), count, out.data<std::uint64_t>(),
                                       logitkit::cuda::as_stream(stream));
  });
}

void define_law(py::module_& m, const char* name, RandomLaw law) {
  m.def(
      name,
      [law](const py::object& to, std::uint64_t seed, std::uint32_t step, const py::object& rows,
            std::uintptr_t stream) {
        const Draws draws(seed, step, rows);
        const DeviceArray out(to, "out");
        const std::size_t count = draws.count_of(out);
        const auto fill = [&](auto* numbers) {
          logitkit::cuda::on_device(out.device(), [&] {
            return logitkit::cuda::random_numbers(law, draws.of(out), count, numbers,
                                                  logitkit::cuda::as_stream(stream));
          });
        };
        if (out.holds<float>()) return fill(out.data<float>());
        if (out.holds<double>()) return fill(out.data<double>());
        out.fail("does not hold float32 or float64");
      },
      py::arg("out"), py::arg("seed"), py::arg("step"), py::arg("rows"), py::kw_only(),
      py::arg("stream") = 0);
}

void gumbel_argmax(const py::object& from, std::uint64_t seed, std::uint32_t step,
                   const py::object& rows, const py::object& to, const py::object& memory,
                   std::uintptr_t stream) {
  const DeviceArray logits(from, "logits"), indices(to, "indices"), workspace(memory, "workspace");
  const Draws draws(seed, step, rows);
  const std::size_t count = draws.count_of(logits);
  if (count == 0) logits.fail("has rows without logits");
  indices.expect({static_cast<std::int64_t>(logits.shape(0))});
  with_element(logits, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    void* bytes =
        memory_for(workspace, logitkit::cuda::gumbel_workspace<S>(logits.shape(0), count, 1));
    logitkit::cuda::on_device(logits.device(), [&] {
      return logitkit::cuda::gumbel_argmax(logits.data<S>(), draws.of(logits), count,
                                           indices.data<std::int64_t>(), bytes,
                                           logitkit::cuda::as_stream(stream));
    });
  });
}

void gumbel_top_k(const py::object& from, std::uint64_t seed, std::uint32_t step,
                  const py::object& rows, const py::object& to_values, const py::object& to_indices,
                  const py::object& memory, std::uintptr_t stream) {
  const DeviceArray logits(from, "logits"), values(to_values, "values");
  const DeviceArray indices(to_indices, "indices"), workspace(memory, "workspace");
  const Draws draws(seed, step, rows);
  const std::size_t count = draws.count_of(logits), k = draws.count_of(values);
  if (k != draws.count_of(indices)) indices.fail("has another shape than values");
  if (k < 1 || k > count) values.fail("asks for none, or for more than there are logits in a row");
  with_element(logits, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    void* bytes =
        memory_for(workspace, logitkit::cuda::gumbel_workspace<S>(logits.shape(0), count, k));
    logitkit::cuda::on_device(logits.device(), [&] {
      return logitkit::cuda::gumbel_top_k(
          logits.data<S>(), draws.of(logits), count, k, values.data<logitkit::cuda::Compute<S>>(),
          indices.data<std::int64_t>(), bytes, logitkit::cuda::as_stream(stream));
    });
  });
}

}  // namespace

void bind_random(py::module_& m) {
  m.def("random_bits", &random_bits, py::arg("out"), py::arg("seed"), py::arg("step"),
        py::arg("rows"), py::kw_only(), py::arg("stream") = 0);
  define_law(m, "random_uniform", RandomLaw::uniform);
  define_law(m, "random_exponential", RandomLaw::exponential);
  define_law(m, "random_gumbel", RandomLaw::gumbel);
  define_law(m, "random_normal", RandomLaw::normal);
  m.def("gumbel_workspace", &logitkit::cuda::gumbel_workspace<double>, py::arg("rows"),
        py::arg("count"), py::arg("k"));
  m.def("gumbel_argmax", &gumbel_argmax, py::arg("logits"), py::arg("seed"), py::arg("step"),
        py::arg("rows"), py::arg("indices"), py::arg("workspace"), py::kw_only(),
        py::arg("stream") = 0);
  m.def("gumbel_top_k", &gumbel_top_k, py::arg("logits"), py::arg("seed"), py::arg("step"),
        py::arg("rows"), py::arg("values"), py::arg("indices"), py::arg("workspace"), py::kw_only(),
        py::arg("stream") = 0);
}
