// csrc/cuda/launch.h on the processor.
#pragma once

#include <cstddef>
#include <tuple>

#include "cuda/blocks.h"
#include "cuda_runtime.h"

namespace logitkit::cuda {

struct Launch {
  Blocks grid;
  dim3 block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  struct Context {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } context = {kernel, {arguments...}};
  if (how.grid.none()) return cudaSuccess;
  if (!how.grid.fit()) return cudaErrorInvalidConfiguration;
  constexpr unsigned most_threads = 1024;
  constexpr std::size_t of_kernel = 64;  // shared memory of its own, which cannot be known here
  const std::size_t threads = std::size_t{how.block.x} * how.block.y * how.block.z;
  const auto most_bytes = static_cast<std::size_t>(emulation::most_shared_bytes());
  if (threads == 0 || threads > most_threads || how.shared_bytes + of_kernel > most_bytes)
    return emulation::failed(cudaErrorInvalidValue);
  emulation::run(
      dim3(static_cast<unsigned>(how.grid.x), static_cast<unsigned>(how.grid.y),
           static_cast<unsigned>(how.grid.z)),
      how.block, how.shared_bytes,
      [](void* given) {
        const auto& call = *static_cast<Context*>(given);
        std::apply(call.kernel, call.arguments);
      },
      &context);
  return cudaGetLastError();
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::shared_bytes());
}

}  // namespace logitkit::cuda
