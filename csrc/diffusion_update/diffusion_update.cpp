#include "diffusion_update/diffusion_update.h"

#include <limits>

#include "diffusion_update/loops.h"
#include "random/row_chunks.h"

namespace logitkit {
namespace {

// Results of at least so many bytes are written around the caches, which they would only flush.
constexpr std::size_t large_bytes = std::size_t{8} << 20;
// From so much work on others help: to wake them takes some 20 microseconds, in which one thread
// writes half a megabyte, or draws 16 thousand numbers.
constexpr std::size_t shared_bytes = std::size_t{4} << 20;
constexpr std::size_t shared_draws = std::size_t{1} << 16;

std::size_t useful_threads(std::size_t threads, std::size_t bytes, std::size_t draws) {
  return bytes < shared_bytes && draws < shared_draws ? 1 : threads;
}

const AllUpdateLoops& update_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::update_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::update_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::update_loops;
#endif
    default: return scalar::update_loops;
  }
}

/// The stream of noise, and the ids of its rows.
struct NoiseOf {
  PhiloxStream stream;
  const std::int64_t* row_ids;
};

/// One pass over a chunk of a row.
template <class T>
void take(const UpdateLoops<T>& loops, const UpdateRow<T>& part, bool large, const NoiseOf& noise,
          const Chunk& chunk) {
  if (part.c != T{0}) {
    const auto id = static_cast<std::uint64_t>(noise.row_ids[chunk.row]);
    loops.update_with_noise(part, {&noise.stream, id, chunk.first, chunk.count});
  } else if (large) {
    loops.update_large(part, chunk.count);
  } else {
    loops.update(part, chunk.count);
  }
}

}  // namespace

template <class T>
void diffusion_update(const DiffusionUpdate<T>& update, const Rows& rows, std::size_t count, T* out,
                      std::size_t threads, Isa isa) {
  const UpdateLoops<T>& loops = loops_for<T>(update_loops(isa));
  const NoiseOf noise = {philox_stream(rows.seed, rows.step), rows.row_ids};
  // What is read and written in place is in the cache already.
  const bool in_place = out == update.x || out == update.y;
  const std::size_t size = rows.count * count;
  const bool large = !in_place && size * sizeof(T) >= large_bytes;
  threads = useful_threads(threads, size * sizeof(T), update.c.first != nullptr ? size : 0);
  const bool alike = update.a.step == 0 && update.b.step == 0 && update.c.first == nullptr;
  const std::size_t n = alike ? 1 : rows.count;  // one row, if nothing tells them apart
  count = size / n;
  for_each_chunk(n, count, threads, [&](const Chunk& chunk) {
    const std::size_t row = chunk.row, offset = row * count + chunk.first;
    const bool two = update.y != nullptr;
    const T c = update.c.first != nullptr ? update.c[row] : T{0};
    const UpdateRow<T> part = {update.x + offset,
                               two ? update.y + offset : nullptr,
                               update.a[row],
                               two ? update.b[row] : T{0},
                               c,
                               update.lower,
                               update.upper,
                               out + offset};
    take(loops, part, large, noise, chunk);
  });
}

template <class T>
void combine(const Term<T>* terms, std::size_t term_count, ByRow<double> c, const Rows& rows,
             std::size_t count, T* out, std::size_t threads, Isa isa) {
  const UpdateLoops<T>& loops = loops_for<T>(update_loops(isa));
  const NoiseOf noise = {philox_stream(rows.seed, rows.step), rows.row_ids};
  constexpr T unbounded = std::numeric_limits<T>::infinity();
  const std::size_t size = rows.count * count;
  const bool large = term_count <= 2 && size * sizeof(T) >= large_bytes;
  threads = useful_threads(threads, size * sizeof(T), c.first != nullptr ? size : 0);
  bool alike = c.first == nullptr;
  for (std::size_t j = 0; j < term_count; ++j) alike = alike && terms[j].factor.step == 0;
  const std::size_t n = alike ? 1 : rows.count;
  count = size / n;
  for_each_chunk(n, count, threads, [&](const Chunk& chunk) {
    const std::size_t row = chunk.row, offset = row * count + chunk.first;
    const auto factor = [&](std::size_t j) { return static_cast<T>(terms[j].factor[row]); };
    UpdateRow<T> part = {terms[0].x + offset, nullptr,   factor(0),   T{0}, T{0},
                         -unbounded,          unbounded, out + offset};
    // Pass after pass over a chunk, which stays in the cache: a x + b y, then 1 out + c z, ...
    std::size_t next = 1;
    do {
      const bool two = next < term_count;
      part.y = two ? terms[next].x + offset : nullptr;
      part.b = two ? factor(next) : T{0};
      const bool last = ++next >= term_count;
      part.c = last && c.first != nullptr ? static_cast<T>(c[row]) : T{0};
      take(loops, part, large, noise, chunk);
      part.x = part.out;
      part.a = T{1};
    } while (next < term_count);
  });
}

template <class T>
bool has_nan(const T* x, std::size_t count, Isa isa) {
  return loops_for<T>(update_loops(isa)).has_nan(x, count);
}

template void combine(const Term<float>*, std::size_t, ByRow<double>, const Rows&, std::size_t,
                      float*, std::size_t, Isa);
template void combine(const Term<double>*, std::size_t, ByRow<double>, const Rows&, std::size_t,
                      double*, std::size_t, Isa);
template bool has_nan(const float*, std::size_t, Isa);
template bool has_nan(const double*, std::size_t, Isa);
template void diffusion_update(const DiffusionUpdate<float>&, const Rows&, std::size_t, float*,
                               std::size_t, Isa);
template void diffusion_update(const DiffusionUpdate<double>&, const Rows&, std::size_t, double*,
                               std::size_t, Isa);

}  // namespace logitkit
