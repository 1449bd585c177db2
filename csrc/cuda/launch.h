// How kernels are launched. tests/cuda/emulation has the same for the processor.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "cuda/blocks.h"

namespace logitkit::cuda {

/// The grid and the blocks of a launch, and where it goes.
struct Launch {
  Blocks grid;
  dim3 block;
  std::size_t shared_bytes;  // of dynamic_shared()
  cudaStream_t stream;
};

/// Queues kernel(arguments...) on the stream. An empty grid is no error and runs nothing; one with
/// more blocks than there can be is an error.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  if (how.grid.none()) return cudaSuccess;
  if (!how.grid.fit()) return cudaErrorInvalidConfiguration;
  if (must_ask_for(how.shared_bytes)) {
    const cudaError_t status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(how.shared_bytes));
    if (status != cudaSuccess) return status;
  }
  const dim3 grid(static_cast<unsigned>(how.grid.x), static_cast<unsigned>(how.grid.y),
                  static_cast<unsigned>(how.grid.z));
  kernel<<<grid, how.block, how.shared_bytes, how.stream>>>(arguments...);
  return cudaGetLastError();
}

/// The memory that the threads of a block share, whose size is said at the launch.
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char shared[];
  return reinterpret_cast<T*>(shared);
}

}  // namespace logitkit::cuda
