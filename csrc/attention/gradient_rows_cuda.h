// The gradient of attention of one row of queries, or of one key, by one warp: see rows_cuda.h.
#pragma once

#include "attention/rows_cuda.h"

namespace logitkit::cuda {

/// What the gradient needs of a row of queries.
template <class T>
struct alignas(4 * sizeof(T)) GradientRow {
  T logsumexp;  // in units of logit_unit; infinite if the row saw nothing
  T term;       // grad_logsumexp - sum P dP - grad_entropy entropy
  T slope;      // grad_entropy, times logit_unit
  T scale;
};

/// The rows of GradientRow, like those of the queries.
template <class T>
struct GradientRows {
  GradientRow<T>* data;
  std::int64_t heads, rows;

  __device__ GradientRow<T>& at(const Sequence& s, int head, int row) const {
    return data[(static_cast<std::int64_t>(s.query_batch) * heads + head) * rows +
                static_cast<std::int64_t>(s.first_query) + row];
  }
};

/// The weight of a logit and the gradient with respect to it.
template <class T>
struct Graded {
  T weight, gradient;
};

template <class T>
__device__ Graded<T> graded(const GradientRow<T>& row, T logit, T grad_weight) {
  const T log_weight = logit - row.logsumexp, weight = exponential(log_weight);
  if (weight == T(0)) return {T(0), T(0)};
  return {weight, weight * (grad_weight + row.term - row.slope * log_weight)};
}

template <class S>
__device__ void write_logit(const AttentionGradient<S>& g, const Sequence& s, int head, int row,
                            int j, Compute<S> gradient) {
  g.grad_logits[static_cast<std::int64_t>(s.query_batch) * g.logits_batch + head * g.logits_head +
                row * g.logits_row + j] = gradient;
}

template <class S>
__host__ __device__ inline int gradient_memory(const AttentionInput<S>& in) {
  return 2 * (in.head_dim + in.value_dim);
}

template <class T>
__device__ void clear(T* x, int n) {
#pragma unroll 1
  for (int d = threadIdx.x % warp_size; d < n; d += warp_size) x[d] = 0;
}

template <class T, class S>
__device__ void add_row(T weight, const S* row, int n, T* sums) {
#pragma unroll 1
  for (int d = threadIdx.x % warp_size; d < n; d += warp_size)
    sums[d] += weight * static_cast<T>(load(row[d]));
}

template <class S, class T>
__device__ void write_row(const T* row, int n, T factor, S* to) {
#pragma unroll 1
  for (int d = threadIdx.x % warp_size; d < n; d += warp_size) to[d] = stored<S>(row[d] * factor);
}

/// Of row `row` of a head: those of its query, scale and logits.
template <class S>
__device__ __noinline__ void grade_query(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                                         const GradientRows<Compute<S>>& rows, const Sequence& s,
                                         int head, int row, Compute<S>* memory) {
  using T = Compute<S>;
  const int lane = threadIdx.x % warp_size, key_head = head / (in.heads / in.key_heads);
  const std::int64_t batch = static_cast<std::int64_t>(s.query_batch);
  const std::int64_t place = static_cast<std::int64_t>(s.first_query) + row;
  const GradientRow<T> of_row = rows.at(s, head, row);
  T *query = memory, *sums = query + in.head_dim, *grad_out = sums + in.head_dim;
  __syncwarp();
  widen_row(at(in.query, batch, head, place), in.head_dim, T(1), query);
  widen_row(at(g.grad_out, batch, head, place), in.value_dim, T(1), grad_out);
  clear(sums, in.head_dim);
  __syncwarp();
  const KeyRange seen = keys_seen(in, s, row);
  constexpr int step = warp_size;
#pragma unroll 1
  for (int first = seen.begin / step * step; first < seen.end; first += step) {
    const int j = first + lane;
    const LogitRow<false, S> logit(in, s, head, row, first, of_row.scale);
    T gradient = 0;
    if (seen.holds(j)) {
      const T score = dot(query, key_row(in, in.key, s, key_head, j), in.head_dim);
      const T grad_weight = dot(grad_out, key_row(in, in.value, s, key_head, j), in.value_dim);
      const Logit<T> z = logit(in, lane, score);
      gradient = graded(of_row, z.value, grad_weight).gradient;
      if (g.grad_logits != nullptr) write_logit(g, s, head, row, j, gradient);
      gradient *= z.derivative;
    }
#pragma unroll 1
    for (int k = 0; k < step; ++k) {
      const T of_key = __shfl_sync(all_lanes, gradient, k);
      if (of_key != T(0))
        add_row(of_key, key_row(in, in.key, s, key_head, first + k), in.head_dim, sums);
    }
  }
  T of_scale = 0;
#pragma unroll 1
  for (int d = lane; d < in.head_dim; d += warp_size) of_scale += query[d] * sums[d];
  of_scale = warp_sum(of_scale);
  const bool empty = of_row.logsumexp == infinity<T>();
  if (g.grad_scale.data != nullptr && lane == 0)
    *at(g.grad_scale, batch, head, place) = empty ? T(0) : of_scale;
  write_row(sums, in.head_dim, of_row.scale, at(g.grad_query, batch, head, place));
}

/// Of key j of a head of keys, and of its value.
template <class S>
__device__ void grade_key(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                          const GradientRows<Compute<S>>& rows, const Sequence& s, int key_head,
                          int j, Compute<S>* memory) {
  using T = Compute<S>;
  const int lane = threadIdx.x % warp_size, group = in.heads / in.key_heads;
  const std::int64_t batch = static_cast<std::int64_t>(s.query_batch);
  T *key = memory, *key_sums = key + in.head_dim, *value = key_sums + in.head_dim,
    *value_sums = value + in.value_dim;
  widen_row(key_row(in, in.key, s, key_head, j), in.head_dim, T(1), key);
  widen_row(key_row(in, in.value, s, key_head, j), in.value_dim, T(1), value);
  clear(key_sums, in.head_dim);
  clear(value_sums, in.value_dim);
  __syncwarp();
  const KeyRange seeing = queries_seeing(in, s, j);
  const auto query_row = [&](const Rows<const S>& x, int head, int i) {
    return at(x, batch, head, static_cast<std::int64_t>(s.first_query) + i);
  };
  constexpr int step = warp_size;
#pragma unroll 1
  for (int head = key_head * group; head < (key_head + 1) * group; ++head)
#pragma unroll 1
    for (int first = seeing.begin / step * step; first < seeing.end; first += step) {
      const int i = first + lane;
      Graded<T> mine = {0, 0};
      if (seeing.holds(i)) {
        const GradientRow<T> of_row = rows.at(s, head, i);
        const LogitRow<false, S> logit(in, s, head, i, j, of_row.scale);
        const Logit<T> z = logit(in, 0, dot(key, query_row(in.query, head, i), in.head_dim));
        mine = graded(of_row, z.value, dot(value, query_row(g.grad_out, head, i), in.value_dim));
        mine.gradient *= z.derivative * of_row.scale;
      }
#pragma unroll 1
      for (int k = 0; k < step; ++k) {
        const T weight = __shfl_sync(all_lanes, mine.weight, k);
        const T gradient = __shfl_sync(all_lanes, mine.gradient, k);
        if (weight == T(0)) continue;
        add_row(weight, query_row(g.grad_out, head, first + k), in.value_dim, value_sums);
        add_row(gradient, query_row(in.query, head, first + k), in.head_dim, key_sums);
      }
    }
  const std::int64_t key_batch = static_cast<std::int64_t>(s.key_batch);
  const std::int64_t place = static_cast<std::int64_t>(s.first_key) + j;
  write_row(key_sums, in.head_dim, T(1), at(g.grad_key, key_batch, key_head, place));
  write_row(value_sums, in.value_dim, T(1), at(g.grad_value, key_batch, key_head, place));
}

}  // namespace logitkit::cuda
