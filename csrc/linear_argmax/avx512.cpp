// Compiled with -mavx512f: intrinsics and our own headers only.
#include <immintrin.h>

#include "linear_argmax/linear_argmax.h"

namespace logitkit::avx512 {
namespace {

constexpr std::size_t vectors = 3;
constexpr std::size_t lanes = 16 * vectors;

bool raise(const float* tile, std::size_t rows, const float* bias, std::int32_t first_row,
           float* best, std::int32_t* index) {
  __m512 best_f32x16[vectors];
  __m512i index_i32x16[vectors];
  __mmask16 nan = 0;
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) {
    best_f32x16[v] = _mm512_load_ps(best + 16 * v);
    index_i32x16[v] = _mm512_load_si512(index + 16 * v);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const __m512 bias_f32x16 = _mm512_set1_ps(bias[r]);
    const __m512i row_i32x16 = _mm512_set1_epi32(first_row + static_cast<std::int32_t>(r));
    __m512 score_f32x16[vectors];
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v) {
      score_f32x16[v] = _mm512_add_ps(_mm512_load_ps(tile + r * lanes + 16 * v), bias_f32x16);
      // Ordered: false for a NaN on either side, so a best that is NaN stays.
      const __mmask16 more = _mm512_cmp_ps_mask(score_f32x16[v], best_f32x16[v], _CMP_GT_OQ);
      best_f32x16[v] = _mm512_mask_mov_ps(best_f32x16[v], more, score_f32x16[v]);
      index_i32x16[v] = _mm512_mask_mov_epi32(index_i32x16[v], more, row_i32x16);
    }
    nan = _kor_mask16(nan, _mm512_cmp_ps_mask(score_f32x16[0], score_f32x16[1], _CMP_UNORD_Q));
    nan = _kor_mask16(nan, _mm512_cmp_ps_mask(score_f32x16[2], score_f32x16[2], _CMP_UNORD_Q));
  }
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) {
    _mm512_store_ps(best + 16 * v, best_f32x16[v]);
    _mm512_store_si512(index + 16 * v, index_i32x16[v]);
  }
  return nan != 0;
}

void compare(const float* tile, std::size_t rows, const float* bias, const float* threshold,
             std::uint64_t* above) {
  __m512 threshold_f32x16[vectors];
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v)
    threshold_f32x16[v] = _mm512_load_ps(threshold + 16 * v);
  for (std::size_t r = 0; r < rows; ++r) {
    const __m512 bias_f32x16 = _mm512_set1_ps(bias[r]);
    std::uint64_t bits = 0;
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v) {
      const __m512 score_f32x16 =
          _mm512_add_ps(_mm512_load_ps(tile + r * lanes + 16 * v), bias_f32x16);
      bits |= std::uint64_t{_mm512_cmp_ps_mask(score_f32x16, threshold_f32x16[v], _CMP_NLE_UQ)}
              << (16 * v);
    }
    above[r] = bits;
  }
}

}  // namespace

const ArgmaxLoops argmax_loops = {raise, compare};

}  // namespace logitkit::avx512
