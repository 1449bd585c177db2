// Compiled with -mavx512f: intrinsics and our own headers only.
#include <immintrin.h>

#include "self_witness/self_witness.h"

namespace logitkit::avx512 {
namespace {

constexpr std::size_t vectors = 3;
constexpr std::size_t lanes = 16 * vectors;

std::size_t prune(const float* tile, std::size_t rows, const float* lane_tails,
                  const float* row_tails, const float* limits, float* worst,
                  std::uint32_t* survivors) {
  __m512 tail_f32x16[vectors], limit_f32x16[vectors], worst_f32x16[vectors];
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) {
    tail_f32x16[v] = _mm512_load_ps(lane_tails + 16 * v);
    limit_f32x16[v] = _mm512_load_ps(limits + 16 * v);
    worst_f32x16[v] = _mm512_load_ps(worst + 16 * v);
  }
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const __m512 row_f32x16 = _mm512_set1_ps(row_tails[r]);
    __m512 bound_f32x16[vectors];
    __mmask16 alive = 0;
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v) {
      bound_f32x16[v] =
          _mm512_fmadd_ps(tail_f32x16[v], row_f32x16, _mm512_load_ps(tile + r * lanes + 16 * v));
      // "Not less" is true for NaN: what cannot be compared is not pruned.
      alive = _kor_mask16(alive, _mm512_cmp_ps_mask(bound_f32x16[v], limit_f32x16[v], _CMP_NLT_UQ));
    }
    if (alive != 0) {
      survivors[count++] = static_cast<std::uint32_t>(r);
      continue;
    }
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      worst_f32x16[v] = _mm512_max_ps(bound_f32x16[v], worst_f32x16[v]);
  }
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) _mm512_store_ps(worst + 16 * v, worst_f32x16[v]);
  return count;
}

}  // namespace

const WitnessLoops witness_loops = {prune};

}  // namespace logitkit::avx512
