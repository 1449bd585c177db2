#include "diffusion_update/diffusion_update.h"

#include "diffusion_update/loops.h"
#include "random/row_chunks.h"

namespace logitkit {
namespace {

// Results of at least so many bytes are written around the caches, which they would only flush.
constexpr std::size_t large_bytes = std::size_t{8} << 20;

const AllUpdateLoops& update_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
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

}  // namespace

template <class T>
void diffusion_update(const DiffusionUpdate<T>& update, const Rows& rows, std::size_t count, T* out,
                      std::size_t threads, Isa isa) {
  const UpdateLoops<T>& loops = loops_for<T>(update_loops(isa));
  const PhiloxStream stream = philox_stream(rows.seed, rows.step);
  // What is read and written in place is in the cache already.
  const bool in_place = out == update.x || out == update.y;
  const bool large = !in_place && rows.count * count * sizeof(T) >= large_bytes;
  for_each_chunk(rows.count, count, threads, [&](const Chunk& chunk) {
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
    if (c != T{0}) {
      const auto id = static_cast<std::uint64_t>(rows.row_ids[row]);
      loops.update_with_noise(part, {&stream, id, chunk.first, chunk.count});
    } else if (large) {
      loops.update_large(part, chunk.count);
    } else {
      loops.update(part, chunk.count);
    }
  });
}

template void diffusion_update(const DiffusionUpdate<float>&, const Rows&, std::size_t, float*,
                               std::size_t, Isa);
template void diffusion_update(const DiffusionUpdate<double>&, const Rows&, std::size_t, double*,
                               std::size_t, Isa);

}  // namespace logitkit
