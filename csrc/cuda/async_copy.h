// Copies from the memory of the device to that of a block which run while their thread goes on
// (cp.async, compute capability 8.0; an older device copies at once). tests/cuda/emulation has
// the same for the processor.
#pragma once

#include <cuda_runtime.h>

namespace logitkit::cuda {

/// Copies `count` of 16 bytes and sets the others to 0; both addresses are multiples of 16.
__device__ inline void copy_async(void* to, const void* from, int count) {
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(count)
               : "memory");
#else
  uint4 words = {0, 0, 0, 0};
  if (count == 16)
    words = *static_cast<const uint4*>(from);
  else
    for (int k = 0; k < count; k += 2)  // no element is smaller
      reinterpret_cast<unsigned short*>(&words)[k / 2] =
          static_cast<const unsigned short*>(from)[k / 2];
  *static_cast<uint4*>(to) = words;
#endif
}

/// Waits for the copies of this thread; a barrier after it, for those of its block.
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace logitkit::cuda
