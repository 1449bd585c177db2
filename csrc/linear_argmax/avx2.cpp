// Compiled with -mavx2 -mfma: intrinsics and our own headers only.
#include <immintrin.h>

#include "linear_argmax/linear_argmax.h"

namespace logitkit::avx2 {
namespace {

constexpr std::size_t vectors = 3;
constexpr std::size_t lanes = 8 * vectors;

bool raise(const float* tile, std::size_t rows, const float* bias, std::int32_t first_row,
           float* best, std::int32_t* index) {
  __m256 best_f32x8[vectors], index_f32x8[vectors];  // the indices' bits, to blend them alike
  __m256 nan = _mm256_setzero_ps();
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) {
    best_f32x8[v] = _mm256_load_ps(best + 8 * v);
    index_f32x8[v] =
        _mm256_castsi256_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(index + 8 * v)));
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const __m256 bias_f32x8 = _mm256_broadcast_ss(bias + r);
    const __m256 row_f32x8 =
        _mm256_castsi256_ps(_mm256_set1_epi32(first_row + static_cast<std::int32_t>(r)));
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v) {
      const __m256 score_f32x8 =
          _mm256_add_ps(_mm256_load_ps(tile + r * lanes + 8 * v), bias_f32x8);
      // Ordered: false for a NaN on either side, so a best that is NaN stays.
      const __m256 more = _mm256_cmp_ps(score_f32x8, best_f32x8[v], _CMP_GT_OQ);
      best_f32x8[v] = _mm256_blendv_ps(best_f32x8[v], score_f32x8, more);
      index_f32x8[v] = _mm256_blendv_ps(index_f32x8[v], row_f32x8, more);
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(score_f32x8, score_f32x8, _CMP_UNORD_Q));
    }
  }
#pragma GCC unroll 3
  for (std::size_t v = 0; v < vectors; ++v) {
    _mm256_store_ps(best + 8 * v, best_f32x8[v]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(index + 8 * v),
                       _mm256_castps_si256(index_f32x8[v]));
  }
  return _mm256_movemask_ps(nan) != 0;
}

void compare(const float* tile, std::size_t rows, const float* bias, const float* threshold,
             std::uint64_t* above) {
  for (std::size_t r = 0; r < rows; ++r) {
    const __m256 bias_f32x8 = _mm256_broadcast_ss(bias + r);
    std::uint64_t bits = 0;
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v) {
      const __m256 score_f32x8 =
          _mm256_add_ps(_mm256_load_ps(tile + r * lanes + 8 * v), bias_f32x8);
      const __m256 more =
          _mm256_cmp_ps(score_f32x8, _mm256_load_ps(threshold + 8 * v), _CMP_NLE_UQ);
      bits |= static_cast<std::uint64_t>(_mm256_movemask_ps(more)) << (8 * v);
    }
    above[r] = bits;
  }
}

}  // namespace

const ArgmaxLoops argmax_loops = {raise, compare};

}  // namespace logitkit::avx2
