// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include <immintrin.h>

#include "gemm/score.h"

namespace logitkit::avx512 {
namespace {

constexpr std::size_t vectors = 3;  // in a row of the panel
constexpr std::size_t lanes = 16 * vectors;
constexpr std::size_t max_rows = 8;  // 8 x 3 sums + 3 of the panel + 1 of B: 28 of 32 registers

// The first n lanes, n <= 16.
inline __mmask16 first(std::size_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

// to[k][i] = from[i][k] for i < rows (0 above) and k < columns, both at most 16: pairs, then
// quadruples of rows are interleaved within 128-bit groups, then the groups are exchanged.
void transpose(const float* from, std::size_t stride, std::size_t rows, std::size_t columns,
               float* to) {
  __m512 x[16], y[16];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 16; ++i)
    x[i] =
        i < rows ? _mm512_maskz_loadu_ps(first(columns), from + i * stride) : _mm512_setzero_ps();
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 16; i += 4) {
    x[i] = _mm512_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1] = _mm512_shuffle_ps(y[i], y[i + 2], 0xee);
    x[i + 2] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    const __m512 even_low = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88);
    const __m512 even_high = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd);
    const __m512 odd_high = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xdd);
    y[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    y[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    y[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    y[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
#pragma GCC unroll 16
  for (std::size_t k = 0; k < 16; ++k)
    if (k < columns) _mm512_store_ps(to + k * lanes, y[k]);
}

void pack(const float* a, std::size_t stride, std::size_t rows, std::size_t depth, float* panel) {
  for (std::size_t i = 0; i < lanes; i += 16) {
    const std::size_t some_rows = i < rows ? rows - i : 0;
    for (std::size_t k = 0; k < depth; k += 16) {
      const std::size_t columns = depth - k < 16 ? depth - k : 16;
      const float* corner = some_rows > 0 ? a + i * stride + k : a;
      transpose(corner, stride, some_rows, columns, panel + k * lanes + i);
    }
  }
}

template <std::size_t rows>
void score_rows(const float* panel, const float* const* b, std::size_t stride, std::size_t depth,
                bool accumulate, float* tile) {
  const float* row[rows];
  __m512 sum_f32x16[rows][vectors];
#pragma GCC unroll 8
  for (std::size_t j = 0; j < rows; ++j) {
    row[j] = b[j];
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      sum_f32x16[j][v] =
          accumulate ? _mm512_load_ps(tile + j * lanes + 16 * v) : _mm512_setzero_ps();
  }
  // Counting takes turns on the ports of the multiply-adds: 5 % lost where it is not unrolled.
#pragma GCC unroll 4
  for (std::size_t k = 0; k < depth; ++k) {
    __m512 a_f32x16[vectors];
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      a_f32x16[v] = _mm512_load_ps(panel + k * lanes + 16 * v);
#pragma GCC unroll 8
    for (std::size_t j = 0; j < rows; ++j) {
      const __m512 b_f32x16 = _mm512_set1_ps(row[j][k * stride]);
#pragma GCC unroll 3
      for (std::size_t v = 0; v < vectors; ++v)
        sum_f32x16[j][v] = _mm512_fmadd_ps(a_f32x16[v], b_f32x16, sum_f32x16[j][v]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t j = 0; j < rows; ++j)
#pragma GCC unroll 3
    for (std::size_t v = 0; v < vectors; ++v)
      _mm512_store_ps(tile + j * lanes + 16 * v, sum_f32x16[j][v]);
}

void score(const float* panel, const float* const* b, std::size_t stride, std::size_t rows,
           std::size_t depth, bool accumulate, float* tile) {
  static constexpr decltype(&score_rows<1>) rest[max_rows] = {
      nullptr,       score_rows<1>, score_rows<2>, score_rows<3>,
      score_rows<4>, score_rows<5>, score_rows<6>, score_rows<7>};
  for (; rows >= max_rows; rows -= max_rows, b += max_rows, tile += max_rows * lanes)
    score_rows<max_rows>(panel, b, stride, depth, accumulate, tile);
  if (rows > 0) rest[rows](panel, b, stride, depth, accumulate, tile);
}

std::size_t multiply_add(std::size_t count) {
  constexpr std::size_t in_flight = max_rows * vectors;
  const __m512 factor_f32x16 = _mm512_set1_ps(0.999f), term_f32x16 = _mm512_set1_ps(1e-9f);
  __m512 sum_f32x16[in_flight];
#pragma GCC unroll 24
  for (std::size_t s = 0; s < in_flight; ++s)
    sum_f32x16[s] = _mm512_set1_ps(static_cast<float>(s));  // all different: equal sums are one
  std::size_t done = 0;
  for (; done < count; done += 16 * in_flight)
#pragma GCC unroll 24
    for (std::size_t s = 0; s < in_flight; ++s)
      sum_f32x16[s] = _mm512_fmadd_ps(sum_f32x16[s], factor_f32x16, term_f32x16);
  __m512 total_f32x16 = _mm512_setzero_ps();
#pragma GCC unroll 24
  for (std::size_t s = 0; s < in_flight; ++s)
    total_f32x16 = _mm512_add_ps(total_f32x16, sum_f32x16[s]);
  volatile float sink = _mm512_reduce_add_ps(total_f32x16);  // or the loop above is nobody's
  static_cast<void>(sink);
  return done;
}

}  // namespace

const ScoreLoops score_loops = {lanes, pack, score, multiply_add};

}  // namespace logitkit::avx512
