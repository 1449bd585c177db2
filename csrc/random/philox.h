// Philox 4x32-10: which numbers a counter and a key give. Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
#pragma once

#include <cstddef>
#include <cstdint>

namespace logitkit {

/// The keys of the ten rounds, a word in the low half of each, and what else rows share.
struct PhiloxStream {
  std::uint64_t key[2][10];
  std::uint64_t step;
};

/// The stream of a seed at a step.
PhiloxStream philox_stream(std::uint64_t seed, std::uint32_t step);

/// Elements first, first + 1, ... of a row; `first` must be even. Elements 2 b and 2 b + 1 are
/// the words of the counter (b, row mod 2^32, row / 2^32, step), two each, the low one first.
struct Draw {
  const PhiloxStream* stream;
  std::uint64_t row;
  std::uint64_t first;
  std::size_t count;
};

}  // namespace logitkit
