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
  // What attention declares beside it (blocks_cuda.h), for all, as it cannot be known here.
  constexpr std::size_t declared = 64;
  const std::size_t threads = std::size_t{how.block.x} * how.block.y * how.block.z;
  const std::size_t most_bytes = must_ask_for(how.shared_bytes)
                                     ? static_cast<std::size_t>(emulation::most_shared_bytes())
                                     : shared_without_asking;
  if (threads == 0 || threads > most_threads || how.shared_bytes + declared > most_bytes)
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
