// Floats as sums of bfloat16, and both in pairs, for tile registers and for the dot products of
// vectors. Include only from files with AVX-512.
//
// A float has 24 digits, a bfloat16 has 8: three parts hold it, x = high + middle + low, and
//   x y = high high' + high middle' + middle high' + high low' + middle middle' + low high'
// but for products with signs of their own that are 2^-26 |x y| on average, and 2^-23 together at
// most, about one rounding of float32. Both take denormal parts for 0: what is lost of an x below
// 2^-110 is up to 2^-126.
// Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for
// higher-precision computations", section 3.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/avx512.h"

namespace logitkit::avx512 {
namespace {

constexpr size_t side = 16;        // rows of a block, and floats of a vector
constexpr size_t depth_step = 32;  // elements of bfloat16 in a row of a block
constexpr size_t block = side * depth_step;
constexpr size_t pair_block = side * side;  // the same in pairs
constexpr size_t blocks_of_rows = 4;

constexpr size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

/// How the operands of a product of matrices lie that are sums of `parts` of bfloat16: in steps of
/// 32 of what is summed over, rows[part][block][row][32 elements], the smallest part first, and
/// pairs[part][16 pairs of elements][column], the largest part first.
template <size_t parts>
struct StepLayout {
  static constexpr size_t rows_of_step = parts * blocks_of_rows * block;
  static constexpr size_t pairs_of_step = parts * pair_block;
};

/// The parts of a vector of finite floats, each in the upper half of its lanes: the high one is x
/// to nearest, ties away from 0, the middle one is what that leaves without its last digits, and
/// the low one is the rest, exactly. Infinity and NaN have no parts
/// that mean anything, and the high one of a number that rounds to 2^128 is infinite.
struct Parts {
  __m512i high, middle, low;
};

inline Parts split(F32 x) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i high = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x.v), half), upper);
  const __m512 rest = _mm512_sub_ps(x.v, _mm512_castsi512_ps(high));
  const __m512i middle = _mm512_and_si512(_mm512_castps_si512(rest), upper);
  return {high, middle, _mm512_castps_si512(_mm512_sub_ps(rest, _mm512_castsi512_ps(middle)))};
}

/// The upper halves of the lanes of two vectors as pairs, `even` in the lower half. A shuffle of
/// bytes is not for the port of multiply-adds, which is all that these have while tile registers
/// multiply.
inline __m512i pair(__m512i even, __m512i odd) {
  const __m512i upper_to_lower =
      _mm512_broadcast_i32x4(_mm_set_epi32(0x0f0e0f0e, 0x0b0a0b0a, 0x07060706, 0x03020302));
  return _mm512_mask_shuffle_epi8(odd, 0x3333333333333333u, even, upper_to_lower);
}

}  // namespace
}  // namespace logitkit::avx512
