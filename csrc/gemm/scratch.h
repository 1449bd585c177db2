// Floats on 64-byte boundaries, for panels and tiles; not initialised.
#pragma once

#include <cstddef>
#include <memory>

namespace logitkit {

class Scratch {
 public:
  explicit Scratch(std::size_t floats) : lines_(new Line[(floats + 15) / 16]) {}
  float* data() { return lines_[0].floats; }
  const float* data() const { return lines_[0].floats; }

 private:
  struct alignas(64) Line {
    float floats[16];
  };
  std::unique_ptr<Line[]> lines_;
};

}  // namespace logitkit
