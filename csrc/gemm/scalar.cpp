#include "gemm/score.h"

namespace logitkit::scalar {
namespace {

constexpr std::size_t lanes = 8;

void pack(const float* a, std::size_t stride, std::size_t rows, std::size_t depth, float* panel) {
  for (std::size_t k = 0; k < depth; ++k)
    for (std::size_t i = 0; i < lanes; ++i)
      panel[k * lanes + i] = i < rows ? a[i * stride + k] : 0.0f;
}

// One row of B against the panel: the sums are an array, which any compiler keeps in registers.
void score_row(const float* panel, const float* b, std::size_t stride, std::size_t depth,
               bool accumulate, float* tile) {
  float sum[lanes];
  for (std::size_t i = 0; i < lanes; ++i) sum[i] = accumulate ? tile[i] : 0.0f;
  for (std::size_t k = 0; k < depth; ++k)
    for (std::size_t i = 0; i < lanes; ++i) sum[i] += panel[k * lanes + i] * b[k * stride];
  for (std::size_t i = 0; i < lanes; ++i) tile[i] = sum[i];
}

void score(const float* panel, const float* const* b, std::size_t stride, std::size_t rows,
           std::size_t depth, bool accumulate, float* tile) {
  for (std::size_t j = 0; j < rows; ++j)
    score_row(panel, b[j], stride, depth, accumulate, tile + j * lanes);
}

std::size_t multiply_add(std::size_t count) {
  float sum[lanes];
  for (std::size_t i = 0; i < lanes; ++i) sum[i] = static_cast<float>(i);
  std::size_t done = 0;
  for (; done < count; done += lanes)
    for (std::size_t i = 0; i < lanes; ++i) sum[i] = sum[i] * 0.999f + 1e-9f;
  volatile float sink = 0.0f;  // or the loop above is nobody's
  for (std::size_t i = 0; i < lanes; ++i) sink = sink + sum[i];
  return done;
}

}  // namespace

const ScoreLoops score_loops = {lanes, pack, score, multiply_add};

}  // namespace logitkit::scalar
