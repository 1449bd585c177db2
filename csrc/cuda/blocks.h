// How many blocks of threads a kernel has, and what has to be asked for their memory.
#pragma once

#include <cstddef>

namespace logitkit::cuda {

/// The blocks of a launch along each direction.
struct Blocks {
  std::size_t x = 1, y = 1, z = 1;

  bool none() const { return x == 0 || y == 0 || z == 0; }
  /// Whether a grid may have so many, on any device.
  bool fit() const {
    constexpr std::size_t most_along_x = (std::size_t{1} << 31) - 1, most = 65535;
    return x <= most_along_x && y <= most && z <= most;
  }
};

/// The memory that the threads of a block share without being asked for, in all.
constexpr std::size_t shared_without_asking = 48 << 10;

/// Whether a kernel has to be allowed so much memory at its launch, beside the arrays that it
/// declares. The compiler knows how large these are, and here nobody does: of 8 KiB at most, where
/// there is both.
inline bool must_ask_for(std::size_t shared_bytes) {
  constexpr std::size_t declared = 8 << 10;
  return shared_bytes > shared_without_asking - declared;
}

/// How many groups of `size` hold `count`.
inline std::size_t groups_of(std::size_t count, std::size_t size) {
  return (count + size - 1) / size;
}

}  // namespace logitkit::cuda
