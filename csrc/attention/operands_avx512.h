// What PackedLoops are given, as parts of bfloat16 in the order of tile registers. Include only
// from files with products of bfloat16.
#pragma once

#include "attention/loops.h"
#include "simd/bfloat16_avx512.h"

namespace logitkit::avx512 {
namespace {

constexpr size_t width = 16, lanes = panel_vectors * width;

inline __mmask32 first_of_32(size_t n) { return n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1; }
inline __mmask16 first_of_16(size_t n) {
  return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1);
}
inline __m512i zeros() { return _mm512_setzero_si512(); }

/// Each kind of operand is packed as parts of bfloat16, and keeps the largest magnitudes seen;
/// all_plain() of them says whether products of the parts are within an error of float32 of those
/// of the elements, and plain_values() whether sums of such that the values of a tile make are.
struct Bfloat16 {
  using Element = std::uint16_t;
  static constexpr size_t parts = 1;

  /// 32 elements with zeros beyond the first n.
  static __m512i load(const void* row, size_t d, size_t n) {
    return _mm512_maskz_loadu_epi16(first_of_32(n), static_cast<const Element*>(row) + d);
  }
  static __m512i largest(__m512i most, __m512i x) {
    return _mm512_max_epu16(most, _mm512_and_si512(x, _mm512_set1_epi16(0x7fff)));
  }
  static bool all_plain(__m512i most) { return odd_lanes(most) == 0; }
  /// One bit for each 32 bits that hold something else.
  static __mmask16 odd_lanes(__m512i most) {
    const __mmask32 large = from(most, 60);  // products before their scale
    return _mm512_test_epi32_mask(_mm512_movm_epi16(large), _mm512_movm_epi16(large));
  }
  // 0 times what is not finite is not 0, and weights are up to 2^8.
  static bool plain_values(__m512i most) { return from(most, 100) == 0; }

 private:
  static __mmask32 from(__m512i most, int exponent) {
    const auto power = static_cast<short>((127 + exponent) << 7);
    return _mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(power));
  }
};

/// Floats. Infinity has no parts, and products of numbers from 2^40 on, or sums of numbers that are
/// all below 2^-40, may leave the range in which parts and their products are normal: what is
/// flushed to 0 of the others is below 2^-46 of anything.
struct Floats {
  static __m512i largest(__m512i most, F32 x) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    return _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(x.v), magnitude));
  }
  static bool all_plain(__m512i most) { return odd_lanes(most) == 0; }
  static __mmask16 odd_lanes(__m512i most) {
    return _mm512_cmpge_epu32_mask(most, bits_of(0x1p40f));
  }
  static bool plain_values(__m512i most) {
    return all_plain(most) && (_mm512_test_epi32_mask(most, most) == 0 ||
                               _mm512_cmpge_epu32_mask(most, bits_of(0x1p-40f)) != 0);
  }

 private:
  static __m512i bits_of(float x) { return _mm512_castps_si512(_mm512_set1_ps(x)); }
};

/// 11 digits are two parts.
struct Float16 : Floats {
  using Element = std::uint16_t;
  static constexpr size_t parts = 2;

  /// 16 elements with zeros beyond the first n.
  static F32 load(const void* row, size_t d, size_t n) {
    return {_mm512_cvtph_ps(
        _mm256_maskz_loadu_epi16(first_of_16(n), static_cast<const Element*>(row) + d))};
  }
};

struct Float32 : Floats {
  using Element = float;
  static constexpr size_t parts = 3;

  static F32 load(const void* row, size_t d, size_t n) {
    return {_mm512_maskz_loadu_ps(first_of_16(n), static_cast<const Element*>(row) + d)};
  }
};

/// The elements d to d + 15 of a row of `depth`; zeros beyond.
template <class Operand>
F32 load_floats(const void* row, size_t d, size_t depth) {
  return d < depth ? Operand::load(row, d, depth - d) : F32::all(0);
}

/// A vector of pairs as parts: those of rows[part] and pairs[part] of Column.
template <size_t parts>
void store_rows(F32 first, F32 second, std::uint16_t* rows) {
  const Parts a = split(first), b = split(second);
  constexpr size_t next = blocks_of_rows * block;
  if constexpr (parts > 2) _mm512_store_si512(rows, pair(a.low, b.low));
  _mm512_store_si512(rows + (parts - 2) * next, pair(a.middle, b.middle));
  _mm512_store_si512(rows + (parts - 1) * next, pair(a.high, b.high));
}
template <size_t parts>
void store_pairs_exactly(F32 first, F32 second, std::uint32_t* pairs) {
  const Parts a = split(first), b = split(second);
  _mm512_store_si512(pairs, pair(a.high, b.high));
  _mm512_store_si512(pairs + pair_block, pair(a.middle, b.middle));
  if constexpr (parts > 2) _mm512_store_si512(pairs + 2 * pair_block, pair(a.low, b.low));
}

/// 16 rows of floats from `first` on, of `count`, and from the column d on, transposed.
template <class Operand>
void load_transposed(const void* const* rows, size_t first, size_t count, size_t d, size_t depth,
                     F32 (&x)[side]) {
#pragma GCC unroll 16
  for (size_t k = 0; k < side; ++k)
    x[k] = first + k < count ? load_floats<Operand>(rows[first + k], d, depth) : F32::all(0);
  transpose(x);
}

/// Of floats the dimensions d and d + 16 of each 32 are pairs, of bfloat16 those that lie so.
template <class Operand>
std::uint64_t pack_queries(const void* const* rows, size_t count, size_t depth,
                           std::uint32_t* pairs) {
  std::uint64_t odd = 0;
  for (size_t i = 0; i < count; i += width) {
    __m512i most = zeros();  // of each lane
    for (size_t d = 0; d < depth; d += depth_step) {
      if constexpr (Operand::parts == 1) {
        F32 x[side];
        for (size_t k = 0; k < side; ++k)
          x[k].v = _mm512_castsi512_ps(i + k < count ? Operand::load(rows[i + k], d, depth - d)
                                                     : zeros());
        transpose(x);
        for (size_t k = 0; k < side; ++k) {
          most = Operand::largest(most, _mm512_castps_si512(x[k].v));
          _mm512_store_ps(pairs + k * width, x[k].v);
        }
      } else {
        F32 x[side], y[side];
        load_transposed<Operand>(rows, i, count, d, depth, x);
        load_transposed<Operand>(rows, i, count, d + side, depth, y);
        for (size_t k = 0; k < side; ++k) {
          most = Operand::largest(Operand::largest(most, x[k]), y[k]);
          store_pairs_exactly<Operand::parts>(x[k], y[k], pairs + k * width);
        }
      }
      pairs += StepLayout<Operand::parts>::pairs_of_step;
    }
    odd |= std::uint64_t{Operand::odd_lanes(most)} << i;
  }
  return odd;
}

template <class Operand>
bool pack_keys(const void* const* rows, size_t count, size_t depth, std::uint16_t* keys) {
  __m512i most = zeros();
  for (size_t j = 0; j < round_up(count, side); ++j)
    for (size_t d = 0; d < depth; d += depth_step) {
      std::uint16_t* to = keys + d / depth_step * StepLayout<Operand::parts>::rows_of_step +
                          j / side * block + j % side * depth_step;
      if constexpr (Operand::parts == 1) {
        const __m512i row = j < count ? Operand::load(rows[j], d, depth - d) : zeros();
        most = Operand::largest(most, row);
        _mm512_store_si512(to, row);
      } else {
        const size_t columns = j < count ? depth : 0;
        const void* row = rows[j < count ? j : 0];
        const F32 first = load_floats<Operand>(row, d, columns);
        const F32 second = load_floats<Operand>(row, d + side, columns);
        most = Operand::largest(Operand::largest(most, first), second);
        store_rows<Operand::parts>(first, second, to);
      }
    }
  return Operand::all_plain(most);
}

/// The dimension d of 32 keys from the key j on, where Column finds it as a row.
template <class Operand>
std::uint16_t* row_of_values(std::uint16_t* values, size_t d, size_t j) {
  constexpr size_t dims = blocks_of_rows * side;
  return values +
         (d / dims * (tile_keys / depth_step) + j / depth_step) *
             StepLayout<Operand::parts>::rows_of_step +
         d % dims / side * block + d % side * depth_step;
}

/// The keys j and j + 16 of each 32 are pairs.
template <class Operand>
bool pack_values(const void* const* rows, size_t count, size_t depth, std::uint16_t* values) {
  __m512i most = zeros();
  for (size_t j = 0; j < count; j += depth_step) {
    if constexpr (Operand::parts == 1) {
      for (size_t d = 0; d < depth; d += depth_step) {
        // Pairs of the dimensions 8 k to 8 k + 3, and of 8 k + 4 to 8 k + 7.
        F32 low[side], high[side];
        const auto row = [&](size_t key) {
          const __m512i x = key < count ? Operand::load(rows[key], d, depth - d) : zeros();
          most = Operand::largest(most, x);
          return x;
        };
        for (size_t k = 0; k < side; ++k) {
          const __m512i first = row(j + k), second = row(j + side + k);
          low[k].v = _mm512_castsi512_ps(_mm512_unpacklo_epi16(first, second));
          high[k].v = _mm512_castsi512_ps(_mm512_unpackhi_epi16(first, second));
        }
        transpose(low);
        transpose(high);
        for (size_t k = 0; k < side; ++k) {
          const size_t at = d + k / 4 * 8 + k % 4;
          _mm512_store_ps(row_of_values<Operand>(values, at, j), low[k].v);
          _mm512_store_ps(row_of_values<Operand>(values, at + 4, j), high[k].v);
        }
      }
    } else {
      for (size_t d = 0; d < depth; d += side) {
        F32 x[side], y[side];
        load_transposed<Operand>(rows, j, count, d, depth, x);
        load_transposed<Operand>(rows, j + side, count, d, depth, y);
        std::uint16_t* to = row_of_values<Operand>(values, d, j);
        for (size_t k = 0; k < side; ++k) {
          most = Operand::largest(Operand::largest(most, x[k]), y[k]);
          store_rows<Operand::parts>(x[k], y[k], to + k * depth_step);
        }
      }
    }
  }
  return Operand::plain_values(most);
}

/// The way back, of results.
void narrow(const float* from, size_t n, std::uint16_t* to) {
  for (size_t i = 0; i < n; i += width) {
    const __mmask16 mask = first_of_16(n - i);
    const __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i));
    _mm256_mask_storeu_epi16(to + i, mask, (__m256i)half);
  }
}

}  // namespace
}  // namespace logitkit::avx512
