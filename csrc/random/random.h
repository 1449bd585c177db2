// Random numbers, and choices by them, that depend on a seed, a step, a row and a position alone.
// Specification: python/logitkit/reference/_philox.py and _gumbel.py
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"
#include "random/philox.h"

namespace logitkit {

enum class Law { uniform, exponential, gumbel, normal };

/// Which rows of which stream; `row_ids` has as many ids as there are rows.
struct Rows {
  std::uint64_t seed;
  std::uint32_t step;
  const std::int64_t* row_ids;
  std::size_t count;
};

/// out[r * count + j] = the 64 bits of element j of row r. `threads` = 0 means default_threads();
/// no result here depends on it, nor on which rows are drawn together.
void random_bits(const Rows& rows, std::size_t count, std::uint64_t* out, std::size_t threads,
                 Isa isa);

/// The same for numbers of a law. T is float or double.
///   Error:  e (1 + |result|), against the reference; e = 2^-21 in float and 2^-50 in double. All
///           instruction sets give the same bits.
///   Range:  uniform [2^-65, 1), exponential [2^-65, 45.06], gumbel [-3.81, 45.06],
///           normal [-9.5, 9.5]
template <class T>
void random_numbers(Law law, const Rows& rows, std::size_t count, T* out, std::size_t threads,
                    Isa isa);

/// indices[r] = the j of the largest logits[r * count + j] + Gumbel noise of element j, the first
/// of equal ones; -1 if all logits are -inf, or one is NaN or +inf. count > 0.
///   Traffic:  one read of the logits from memory.
template <class T>
void gumbel_argmax(const T* logits, const Rows& rows, std::size_t count, std::int64_t* indices,
                   std::size_t threads, Isa isa);

/// The k <= count largest of these in descending order: values[r * k + i], indices[r * k + i].
/// Where fewer logits than k are above -inf, the rest is -inf, -1; where one is NaN or +inf, all
/// of the row is NaN, -1. Extra memory is that of the k largest of each 16384 logits.
template <class T>
void gumbel_top_k(const T* logits, const Rows& rows, std::size_t count, std::size_t k, T* values,
                  std::int64_t* indices, std::size_t threads, Isa isa);

}  // namespace logitkit
