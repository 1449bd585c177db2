// Reductions over the threads of a warp and of a block, always in the same order.
#pragma once

#include <cuda_runtime.h>

namespace logitkit::cuda {

constexpr unsigned warp_size = 32;
constexpr unsigned all_lanes = ~0u;

/// The value of the lane whose number differs in `mask`, for whatever may be copied word by word.
template <class T>
__device__ T exchanged(T value, unsigned mask) {
  constexpr int count = sizeof(T) / sizeof(int);
  static_assert(sizeof(T) % sizeof(int) == 0, "whole words");
  int words[count];
  memcpy(words, &value, sizeof(T));
#pragma unroll
  for (int k = 0; k < count; ++k) words[k] = __shfl_xor_sync(all_lanes, words[k], mask);
  memcpy(&value, words, sizeof(T));
  return value;
}

/// What merge(a, b) makes of the values of the `width` lanes of a group, in each of them; width
/// is a power of two up to warp_size.
template <unsigned width, class T, class Merge>
__device__ T reduce_lanes(T value, const Merge& merge) {
#pragma unroll
  for (unsigned mask = width / 2; mask > 0; mask /= 2) {
    // The lower lane first on both sides, so that both get the same bits.
    const T other = exchanged(value, mask);
    value = (threadIdx.x & mask) ? merge(other, value) : merge(value, other);
  }
  return value;
}

/// The same over a block of `threads` threads along x, in each of them; `of_warp` is shared
/// memory for threads / warp_size values, which may be used again after the next barrier.
template <unsigned threads, class T, class Merge>
__device__ T reduce_block(T value, T* of_warp, const Merge& merge) {
  static_assert(threads % warp_size == 0 && threads <= warp_size * warp_size, "whole warps");
  value = reduce_lanes<warp_size>(value, merge);
  if constexpr (threads > warp_size) {
    constexpr unsigned warps = threads / warp_size;
    if (threadIdx.x % warp_size == 0) of_warp[threadIdx.x / warp_size] = value;
    __syncthreads();
    value = reduce_lanes<warps>(of_warp[threadIdx.x % warps], merge);
  }
  return value;
}

}  // namespace logitkit::cuda
