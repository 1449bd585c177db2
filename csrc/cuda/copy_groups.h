// Groups of asynchronous copies, of which a thread has several under way. tests/cuda/emulation
// has the same for the processor.
#pragma once

#include "cuda/async_copy.h"

namespace logitkit::cuda {

/// Ends a group of copies of this thread; it may be empty.
__device__ inline void end_copy_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits for all groups of this thread but the last `pending`.
template <int pending>
__device__ void wait_for_groups() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

}  // namespace logitkit::cuda
