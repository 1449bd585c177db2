// Intrinsics and our own headers only, like every file for one instruction set.
#include <arm_neon.h>

#include "self_witness/self_witness.h"

namespace logitkit::neon {
namespace {

constexpr std::size_t vectors = 8;
constexpr std::size_t lanes = 4 * vectors;

std::size_t prune(const float* tile, std::size_t rows, const float* lane_tails,
                  const float* row_tails, const float* limits, float* worst,
                  std::uint32_t* survivors) {
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const float32x4_t row_f32x4 = vdupq_n_f32(row_tails[r]);
    float32x4_t bound_f32x4[vectors];
    uint32x4_t below_u32x4 = vdupq_n_u32(~0u);
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v) {
      bound_f32x4[v] =
          vfmaq_f32(vld1q_f32(tile + r * lanes + 4 * v), vld1q_f32(lane_tails + 4 * v), row_f32x4);
      // "Less" is false for NaN: what cannot be compared is not pruned.
      below_u32x4 = vandq_u32(below_u32x4, vcltq_f32(bound_f32x4[v], vld1q_f32(limits + 4 * v)));
    }
    if (vminvq_u32(below_u32x4) == 0) {
      survivors[count++] = static_cast<std::uint32_t>(r);
      continue;
    }
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v)
      vst1q_f32(worst + 4 * v, vmaxq_f32(bound_f32x4[v], vld1q_f32(worst + 4 * v)));
  }
  return count;
}

}  // namespace

const WitnessLoops witness_loops = {prune};

}  // namespace logitkit::neon
