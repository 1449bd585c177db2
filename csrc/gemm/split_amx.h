// Floats as parts, in the layout of tile registers. Include only from amx.cpp files.
#pragma once

#include "simd/amx.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, panel_width = 3;     // of a vector, and of a panel in vectors
constexpr size_t block_size = side * depth_step;  // elements of a tile register

// Of a number there are 3 parts, or one that it is rounded to. They lie in whole tile registers, in
// the order in which they are used:
//   panel[k / 32][vector][part][k % 16][lane][k % 32 / 16],
//   rows[j / 16][k / 32][part][j % 16][k % 16][k % 32 / 16].
// So the elements k and k + 16 of a block are a pair, and no shuffle makes one.

__m512i load(const float* x, size_t n) {
  const __mmask16 first = n >= width ? 0xffff : static_cast<__mmask16>((1u << n) - 1);
  return _mm512_maskz_loadu_epi32(first, x);
}

/// Finds out whether all that it sees is plain.
class Plain {
 public:
  explicit Plain(float least) {
    const __m512i bits = _mm512_castps_si512(_mm512_set1_ps(least));
    least_ = _mm512_sub_epi32(_mm512_max_epu32(bits, one()), one());
  }
  void see(__m512i x) {
    const __m512i size = _mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff));
    most_seen_ = _mm512_max_epu32(most_seen_, size);
    // One less is the largest of all for 0, which is plain.
    least_seen_ = _mm512_min_epu32(least_seen_, _mm512_sub_epi32(size, one()));
  }
  /// The lanes that have seen other numbers.
  __mmask16 others() const {
    const __m512i most = _mm512_castps_si512(_mm512_set1_ps(0x1p48f));
    return _kor_mask16(_mm512_cmpgt_epu32_mask(most_seen_, most),
                       _mm512_cmplt_epu32_mask(least_seen_, least_));
  }

 private:
  static __m512i one() { return _mm512_set1_epi32(1); }

  __m512i least_, most_seen_ = _mm512_setzero_si512(), least_seen_ = _mm512_set1_epi32(-1);
};

/// Writes the parts of 16 pairs, of each as a line of its own tile register.
template <size_t parts>
inline void store_parts(__m512i even, __m512i odd, std::uint16_t* to) {
  const Parts x = split({_mm512_castsi512_ps(even)}), y = split({_mm512_castsi512_ps(odd)});
  _mm512_store_si512(to, pair(x.high, y.high));
  if constexpr (parts == 1) return;
  _mm512_store_si512(to + block_size, pair(x.middle, y.middle));
  _mm512_store_si512(to + 2 * block_size, pair(x.low, y.low));
}

template <size_t part_count>
std::uint64_t split_panel(const float* panel, size_t stride, size_t depth, size_t vectors,
                          float least, std::uint16_t* parts) {
  std::uint64_t others = 0;
  const __m512i zero = _mm512_setzero_si512();
  for (size_t v = 0; v < vectors; ++v) {
    Plain plain(least);
    for (size_t k = 0; k < depth; k += depth_step) {
      std::uint16_t* to = parts + (k / depth_step * panel_width + v) * part_count * block_size;
      for (size_t r = 0; r < side; ++r, to += depth_step) {
        const float* from = panel + (k + r) * stride + v * width;
        const __m512i even = k + r < depth ? _mm512_loadu_si512(from) : zero;
        const __m512i odd = k + r + side < depth ? _mm512_loadu_si512(from + side * stride) : zero;
        plain.see(even);
        plain.see(odd);
        store_parts<part_count>(even, odd, to);
      }
    }
    others |= std::uint64_t{plain.others()} << (v * width);
  }
  return others;
}

template <size_t part_count>
std::uint64_t split_rows(const float* rows, size_t stride, const size_t* units, size_t count,
                         size_t depth, float least, std::uint16_t* parts) {
  const size_t of_row_block = round_up(depth, depth_step) * side * part_count;
  const auto unit = [=](const float* row, size_t k) {
    if (k >= depth) return _mm512_setzero_si512();
    return load(row + (units != nullptr ? units[k / width] : k), depth - k);
  };
  std::uint64_t others = 0;
  for (size_t j = 0; j < round_up(count, side); ++j) {
    std::uint16_t* to = parts + j / side * of_row_block + j % side * depth_step;
    const float* row = rows + j * stride;
    Plain plain(least);
    for (size_t k = 0; k < depth; k += depth_step, to += part_count * block_size) {
      const __m512i even = j < count ? unit(row, k) : _mm512_setzero_si512();
      const __m512i odd = j < count ? unit(row, k + side) : _mm512_setzero_si512();
      plain.see(even);
      plain.see(odd);
      store_parts<part_count>(even, odd, to);
    }
    others |= std::uint64_t{plain.others() != 0} << j % 64;
  }
  return others;
}

template <size_t part_count>
bool split_columns(const float* columns, size_t stride, size_t count, size_t depth, float least,
                   std::uint16_t* parts) {
  const size_t of_row_block = round_up(depth, depth_step) * side * part_count;
  Plain plain(least);
  const auto row = [&](size_t k, size_t j) {
    const __m512i x =
        k < depth ? load(columns + k * stride + j, count - j) : _mm512_setzero_si512();
    plain.see(x);
    return F32{_mm512_castsi512_ps(x)};
  };
  for (size_t j = 0; j < count; j += side)
    for (size_t k = 0; k < depth; k += depth_step) {
      F32 even[side], odd[side];
#pragma GCC unroll 16
      for (size_t r = 0; r < side; ++r) {
        even[r] = row(k + r, j);
        odd[r] = row(k + r + side, j);
      }
      transpose(even);
      transpose(odd);
      std::uint16_t* to =
          parts + j / side * of_row_block + k / depth_step * part_count * block_size;
#pragma GCC unroll 16
      for (size_t r = 0; r < side; ++r)
        store_parts<part_count>(_mm512_castps_si512(even[r].v), _mm512_castps_si512(odd[r].v),
                                to + r * depth_step);
    }
  return plain.others() == 0;
}

}  // namespace
}  // namespace logitkit::amx
