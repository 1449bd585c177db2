// Floats on 64-byte boundaries, for panels and tiles.
#pragma once

#include <cstddef>
#include <vector>

namespace logitkit {

class Scratch {
 public:
  explicit Scratch(std::size_t floats) : lines_((floats + 15) / 16) {}
  float* data() { return lines_.data()->floats; }
  const float* data() const { return lines_.data()->floats; }

 private:
  struct alignas(64) Line {
    float floats[16];
  };
  std::vector<Line> lines_;
};

}  // namespace logitkit
