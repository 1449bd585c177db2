// Include only from avx2.cpp files: everything here needs AVX2 and FMA.
#pragma once

#include <immintrin.h>

namespace logitkit::avx2 {
namespace {

/// exp(x) in each of 8 lanes.
///   Error:     1 ulp; exp(0) = 1
///   Range:     0 below -87.3, where the result would soon be denormal
///   Specials:  -inf -> 0, +inf -> +inf, NaN -> NaN
inline __m256 exp(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(-87.3f);
  const __m256 highest = _mm256_set1_ps(0x1.62e42ep+6f);        // the last x with a finite result
  const __m256 normal = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);  // so is a NaN
  const __m256 too_high = _mm256_cmp_ps(x, highest, _CMP_GT_OQ);
  // x stands second on purpose: max and min return their second operand if
  // either one is a NaN.
  x = _mm256_max_ps(lowest, x);
  x = _mm256_min_ps(highest, x);

  // x = n ln 2 + r, |r| <= ln(2) / 2. ln 2 is split in two so that r is exact.
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);

  // exp(r) by the polynomial of degree 6 with the least relative error, 3.1e-9,
  // of those that begin with 1 + r: with another constant exp(0) would not be 1.
  __m256 p = _mm256_set1_ps(0x1.6a23dp-10f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123a2p-7f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));

  // p * 2^n by adding n to the exponent of p. The result is finite and normal, so
  // its exponent is valid even where 2^n has none (n = 128). A NaN converts to
  // INT_MIN, whose shift is 0.
  const __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shift));
  p = _mm256_blendv_ps(p, _mm256_set1_ps(__builtin_huge_valf()), too_high);
  return _mm256_and_ps(p, normal);
}

}  // namespace
}  // namespace logitkit::avx2
