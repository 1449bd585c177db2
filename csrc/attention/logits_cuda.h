// What the kernels of attention on a GPU share: where rows lie, what they see, and logits.
#pragma once

#include <cstdint>

#include "attention/attention_cuda.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "cuda/mma.h"
#include "cuda/warp.h"

namespace logitkit::cuda {

// Logits are computed in units of ln 2 where exponentials are powers of 2, in units of 1 else.
template <class T>
constexpr T per_logit = T(1);
template <>
constexpr float per_logit<float> = 1.4426950408889634f;
template <class T>
constexpr T logit_unit = T(1);
template <>
constexpr float logit_unit<float> = 0.6931471805599453f;

__device__ inline float exponential(float z) { return fast_exp2(z); }
__device__ inline double exponential(double z) { return exp(z); }

template <class Data>
__device__ Data* at(const Rows<Data>& x, std::int64_t batch, std::int64_t head, std::int64_t row) {
  return x.data + batch * x.batch + head * x.head + row * x.row;
}

template <class S>
__device__ Sequence sequence_at(const AttentionInput<S>& in, std::size_t index) {
  if (in.sequences != nullptr) return in.sequences[index];
  Sequence s = in.alike;
  s.query_batch = s.key_batch = index;
  return s;
}

/// The address of key or value j of a sequence.
template <class S>
__device__ const S* key_row(const AttentionInput<S>& in, const Rows<const S>& x, const Sequence& s,
                            int key_head, int j) {
  if (in.block_table == nullptr)
    return at(x, static_cast<std::int64_t>(s.key_batch), key_head,
              static_cast<std::int64_t>(s.first_key) + j);
  const std::int64_t place = static_cast<std::int64_t>(s.key_batch) * in.max_blocks;
  const int block = j / in.block_size;
  return at(x, in.block_table[place + block], key_head, j - block * in.block_size);
}

/// The keys from `begin` to `end`.
struct KeyRange {
  int begin, end;
  __device__ bool holds(int j) const { return begin <= j && j < end; }
};

__device__ inline int clamped(std::int64_t x, std::int64_t most) {
  return static_cast<int>(x < 0 ? 0 : x > most ? most : x);
}

template <class S>
__device__ KeyRange keys_seen(const AttentionInput<S>& in, const Sequence& s, int query) {
  const std::int64_t position = query + s.offset, keys = static_cast<std::int64_t>(s.keys);
  return {clamped(position - in.left, keys), clamped(position + in.right + 1, keys)};
}

/// The queries that see a key, but for masks and terms.
template <class S>
__device__ KeyRange queries_seeing(const AttentionInput<S>& in, const Sequence& s, int j) {
  const std::int64_t query = j - s.offset, queries = static_cast<std::int64_t>(s.queries);
  return {clamped(query - in.right, queries), clamped(query + in.left + 1, queries)};
}

template <class T>
struct Logit {
  T value;       // in units of logit_unit
  T derivative;  // of softcap tanh(x / softcap)
};

/// What makes logits of the scores of one row, for keys from some key `first` on. `plain`: there
/// is no cap, slope, mask or term.
template <bool plain, class S>
struct LogitRow {
  using T = Compute<S>;
  T scale, slope, distance;  // of the first key, signed
  const std::uint8_t* mask;
  const T* terms[2];

  __device__ LogitRow(const AttentionInput<S>& in, const Sequence& s, int head, int row, int first,
                      T row_scale) {
    scale = row_scale * per_logit<T>;
    if constexpr (!plain) {
      if (in.softcap > T(0)) scale = row_scale / in.softcap;
      slope = in.slopes == nullptr ? T(0) : in.slopes[head] * per_logit<T>;
      distance = static_cast<T>(row + s.offset - first);
      const auto place = [&](const auto& x) {
        return x.data == nullptr ? nullptr
                                 : x.data + static_cast<std::int64_t>(s.query_batch) * x.batch +
                                       head * x.head + row * x.row + first * x.key;
      };
      mask = place(in.mask);
      terms[0] = place(in.terms[0]);
      terms[1] = place(in.terms[1]);
    }
  }

  /// The logit of the k-th key from the first on, -inf if masks or terms hide it.
  __device__ Logit<T> operator()(const AttentionInput<S>& in, int k, T score) const {
    Logit<T> z = {score * scale, T(1)};
    if constexpr (!plain) {
      if (in.softcap > T(0)) {
        const T capped = tanh(z.value);
        z = {in.softcap * per_logit<T> * capped, T(1) - capped * capped};
      }
      if (in.slopes != nullptr) z.value -= slope * fabs(distance - static_cast<T>(k));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (terms[i] == nullptr) continue;
        const T term = terms[i][k * static_cast<int>(in.terms[i].key)];
        z.value = term == -infinity<T>() ? term : z.value + term * per_logit<T>;
      }
      if (mask != nullptr && mask[k * static_cast<int>(in.mask.key)] == 0) z.value = -infinity<T>();
    }
    return z;
  }
};

template <class S>
__device__ Compute<S> scale_of(const AttentionInput<S>& in, const Sequence& s, int head, int row) {
  return *at(in.scale, static_cast<std::int64_t>(s.query_batch), head,
             static_cast<std::int64_t>(s.first_query) + row);
}

/// Sums over the keys of a row: of weights exp(z - shift), where shift is the largest logit if
/// that is finite and 0 else, and of weights times z - shift.
template <class T>
struct RowSums {
  T max, sum, mean;
};

template <class T>
__device__ T shift_of(T max) {
  return isfinite(max) ? max : T(0);
}

/// Moves sums to a larger maximum, and returns what their weights are multiplied by.
template <class T>
__device__ T raise(RowSums<T>& sums, T max) {
  if (sums.max == max) return T(1);
  const bool begun = isfinite(sums.max) && isfinite(max);
  const T down = begun ? sums.max - max : T(0);
  const T factor = begun ? exponential(down) : sums.max == -infinity<T>() ? T(0) : T(1);
  sums.mean = factor * (sums.mean + down * sums.sum);
  sums.sum *= factor;
  sums.max = max;
  return factor;
}

/// The statistics of a row; returns what its sums of values are multiplied by.
template <class S, class T>
__device__ T finish_row(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                        const Sequence& s, int head, int query, RowSums<T> sums, bool writes) {
  const auto batch = static_cast<std::int64_t>(s.query_batch);
  const std::int64_t row = static_cast<std::int64_t>(s.first_query) + query;
  const T max_logit = sums.max * logit_unit<T>;
  T factor = T(1);
  if (in.sinks != nullptr && in.sinks[head] > -infinity<T>()) {
    const T sink = in.sinks[head] * per_logit<T>;
    factor = raise(sums, fmax(sums.max, sink));
    const T down = sink - shift_of(sums.max), weight = exponential(down);
    sums.sum += weight;
    if (weight > T(0)) sums.mean += weight * down;
  }
  const bool empty = sums.sum == T(0);
  if (writes) {
    if (out.max_logit.data != nullptr) *at(out.max_logit, batch, head, row) = max_logit;
    if (out.logsumexp.data != nullptr)
      *at(out.logsumexp, batch, head, row) =
          empty ? -infinity<T>() : shift_of(sums.max) * logit_unit<T> + log(sums.sum);
    if (out.entropy.data != nullptr) {
      const T entropy = log(sums.sum) - logit_unit<T> * (sums.mean / sums.sum);
      *at(out.entropy, batch, head, row) = empty || entropy < T(0) ? T(0) : entropy;
    }
  }
  return empty ? T(0) : factor / sums.sum;
}

}  // namespace logitkit::cuda
