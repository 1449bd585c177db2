// Compiled with -mavx2 -mfma: intrinsics and our own headers only.
#include <immintrin.h>

#include "gemm/score.h"

namespace logitkit::avx2 {
namespace {

constexpr std::size_t vectors = 3;  // in a row of the panel
constexpr std::size_t lanes = 8 * vectors;
constexpr std::size_t max_rows = 4;  // 4 x 3 sums + 3 of the panel + 1 of B: all 16 registers

// to[k][i] = from[i][k] for i < rows (0 above) and k < columns, both at most 8.
void transpose(const float* from, std::size_t stride, std::size_t rows, std::size_t columns,
               float* to) {
  const __m256i column_i32x8 = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask_i32x8 =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(columns)), column_i32x8);
  __m256 x[8], y[8];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i)
    x[i] = i < rows ? _mm256_maskload_ps(from + i * stride, mask_i32x8) : _mm256_setzero_ps();
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 8; i += 2) {
    y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 8; i += 4) {
    x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
    x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    y[i] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
    y[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
  }
#pragma GCC unroll 8
  for (std::size_t k = 0; k < 8; ++k)
    if (k < columns) _mm256_store_ps(to + k * lanes, y[k]);
}

void pack(const float* a, std::size_t stride, std::size_t rows, std::size_t depth, float* panel) {
  for (std::size_t i = 0; i < lanes; i += 8) {
    const std::size_t some_rows = i < rows ? rows - i : 0;
    for (std::size_t k = 0; k < depth; k += 8) {
      const std::size_t columns = depth - k < 8 ? depth - k : 8;
      const float* corner = some_rows > 0 ? a + i * stride + k : a;
      transpose(corner, stride, some_rows, columns, panel + k * lanes + i);
    }
  }
}

template <std::size_t rows>
void score_rows(const float* panel, const float* const* b, std::size_t stride, std::size_t depth,
                bool accumulate, float* tile) {
  const float* row[rows];
  __m256 sum_f32x8[rows][vectors];
#pragma GCC unroll 4
  for (std::size_t j = 0; j < rows; ++j) {
    row[j] = b[j];
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      sum_f32x8[j][v] = accumulate ? _mm256_load_ps(tile + j * lanes + 8 * v) : _mm256_setzero_ps();
  }
  // Counting takes turns on the ports of the multiply-adds: 5 % lost where it is not unrolled.
#pragma GCC unroll 4
  for (std::size_t k = 0; k < depth; ++k) {
    __m256 a_f32x8[vectors];
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      a_f32x8[v] = _mm256_load_ps(panel + k * lanes + 8 * v);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < rows; ++j) {
      const __m256 b_f32x8 = _mm256_broadcast_ss(row[j] + k * stride);
#pragma GCC unroll 3
      for (std::size_t v = 0; v < vectors; ++v)
        sum_f32x8[j][v] = _mm256_fmadd_ps(a_f32x8[v], b_f32x8, sum_f32x8[j][v]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t j = 0; j < rows; ++j)
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      _mm256_store_ps(tile + j * lanes + 8 * v, sum_f32x8[j][v]);
}

void score(const float* panel, const float* const* b, std::size_t stride, std::size_t rows,
           std::size_t depth, bool accumulate, float* tile) {
  static constexpr decltype(&score_rows<1>) rest[max_rows] = {nullptr, score_rows<1>, score_rows<2>,
                                                              score_rows<3>};
  for (; rows >= max_rows; rows -= max_rows, b += max_rows, tile += max_rows * lanes)
    score_rows<max_rows>(panel, b, stride, depth, accumulate, tile);
  if (rows > 0) rest[rows](panel, b, stride, depth, accumulate, tile);
}

std::size_t multiply_add(std::size_t count) {
  constexpr std::size_t in_flight = max_rows * vectors;
  const __m256 factor_f32x8 = _mm256_set1_ps(0.999f), term_f32x8 = _mm256_set1_ps(1e-9f);
  __m256 sum_f32x8[in_flight];
#pragma GCC unroll 12
  for (std::size_t s = 0; s < in_flight; ++s)
    sum_f32x8[s] = _mm256_set1_ps(static_cast<float>(s));  // all different: equal sums are one
  std::size_t done = 0;
  for (; done < count; done += 8 * in_flight)
#pragma GCC unroll 12
    for (std::size_t s = 0; s < in_flight; ++s)
      sum_f32x8[s] = _mm256_fmadd_ps(sum_f32x8[s], factor_f32x8, term_f32x8);
  __m256 total_f32x8 = _mm256_setzero_ps();
#pragma GCC unroll 12
  for (std::size_t s = 0; s < in_flight; ++s)
    total_f32x8 = _mm256_add_ps(total_f32x8, sum_f32x8[s]);
  volatile float sink = _mm256_cvtss_f32(total_f32x8);  // or the loop above is nobody's
  static_cast<void>(sink);
  return done;
}

}  // namespace

const ScoreLoops score_loops = {lanes, pack, score, multiply_add};

}  // namespace logitkit::avx2
