// Memory on 64-byte boundaries.
#pragma once

#include <cstddef>
#include <memory>

namespace logitkit {

/// `count` elements that begin a cache line; not initialised.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t count) : lines_(new Line[(count * sizeof(T) + 63) / 64 + 1]) {}
  T* data() { return reinterpret_cast<T*>(lines_.get()); }
  const T* data() const { return reinterpret_cast<const T*>(lines_.get()); }

 private:
  struct alignas(64) Line {
    unsigned char bytes[64];
  };
  std::unique_ptr<Line[]> lines_;
};

}  // namespace logitkit
