// Attention of one row by one warp: in any type and of any dimension, exact in all special cases
// and slow. It serves where tensor cores do not, and where a value is infinite or NaN that not all
// rows of a tile see.
#pragma once

#include "attention/logits_cuda.h"

namespace logitkit::cuda {

/// The elements of memory that the warp of a row needs.
template <class S>
__host__ __device__ inline int row_memory(const AttentionInput<S>& in) {
  return in.head_dim + in.value_dim;
}

template <class T, class S>
__device__ T dot(const T* a, const S* b, int n) {
  T sum = 0;
#pragma unroll 4
  for (int d = 0; d < n; ++d) sum += a[d] * static_cast<T>(load(b[d]));
  return sum;
}

template <class S, class T>
__device__ void widen_row(const S* from, int n, T factor, T* to) {
#pragma unroll 1
  for (int d = threadIdx.x % warp_size; d < n; d += warp_size)
    to[d] = static_cast<T>(load(from[d])) * factor;
}

template <class T>
__device__ T warp_sum(T x) {
  return reduce_lanes<warp_size>(x, [](T a, T b) { return a + b; });
}

/// Row `row` of a head; `memory` is shared by the warp alone.
template <class S>
__device__ __noinline__ void attend_row(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                                        const Sequence& s, int head, int row, Compute<S>* memory) {
  using T = Compute<S>;
  const int lane = threadIdx.x % warp_size, key_head = head / (in.heads / in.key_heads);
  const std::int64_t batch = static_cast<std::int64_t>(s.query_batch);
  const std::int64_t place = static_cast<std::int64_t>(s.first_query) + row;
  T *query = memory, *sums_of_values = memory + in.head_dim;
  __syncwarp();
  widen_row(at(in.query, batch, head, place), in.head_dim, T(1), query);
#pragma unroll 1
  for (int d = lane; d < in.value_dim; d += warp_size) sums_of_values[d] = 0;
  __syncwarp();
  const T scale = scale_of(in, s, head, row);
  const KeyRange seen = keys_seen(in, s, row);
  RowSums<T> sums = {-infinity<T>(), 0, 0};
  constexpr int step = warp_size;
#pragma unroll 1
  for (int first = seen.begin / step * step; first < seen.end; first += step) {
    const int j = first + lane;
    const LogitRow<false, S> logit(in, s, head, row, first, scale);
    T z = -infinity<T>();
    if (seen.holds(j)) {
      const T score = dot(query, key_row(in, in.key, s, key_head, j), in.head_dim);
      z = logit(in, lane, score).value;
    }
    const T largest = reduce_lanes<warp_size>(z, [](T a, T b) { return fmax(a, b); });
    const T factor = raise(sums, fmax(sums.max, largest));
    const T down = z - shift_of(sums.max), weight = exponential(down);
    sums.sum += warp_sum(weight);
    sums.mean += warp_sum(weight > T(0) ? weight * down : T(0));
#pragma unroll 1
    for (int d = lane; d < in.value_dim; d += warp_size) sums_of_values[d] *= factor;
#pragma unroll 1
    for (int k = 0; k < step; ++k) {
      const T of_key = __shfl_sync(all_lanes, weight, k);
      if (of_key == T(0)) continue;
      const S* value = key_row(in, in.value, s, key_head, first + k);
#pragma unroll 1
      for (int d = lane; d < in.value_dim; d += warp_size)
        sums_of_values[d] += of_key * static_cast<T>(load(value[d]));
    }
  }
  const T factor = finish_row(in, out, s, head, row, sums, lane == 0);
  S* to = at(out.out, batch, head, place);
#pragma unroll 1
  for (int d = lane; d < in.value_dim; d += warp_size)
    to[d] = stored<S>(factor == T(0) ? T(0) : sums_of_values[d] * factor);
}

}  // namespace logitkit::cuda
