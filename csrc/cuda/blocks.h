// How many blocks of threads a kernel has.
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

/// How many groups of `size` hold `count`.
inline std::size_t groups_of(std::size_t count, std::size_t size) {
  return (count + size - 1) / size;
}

}  // namespace logitkit::cuda
