// Memory on 64-byte boundaries that a task of attention works in.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace logitkit {

/// `count` elements that begin a cache line; not initialised.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t count) : lines_(new Line[(count * sizeof(T) + 63) / 64 + 1]) {}
  T* data() { return reinterpret_cast<T*>(lines_.get()); }

 private:
  struct alignas(64) Line {
    unsigned char bytes[64];
  };
  std::unique_ptr<Line[]> lines_;
};

/// Arrays that live as long as the arena.
template <class T>
class Arena {
 public:
  T* take(std::size_t count) {
    blocks_.emplace_back(count);
    return blocks_.back().data();
  }

 private:
  std::vector<Aligned<T>> blocks_;
};

}  // namespace logitkit
