// Include only from neon.cpp files: everything here needs 64-bit NEON.
#pragma once

#include <arm_neon.h>

namespace logitkit::neon {
namespace {

/// exp(x) in each of 4 lanes.
///   Error:     1 ulp; exp(0) = 1
///   Range:     0 below -87.3, where the result would soon be denormal
///   Specials:  -inf -> 0, +inf -> +inf, NaN -> NaN
inline float32x4_t exp(float32x4_t x) {
  const float32x4_t lowest = vdupq_n_f32(-87.3f);
  const float32x4_t highest = vdupq_n_f32(0x1.62e42ep+6f);  // the last x with a finite result
  const uint32x4_t too_low = vcltq_f32(x, lowest);
  const uint32x4_t too_high = vcgtq_f32(x, highest);
  x = vminq_f32(vmaxq_f32(x, lowest), highest);  // these keep a NaN

  // x = n ln 2 + r, |r| <= ln(2) / 2. ln 2 is split in two so that r is exact.
  const float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)));
  float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
  r = vfmsq_f32(r, n, vdupq_n_f32(-2.12194440e-4f));

  // exp(r) by the polynomial of degree 6 with the least relative error, 3.1e-9,
  // of those that begin with 1 + r: with another constant exp(0) would not be 1.
  float32x4_t p = vdupq_n_f32(0x1.6a23dp-10f);
  p = vfmaq_f32(vdupq_n_f32(0x1.123a2p-7f), p, r);
  p = vfmaq_f32(vdupq_n_f32(0x1.5558f2p-5f), p, r);
  p = vfmaq_f32(vdupq_n_f32(0x1.555492p-3f), p, r);
  p = vfmaq_f32(vdupq_n_f32(0x1.fffffcp-2f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);

  // p * 2^n by adding n to the exponent of p. The result is finite and normal, so
  // its exponent is valid even where 2^n has none (n = 128). A NaN converts to 0.
  const int32x4_t shift = vshlq_n_s32(vcvtq_s32_f32(n), 23);
  p = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), shift));
  p = vbslq_f32(too_high, vdupq_n_f32(__builtin_huge_valf()), p);
  return vbslq_f32(too_low, vdupq_n_f32(0.0f), p);
}

}  // namespace
}  // namespace logitkit::neon
