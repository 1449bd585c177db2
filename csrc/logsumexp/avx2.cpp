// Compiled with -mavx2 -mfma. Templates and inline functions of the standard
// library stay out of this file: the linker might keep the copy compiled here
// and call it on a machine without AVX2.
#include "logsumexp/logsumexp.h"
#include "simd/exp_avx2.h"

namespace logitkit::avx2 {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::size_t step = 8 * lanes;  // what is summed in float before double takes over

// The first n < 8 elements of x and -inf, the neutral element of max and of a sum
// of exponentials, in the other lanes.
inline __m256 load_rest(const float* x, std::size_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i first = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
  return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_huge_valf()), _mm256_maskload_ps(x, first),
                          _mm256_castsi256_ps(first));
}

float max(const float* x, std::size_t n) {
  __m256 max_f32x8 = _mm256_set1_ps(-__builtin_huge_valf());
  std::size_t j = 0;
  for (; j + lanes <= n; j += lanes) max_f32x8 = _mm256_max_ps(max_f32x8, _mm256_loadu_ps(x + j));
  max_f32x8 = _mm256_max_ps(max_f32x8, load_rest(x + j, n - j));
  __m128 max_f32x4 =
      _mm_max_ps(_mm256_castps256_ps128(max_f32x8), _mm256_extractf128_ps(max_f32x8, 1));
  max_f32x4 = _mm_max_ps(max_f32x4, _mm_movehl_ps(max_f32x4, max_f32x4));
  return _mm_cvtss_f32(_mm_max_ss(max_f32x4, _mm_movehdup_ps(max_f32x4)));
}

inline __m256d widen(__m256 sum_f32x8) {
  return _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(sum_f32x8)),
                       _mm256_cvtps_pd(_mm256_extractf128_ps(sum_f32x8, 1)));
}

double sum_exp(const float* x, std::size_t n, float shift) {
  const __m256 shift_f32x8 = _mm256_set1_ps(shift);
  __m256d sum_f64x4 = _mm256_setzero_pd();
  std::size_t j = 0;
  while (j + lanes <= n) {
    const std::size_t end = j + step <= n ? j + step : n - n % lanes;
    __m256 part_f32x8 = _mm256_setzero_ps();
    for (; j < end; j += lanes) {
      const __m256 x_f32x8 = _mm256_loadu_ps(x + j);
      part_f32x8 = _mm256_add_ps(part_f32x8, exp(_mm256_sub_ps(x_f32x8, shift_f32x8)));
    }
    sum_f64x4 = _mm256_add_pd(sum_f64x4, widen(part_f32x8));
  }
  const __m256 rest_f32x8 = exp(_mm256_sub_ps(load_rest(x + j, n - j), shift_f32x8));
  sum_f64x4 = _mm256_add_pd(sum_f64x4, widen(rest_f32x8));
  const __m128d sum_f64x2 =
      _mm_add_pd(_mm256_castpd256_pd128(sum_f64x4), _mm256_extractf128_pd(sum_f64x4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(sum_f64x2, _mm_unpackhi_pd(sum_f64x2, sum_f64x2)));
}

}  // namespace

const LogSumExpLoops logsumexp_loops = {max, sum_exp};

}  // namespace logitkit::avx2
