// Where the rows of attention's arguments lie, and how they become rows of what is computed in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/attention.h"
#include "attention/half.h"
#include "attention/loops.h"
#include "simd/prefetch.h"

namespace logitkit {

template <class T>
class InputRows {
 public:
  InputRows(const AttentionInput<T>& input, Isa isa)
      : in(input),
        all_loops(attention_loops(isa)),
        is_half(input.element == Element::float16 || input.element == Element::bfloat16) {}

  const AttentionInput<T>& in;
  const AllAttentionLoops& all_loops;
  const bool is_half;

  /// Where in bytes a row of an array of elements lies.
  template <class Data>
  std::ptrdiff_t bytes_to(const Rows<Data>& x, std::size_t b, std::size_t h, std::size_t i) const {
    const auto size = static_cast<std::ptrdiff_t>(is_half ? 2 : sizeof(T));
    return size *
           (static_cast<std::ptrdiff_t>(b) * x.batch + static_cast<std::ptrdiff_t>(h) * x.head +
            static_cast<std::ptrdiff_t>(i) * x.row);
  }
  const void* row_of(const Rows<const void>& x, std::size_t b, std::size_t h, std::size_t i) const {
    return static_cast<const char*>(x.data) + bytes_to(x, b, h, i);
  }

  /// Calls f(batch, row, j, run) for keys first + j to first + j + run - 1 that lie in one block.
  template <class F>
  void for_each_run(const Sequence& s, std::size_t first, std::size_t count, const F& f) const {
    std::size_t batch = s.key_batch, row = s.first_key + first, run = count;
    for (std::size_t j = 0; j < count; j += run) {
      if (in.block_table != nullptr) {
        const std::size_t block = (first + j) / in.block_size;
        batch = static_cast<std::size_t>(in.block_table[s.key_batch * in.max_blocks + block]);
        row = (first + j) % in.block_size;
        run = std::min(count - j, in.block_size - row);
      }
      f(batch, row, j, run);
    }
  }

  /// rows[j] = the row of x of key first + j, as T in `space` if they are half; then, for asking
  /// for them, rows_ahead that follow, or any if there are none.
  void load_tile(const Rows<const void>& x, const Sequence& s, std::size_t head, std::size_t first,
                 std::size_t count, std::size_t dim, const T** rows, T* space) const {
    const void* from[tile_keys + rows_ahead];
    constexpr std::size_t all = tile_keys + rows_ahead;
    const std::size_t listed = std::min(count + rows_ahead, s.keys - first);
    const std::ptrdiff_t step = bytes_to(x, 0, 0, 1);
    for_each_run(s, first, listed,
                 [&](std::size_t batch, std::size_t row, std::size_t j, std::size_t run) {
                   const auto* at = static_cast<const char*>(row_of(x, batch, head, row));
                   for (std::size_t k = 0; k < run; ++k, at += step) from[j + k] = at;
                 });
    std::fill(from + listed, from + all, from[listed - 1]);
    for (std::size_t j = 0; !is_half && j < all; ++j) rows[j] = static_cast<const T*>(from[j]);
    for (std::size_t j = 0; is_half && j < count; ++j) {
      prefetch_row(static_cast<const std::uint16_t*>(from[j + values_ahead]), dim);
      rows[j] = widened(from[j], dim, space + j * dim);
    }
    if (is_half) std::fill(rows + count, rows + all, rows[count - 1]);
  }

  /// Asks for the cache lines of a row.
  template <class Number>
  static void prefetch_row(const Number* row, std::size_t dim) {
    for (std::size_t d = 0; d < dim; d += 64 / sizeof(Number)) prefetch_far(row + d);
  }

  /// rows[j] = row j of `from`, as T in `space` if they are half.
  void load_rows(const void* const* from, std::size_t count, std::size_t dim, const T** rows,
                 T* space) const {
    for (std::size_t j = 0; j < count; ++j)
      rows[j] = is_half ? widened(from[j], dim, space + j * dim) : static_cast<const T*>(from[j]);
  }

  /// n elements of a half type as T, which is float then.
  const T* widened(const void* from, std::size_t n, T* to) const {
    if constexpr (sizeof(T) == sizeof(float)) widen(in.element, all_loops, from, n, to);
    return to;
  }
};

}  // namespace logitkit
