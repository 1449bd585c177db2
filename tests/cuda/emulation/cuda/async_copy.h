// csrc/cuda/async_copy.h on the processor: a copy happens as late as it may, when its thread waits
// for it, so that a wait that is missing shows.
#pragma once

#include <cstring>
#include <map>
#include <vector>

#include "cuda_runtime.h"

namespace logitkit::cuda {
namespace emulated {

struct Copy {
  void* to;
  const void* from;
  int count;
};

// Of the threads of the block that runs, by their number.
inline std::map<unsigned, std::vector<Copy>> copies;

inline unsigned thread() {
  return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}

}  // namespace emulated

inline void copy_async(void* to, const void* from, int count) {
  emulation::require_aligned(to, 16);
  emulation::require_aligned(from, 16);
  emulation::require(count >= 0 && count <= 16, "a copy of other than 0 to 16 bytes");
  emulated::copies[emulated::thread()].push_back({to, from, count});
}

inline void wait_for_copies() {
  auto& copies = emulated::copies[emulated::thread()];
  for (const emulated::Copy& copy : copies) {
    std::memset(copy.to, 0, 16);
    if (copy.count > 0) std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.count));
  }
  copies.clear();
}

}  // namespace logitkit::cuda
