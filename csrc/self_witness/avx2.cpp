// Compiled with -mavx2 -mfma: intrinsics and our own headers only.
#include <immintrin.h>

#include "self_witness/self_witness.h"

namespace logitkit::avx2 {
namespace {

constexpr std::size_t vectors = 3;
constexpr std::size_t lanes = 8 * vectors;

std::size_t prune(const float* tile, std::size_t rows, const float* lane_tails,
                  const float* row_tails, const float* limits, float* worst,
                  std::uint32_t* survivors) {
  __m256 tail_f32x8[vectors], limit_f32x8[vectors], worst_f32x8[vectors];
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) {
    tail_f32x8[v] = _mm256_load_ps(lane_tails + 8 * v);
    limit_f32x8[v] = _mm256_load_ps(limits + 8 * v);
    worst_f32x8[v] = _mm256_load_ps(worst + 8 * v);
  }
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const __m256 row_f32x8 = _mm256_broadcast_ss(row_tails + r);
    __m256 bound_f32x8[vectors], alive = _mm256_setzero_ps();
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v) {
      bound_f32x8[v] =
          _mm256_fmadd_ps(tail_f32x8[v], row_f32x8, _mm256_load_ps(tile + r * lanes + 8 * v));
      // "Not less" is true for NaN: what cannot be compared is not pruned.
      alive = _mm256_or_ps(alive, _mm256_cmp_ps(bound_f32x8[v], limit_f32x8[v], _CMP_NLT_UQ));
    }
    if (_mm256_movemask_ps(alive) != 0) {
      survivors[count++] = static_cast<std::uint32_t>(r);
      continue;
    }
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      worst_f32x8[v] = _mm256_max_ps(bound_f32x8[v], worst_f32x8[v]);
  }
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) _mm256_store_ps(worst + 8 * v, worst_f32x8[v]);
  return count;
}

}  // namespace

const WitnessLoops witness_loops = {prune};

}  // namespace logitkit::avx2
