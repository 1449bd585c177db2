// Where the rows of attention's arguments lie, and how they become rows of what is computed in.
#pragma once

#include <algorithm>
#include <cstddef>

#include "attention/attention.h"
#include "attention/half.h"
#include "attention/loops.h"

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

  /// rows[j] = the rows of x from `first` bytes on; as T in `space` if they are half.
  void load_rows(const Rows<const void>& x, std::ptrdiff_t first, std::size_t count,
                 std::size_t dim, const T** rows, T* space) const {
    const char* from = static_cast<const char*>(x.data) + first;
    const std::ptrdiff_t step = bytes_to(x, 0, 0, 1);
    for (std::size_t j = 0; j < count; ++j, from += step)
      rows[j] = is_half ? widened(from, dim, space + j * dim) : reinterpret_cast<const T*>(from);
  }
  /// The same for rows that lie anywhere.
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
