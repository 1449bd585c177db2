// What PackedLoops are given, as parts of bfloat16 in the order of tile registers. Include only
// from amx.cpp files.
#pragma once

#include "attention/loops.h"
#include "simd/amx.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, lanes = panel_vectors * width, half_tile = tile_keys / 2;

/// How far apart the parts of packed queries, in pairs, of keys or values, and of weights are.
constexpr size_t query_part(size_t depth) { return round_up(depth, depth_step) / 2 * lanes; }
constexpr size_t tile_part(size_t depth) { return round_up(depth, depth_step) * tile_keys; }
constexpr size_t weight_part = tile_keys / 2 * lanes;

inline __mmask32 first_of_32(size_t n) { return n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1; }
inline __mmask16 first_of_16(size_t n) {
  return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1);
}
inline __m512i zeros() { return _mm512_setzero_si512(); }

/// Each kind of operand has load(), 32 elements as parts with zeros beyond the first n, and the
/// largest magnitudes seen so far; all_plain() of them says whether products of the parts are
/// within an error of float32 of those of the elements, and sums of such that the values of a tile
/// make.
struct Bfloat16 {
  using Element = std::uint16_t;
  static constexpr size_t parts = 1;

  static void load(const Element* x, size_t n, __m512i (&to)[parts], __m512i& most) {
    to[0] = _mm512_maskz_loadu_epi16(first_of_32(n), x);
    most = _mm512_max_epu16(most, _mm512_and_si512(to[0], _mm512_set1_epi16(0x7fff)));
  }
  static bool all_plain(__m512i most) { return below(most, 60); }  // products before their scale
  // 0 times what is not finite is not 0, and weights are up to 2^8.
  static bool plain_values(__m512i most) { return below(most, 100); }

 private:
  static bool below(__m512i most, int exponent) {
    const auto power = static_cast<short>((127 + exponent) << 7);
    return _mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(power)) == 0;
  }
};

/// Floats that are loaded as two vectors. Infinity has no parts, and products of numbers from 2^40
/// on, or sums of numbers that are all below 2^-40, may leave the range in which parts and their
/// products are normal: what is flushed to 0 of the others is below 2^-46 of anything.
template <size_t parts>
struct Floats {
  static void split_up(F32 low, F32 high, __m512i (&to)[parts], __m512i& most) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const Parts a = split(low), b = split(high);
    to[0] = upper_halves(a.high, b.high);
    to[1] = upper_halves(a.middle, b.middle);
    if constexpr (parts > 2) to[2] = upper_halves(a.low, b.low);
    most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(low.v), magnitude));
    most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(high.v), magnitude));
  }
  static bool all_plain(__m512i most) {
    return _mm512_cmpge_epu32_mask(most, bits_of(0x1p40f)) == 0;
  }
  static bool plain_values(__m512i most) {
    return all_plain(most) && (_mm512_test_epi32_mask(most, most) == 0 ||
                               _mm512_cmpge_epu32_mask(most, bits_of(0x1p-40f)) != 0);
  }

 private:
  static __m512i bits_of(float x) { return _mm512_castps_si512(_mm512_set1_ps(x)); }
  static __m512i upper_halves(__m512i a, __m512i b) {
    const __m512i pairs =
        _mm512_set_epi32(0x003f003d, 0x003b0039, 0x00370035, 0x00330031, 0x002f002d, 0x002b0029,
                         0x00270025, 0x00230021, 0x001f001d, 0x001b0019, 0x00170015, 0x00130011,
                         0x000f000d, 0x000b0009, 0x00070005, 0x00030001);
    return _mm512_permutex2var_epi16(a, pairs, b);
  }
};

/// 11 digits are two parts.
struct Float16 : Floats<2> {
  using Element = std::uint16_t;
  static constexpr size_t parts = 2;

  static void load(const Element* x, size_t n, __m512i (&to)[parts], __m512i& most) {
    const __m512i all = _mm512_maskz_loadu_epi16(first_of_32(n), x);
    split_up({_mm512_cvtph_ps(_mm512_castsi512_si256(all))},
             {_mm512_cvtph_ps(_mm512_extracti64x4_epi64(all, 1))}, to, most);
  }
};

struct Float32 : Floats<3> {
  using Element = float;
  static constexpr size_t parts = 3;

  static void load(const Element* x, size_t n, __m512i (&to)[parts], __m512i& most) {
    const F32 low = {_mm512_maskz_loadu_ps(first_of_16(n), x)};
    const F32 high = {n > width ? _mm512_maskz_loadu_ps(first_of_16(n - width), x + width)
                                : _mm512_setzero_ps()};
    split_up(low, high, to, most);
  }
};

/// The row j of `count` rows from the element d of `depth` on; zeros beyond.
template <class Operand>
void load_row(const void* const* rows, size_t j, size_t count, size_t d, size_t depth,
              __m512i (&to)[Operand::parts], __m512i& most) {
  if (j < count) {
    Operand::load(static_cast<const typename Operand::Element*>(rows[j]) + d, depth - d, to, most);
  } else {
    for (__m512i& part : to) part = zeros();
  }
}

template <class Operand>
std::uint64_t pack_queries(const void* const* rows, size_t count, size_t depth,
                           std::uint32_t* pairs) {
  std::uint64_t odd = 0;
  for (size_t i = 0; i < count; i += width) {
    __m512i most[width] = {};
    for (size_t d = 0; d < depth; d += depth_step) {
      F32 blocks[Operand::parts][width];
      for (size_t k = 0; k < width; ++k) {
        __m512i row[Operand::parts];
        load_row<Operand>(rows, i + k, count, d, depth, row, most[k]);
        for (size_t p = 0; p < Operand::parts; ++p) blocks[p][k].v = _mm512_castsi512_ps(row[p]);
      }
      for (size_t p = 0; p < Operand::parts; ++p) {
        transpose(blocks[p]);
        for (size_t k = 0; k < width; ++k)
          _mm512_store_ps(pairs + p * query_part(depth) + (d / 2 + k) * lanes + i, blocks[p][k].v);
      }
    }
    for (size_t k = 0; k < width; ++k)
      if (!Operand::all_plain(most[k])) odd |= std::uint64_t{1} << (i + k);
  }
  return odd;
}

template <class Operand>
bool pack_keys(const void* const* rows, size_t count, size_t depth, std::uint16_t* keys) {
  const size_t stride = round_up(depth, depth_step);
  __m512i most = zeros();
  for (size_t j = 0; j < round_up(count, side); ++j)
    for (size_t d = 0; d < depth; d += depth_step) {
      __m512i row[Operand::parts];
      load_row<Operand>(rows, j, count, d, depth, row, most);
      for (size_t p = 0; p < Operand::parts; ++p)
        _mm512_store_si512(keys + p * tile_part(depth) + j * stride + d, row[p]);
    }
  return Operand::all_plain(most);
}

template <class Operand>
bool pack_values(const void* const* rows, size_t count, size_t depth, std::uint16_t* values) {
  __m512i most = zeros();
  for (size_t j = 0; j < count; j += depth_step)
    for (size_t d = 0; d < depth; d += depth_step) {
      // Pairs of the dimensions 8 k to 8 k + 3, and of 8 k + 4 to 8 k + 7.
      F32 low[Operand::parts][side], high[Operand::parts][side];
      for (size_t k = 0; k < side; ++k) {
        __m512i even[Operand::parts], odd[Operand::parts];
        load_row<Operand>(rows, j + 2 * k, count, d, depth, even, most);
        load_row<Operand>(rows, j + 2 * k + 1, count, d, depth, odd, most);
        for (size_t p = 0; p < Operand::parts; ++p) {
          low[p][k].v = _mm512_castsi512_ps(_mm512_unpacklo_epi16(even[p], odd[p]));
          high[p][k].v = _mm512_castsi512_ps(_mm512_unpackhi_epi16(even[p], odd[p]));
        }
      }
      for (size_t p = 0; p < Operand::parts; ++p) {
        transpose(low[p]);
        transpose(high[p]);
        for (size_t k = 0; k < side; ++k) {
          std::uint16_t* to =
              values + p * tile_part(depth) + (d + k / 4 * 8 + k % 4) * tile_keys + j;
          _mm512_store_ps(to, low[p][k].v);
          _mm512_store_ps(to + 4 * tile_keys, high[p][k].v);
        }
      }
    }
  return Operand::plain_values(most);
}

}  // namespace
}  // namespace logitkit::amx
