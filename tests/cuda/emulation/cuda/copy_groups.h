// csrc/cuda/copy_groups.h on the processor: a copy happens when its group is waited for.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <vector>

#include "cuda/async_copy.h"

namespace logitkit::cuda {
namespace emulated {

// Of the threads of the block that runs: how many copies each of their groups has.
inline std::map<unsigned, std::vector<std::size_t>> group_sizes;

}  // namespace emulated

inline void end_copy_group() {
  auto& sizes = emulated::group_sizes[emulated::thread()];
  std::size_t size = emulated::copies[emulated::thread()].size();
  for (const std::size_t before : sizes) size -= before;
  sizes.push_back(size);
}

template <int pending>
void wait_for_groups() {
  auto& sizes = emulated::group_sizes[emulated::thread()];
  auto& copies = emulated::copies[emulated::thread()];
  while (sizes.size() > pending) {
    const auto end = copies.begin() + static_cast<std::ptrdiff_t>(sizes.front());
    for (auto copy = copies.begin(); copy != end; ++copy) {
      std::memset(copy->to, 0, 16);
      if (copy->count > 0) std::memcpy(copy->to, copy->from, static_cast<std::size_t>(copy->count));
    }
    copies.erase(copies.begin(), end);
    sizes.erase(sizes.begin());
  }
}

}  // namespace logitkit::cuda
