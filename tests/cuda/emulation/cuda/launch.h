// csrc/cuda/launch.h on the processor.
#pragma once

#include <cstddef>
#include <tuple>

#include "cuda_runtime.h"

namespace logitkit::cuda {

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  struct Context {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } context = {kernel, {arguments...}};
  constexpr unsigned most_threads = 1024, most_blocks = 65535;
  const std::size_t threads = std::size_t{how.block.x} * how.block.y * how.block.z;
  if (threads == 0 || threads > most_threads || how.grid.y > most_blocks ||
      how.grid.z > most_blocks || how.shared_bytes > (99 << 10))
    return cudaErrorInvalidValue;
  emulation::run(
      how.grid, how.block, how.shared_bytes,
      [](void* given) {
        const auto& call = *static_cast<Context*>(given);
        std::apply(call.kernel, call.arguments);
      },
      &context);
  return cudaSuccess;
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::shared_bytes());
}

}  // namespace logitkit::cuda
