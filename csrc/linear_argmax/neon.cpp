// Intrinsics and our own headers only, like every file for one instruction set.
#include <arm_neon.h>

#include "linear_argmax/linear_argmax.h"

namespace logitkit::neon {
namespace {

constexpr std::size_t lanes = 32;

bool raise(const float* tile, std::size_t rows, const float* bias, std::int32_t first_row,
           float* best, std::int32_t* index) {
  uint32x4_t number_u32x4 = vdupq_n_u32(~0u);
  for (std::size_t i = 0; i < lanes; i += 4) {
    float32x4_t best_f32x4 = vld1q_f32(best + i);
    int32x4_t index_i32x4 = vld1q_s32(index + i);
    for (std::size_t r = 0; r < rows; ++r) {
      const float32x4_t score_f32x4 =
          vaddq_f32(vld1q_f32(tile + r * lanes + i), vdupq_n_f32(bias[r]));
      // False for a NaN on either side, so a best that is NaN stays.
      const uint32x4_t more_u32x4 = vcgtq_f32(score_f32x4, best_f32x4);
      best_f32x4 = vbslq_f32(more_u32x4, score_f32x4, best_f32x4);
      index_i32x4 =
          vbslq_s32(more_u32x4, vdupq_n_s32(first_row + static_cast<std::int32_t>(r)), index_i32x4);
      number_u32x4 = vandq_u32(number_u32x4, vceqq_f32(score_f32x4, score_f32x4));
    }
    vst1q_f32(best + i, best_f32x4);
    vst1q_s32(index + i, index_i32x4);
  }
  return vminvq_u32(number_u32x4) == 0;
}

void compare(const float* tile, std::size_t rows, const float* bias, const float* threshold,
             std::uint64_t* above) {
  const std::uint32_t powers[4] = {1, 2, 4, 8};
  const uint32x4_t powers_u32x4 = vld1q_u32(powers);
  for (std::size_t r = 0; r < rows; ++r) {
    const float32x4_t bias_f32x4 = vdupq_n_f32(bias[r]);
    above[r] = 0;
    for (std::size_t i = 0; i < lanes; i += 4) {
      const float32x4_t score_f32x4 = vaddq_f32(vld1q_f32(tile + r * lanes + i), bias_f32x4);
      const uint32x4_t more_u32x4 = vmvnq_u32(vcleq_f32(score_f32x4, vld1q_f32(threshold + i)));
      above[r] |= std::uint64_t{vaddvq_u32(vandq_u32(more_u32x4, powers_u32x4))} << i;
    }
  }
}

}  // namespace

const ArgmaxLoops argmax_loops = {raise, compare};

}  // namespace logitkit::neon
