// Memory that a task of attention works in.
#pragma once

#include <cstddef>
#include <vector>

#include "aligned.h"

namespace logitkit {

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
