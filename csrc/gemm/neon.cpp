// Intrinsics and our own headers only, like every file for one instruction set.
#include <arm_neon.h>

#include "gemm/score.h"

namespace logitkit::neon {
namespace {

constexpr std::size_t vectors = 8;  // in a row of the panel
constexpr std::size_t lanes = 4 * vectors;
constexpr std::size_t max_rows = 3;  // 3 x 8 sums + 3 of B + the panel's one by one: 28 of 32

void pack(const float* a, std::size_t stride, std::size_t rows, std::size_t depth, float* panel) {
  for (std::size_t i = 0; i < lanes; ++i)
    for (std::size_t k = 0; k < depth; ++k)
      panel[k * lanes + i] = i < rows ? a[i * stride + k] : 0.0f;
}

template <std::size_t rows>
void score_rows(const float* panel, const float* const* b, std::size_t stride, std::size_t depth,
                bool accumulate, float* tile) {
  const float* row[rows];
  float32x4_t sum_f32x4[rows][vectors];
#pragma GCC unroll 3
  for (std::size_t j = 0; j < rows; ++j) {
    row[j] = b[j];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v)
      sum_f32x4[j][v] = accumulate ? vld1q_f32(tile + j * lanes + 4 * v) : vdupq_n_f32(0.0f);
  }
  for (std::size_t k = 0; k < depth; ++k) {
    float32x4_t b_f32x4[rows];
#pragma GCC unroll 3
    for (std::size_t j = 0; j < rows; ++j) b_f32x4[j] = vld1q_dup_f32(row[j] + k * stride);
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v) {
      const float32x4_t a_f32x4 = vld1q_f32(panel + k * lanes + 4 * v);
#pragma GCC unroll 3
      for (std::size_t j = 0; j < rows; ++j)
        sum_f32x4[j][v] = vfmaq_f32(sum_f32x4[j][v], a_f32x4, b_f32x4[j]);
    }
  }
#pragma GCC unroll 3
  for (std::size_t j = 0; j < rows; ++j)
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v) vst1q_f32(tile + j * lanes + 4 * v, sum_f32x4[j][v]);
}

void score(const float* panel, const float* const* b, std::size_t stride, std::size_t rows,
           std::size_t depth, bool accumulate, float* tile) {
  for (; rows >= max_rows; rows -= max_rows, b += max_rows, tile += max_rows * lanes)
    score_rows<max_rows>(panel, b, stride, depth, accumulate, tile);
  if (rows == 2) score_rows<2>(panel, b, stride, depth, accumulate, tile);
  if (rows == 1) score_rows<1>(panel, b, stride, depth, accumulate, tile);
}

std::size_t multiply_add(std::size_t count) {
  constexpr std::size_t in_flight = max_rows * vectors;
  const float32x4_t factor_f32x4 = vdupq_n_f32(0.999f), term_f32x4 = vdupq_n_f32(1e-9f);
  float32x4_t sum_f32x4[in_flight];
#pragma GCC unroll 24
  for (std::size_t s = 0; s < in_flight; ++s)
    sum_f32x4[s] = vdupq_n_f32(static_cast<float>(s));  // all different: equal sums are one
  std::size_t done = 0;
  for (; done < count; done += 4 * in_flight)
#pragma GCC unroll 24
    for (std::size_t s = 0; s < in_flight; ++s)
      sum_f32x4[s] = vfmaq_f32(sum_f32x4[s], factor_f32x4, term_f32x4);
  float32x4_t total_f32x4 = vdupq_n_f32(0.0f);
#pragma GCC unroll 24
  for (std::size_t s = 0; s < in_flight; ++s) total_f32x4 = vaddq_f32(total_f32x4, sum_f32x4[s]);
  volatile float sink = vaddvq_f32(total_f32x4);  // or the loop above is nobody's
  static_cast<void>(sink);
  return done;
}

}  // namespace

const ScoreLoops score_loops = {lanes, pack, score, multiply_add};

}  // namespace logitkit::neon
