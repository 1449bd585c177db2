// Tile registers for products of bfloat16, and floats as sums of bfloat16 for them. Include only
// from amx.cpp files.
//
// A float has 24 digits, a bfloat16 has 8: three parts hold it, x = high + middle + low, and
//   x y = high high' + high middle' + middle high' + high low' + middle middle' + low high'
// but for products with signs of their own that are 2^-26 |x y| on average, and 2^-23 together at
// most, about one rounding of float32. Tile registers multiply and add at 16 times the rate of
// AVX-512 with floats, so six of these take less than half the time of one of those. They take
// denormal parts for 0: what is lost of an x below 2^-110 is up to 2^-126.
// Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for
// higher-precision computations", section 3.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/avx512.h"

namespace logitkit::amx {
namespace {

using avx512::F32;
using std::size_t;

constexpr size_t side = 16;        // rows of a tile register, and floats of one of its rows
constexpr size_t depth_step = 32;  // elements of bfloat16 in a row of a tile register

constexpr size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

// All eight registers are of 16 rows of 64 bytes.
struct alignas(64) Config {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
constexpr Config config = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/// Come before and after all that uses tile registers, in each thread.
inline void begin() { _tile_loadconfig(&config); }
inline void end() { _tile_release(); }

/// Not in every compiler do loads of tile registers wait for stores to memory.
inline void finish_stores() { __asm__ volatile("" ::: "memory"); }

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
}  // namespace logitkit::amx
