// For 64-bit Arm. Intrinsics and our own headers only, as in avx2.cpp and avx512.cpp.
#include "logsumexp/logsumexp.h"
#include "simd/exp_neon.h"

namespace logitkit::neon {
namespace {

constexpr std::size_t lanes = 4;
constexpr std::size_t step = 8 * lanes;  // what is summed in float before double takes over

// The first n < 4 elements of x and -inf, the neutral element of max and of a sum
// of exponentials, in the other lanes. NEON has no masked load.
inline float32x4_t load_rest(const float* x, std::size_t n) {
  const float infinity = __builtin_huge_valf();
  float lane[lanes] = {-infinity, -infinity, -infinity, -infinity};
  for (std::size_t j = 0; j < n; ++j) lane[j] = x[j];
  return vld1q_f32(lane);
}

float max(const float* x, std::size_t n) {
  float32x4_t max_f32x4 = vdupq_n_f32(-__builtin_huge_valf());
  std::size_t j = 0;
  for (; j + lanes <= n; j += lanes) max_f32x4 = vmaxq_f32(max_f32x4, vld1q_f32(x + j));
  return vmaxvq_f32(vmaxq_f32(max_f32x4, load_rest(x + j, n - j)));
}

inline float64x2_t widen(float32x4_t sum_f32x4) {
  return vaddq_f64(vcvt_f64_f32(vget_low_f32(sum_f32x4)), vcvt_high_f64_f32(sum_f32x4));
}

double sum_exp(const float* x, std::size_t n, float shift) {
  const float32x4_t shift_f32x4 = vdupq_n_f32(shift);
  float64x2_t sum_f64x2 = vdupq_n_f64(0.0);
  std::size_t j = 0;
  while (j + lanes <= n) {
    const std::size_t end = j + step <= n ? j + step : n - n % lanes;
    float32x4_t part_f32x4 = vdupq_n_f32(0.0f);
    for (; j < end; j += lanes) {
      const float32x4_t x_f32x4 = vld1q_f32(x + j);
      part_f32x4 = vaddq_f32(part_f32x4, exp(vsubq_f32(x_f32x4, shift_f32x4)));
    }
    sum_f64x2 = vaddq_f64(sum_f64x2, widen(part_f32x4));
  }
  const float32x4_t rest_f32x4 = exp(vsubq_f32(load_rest(x + j, n - j), shift_f32x4));
  return vaddvq_f64(vaddq_f64(sum_f64x2, widen(rest_f32x4)));
}

}  // namespace

const LogSumExpLoops logsumexp_loops = {max, sum_exp};

}  // namespace logitkit::neon
