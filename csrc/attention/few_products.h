// Products of so few queries that lanes are dimensions. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/lanes.h"
#include "simd/prefetch.h"

namespace logitkit {
namespace {

/// How many bytes ahead rows are asked for where memory is what takes the time. Keys are read in
/// blocks of V::width rows, and less ahead is better for them. Found by measuring 64 dimensions.
constexpr size_t key_bytes_ahead = 2048, value_bytes_ahead = 5120;

/// The scores of V::width keys against one query.
template <class V>
inline V score_few_keys(const typename V::Element* query, const typename V::Element* const* keys,
                        size_t depth) {
  V sum[V::width];
#pragma GCC unroll 16
  for (size_t j = 0; j < V::width; ++j) sum[j] = V::all(0);
  size_t d = 0;
  for (; d + V::width <= depth; d += V::width) {
    const V element = V::load(query + d);
#pragma GCC unroll 16
    for (size_t j = 0; j < V::width; ++j)
      sum[j] = multiply_add(element, V::load(keys[j] + d), sum[j]);
  }
  if (d < depth)
    for (size_t j = 0; j < V::width; ++j)
      sum[j] = multiply_add(V::load(query + d), load_columns<V>(keys[j] + d, depth - d), sum[j]);
  return sums_of_lanes(sum);
}

template <class V>
void score_few(const typename V::Element* queries, size_t rows, size_t stride,
               const typename V::Element* const* keys, size_t count, size_t depth,
               typename V::Element* tile) {
  const typename V::Element* some[V::width];
  for (size_t j = 0; j < count; j += V::width) {
    const size_t n = count - j < V::width ? count - j : V::width;
    for (size_t k = 0; k < V::width; ++k) {
      some[k] = keys[j + (k < n ? k : n - 1)];
      // Rows of one head usually lie one after the other.
      for (size_t d = 0; d < depth; d += 64 / sizeof(typename V::Element))
        prefetch(some[k] + d + key_bytes_ahead / sizeof(typename V::Element));
    }
    for (size_t i = 0; i < rows; ++i) {
      typename V::Element scores[V::width];
      score_few_keys<V>(queries + i * stride, some, depth).store(scores);
      for (size_t k = 0; k < n; ++k) tile[(j + k) * lanes_of<V> + i] = scores[k];
    }
  }
}

/// Up to `vectors` vectors of dimensions of the weighted sum of values for one query.
template <class V, size_t vectors>
inline void weigh_few_dims(const typename V::Element* weights,
                           const typename V::Element* const* values, size_t dim, size_t count,
                           size_t depth, typename V::Element factor, typename V::Element* out) {
  V even[vectors], odd[vectors];
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; ++v) even[v] = odd[v] = V::all(0);
  const auto add = [&](size_t j, V(&sum)[vectors]) {
    const V weight = V::all(weights[j * lanes_of<V>]);
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      const size_t d = dim + v * V::width;
      prefetch(values[j] + d + value_bytes_ahead / sizeof(typename V::Element));
      sum[v] = multiply_add(weight, load_columns<V>(values[j] + d, depth - d), sum[v]);
    }
  };
  size_t j = 0;
  for (; j + 2 <= count; j += 2) {
    add(j, even);
    add(j + 1, odd);
  }
  if (j < count) add(j, even);
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; ++v) {
    typename V::Element* to = out + dim + v * V::width;
    multiply_add(V::load(to), V::all(factor), even[v] + odd[v]).store(to);
  }
}

template <class V>
void weigh_few(const typename V::Element* tile, size_t rows,
               const typename V::Element* const* values, size_t count, size_t depth,
               const typename V::Element* factor, typename V::Element* out, size_t stride) {
  for (size_t i = 0; i < rows; ++i)
    for (size_t d = 0; d < depth;) {
      if (depth - d > 3 * V::width) {
        weigh_few_dims<V, 4>(tile + i, values, d, count, depth, factor[i], out + i * stride);
        d += 4 * V::width;
      } else {
        weigh_few_dims<V, 1>(tile + i, values, d, count, depth, factor[i], out + i * stride);
        d += V::width;
      }
    }
}

}  // namespace
}  // namespace logitkit
