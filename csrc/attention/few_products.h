// Products of panels of so few queries that one vector holds them. Include only from files with
// an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/lanes.h"
#include "simd/prefetch.h"

namespace logitkit {
namespace {

/// The elements of a cache line.
template <class V>
constexpr size_t line = 64 / sizeof(typename V::Element);

/// `share` elements, `n` of which are those of x and the others 0, over and over.
template <class V, size_t share>
inline V repeat_first(const typename V::Element* x, size_t n) {
  typename V::Element some[share] = {};
  for (size_t k = 0; k < n; ++k) some[k] = x[k];
  return V::template repeat<share>(some);
}

/// sum[j] += the products of dimensions [begin, end) of key j, in which `share` dimensions of a
/// query lie side by side in the panel.
template <class V, size_t share, size_t rows>
inline void add_products_of_few(const typename V::Element* queries,
                                const typename V::Element* const (&key)[rows], size_t begin,
                                size_t end, V* sum) {
  size_t d = begin;
#pragma GCC unroll 4
  for (; d + share <= end; d += share) {
    const V query = V::load(queries + d / share * V::width);
#pragma GCC unroll 8
    for (size_t j = 0; j < rows; ++j)
      sum[j] = multiply_add(query, V::template repeat<share>(key[j] + d), sum[j]);
  }
  if (d == end) return;
  const V query = V::load(queries + d / share * V::width);
  for (size_t j = 0; j < rows; ++j)
    sum[j] = multiply_add(query, repeat_first<V, share>(key[j] + d, end - d), sum[j]);
}

/// Asks for all of a row. Where rows are asked for one after another, in the order of their
/// addresses, hardware that looks for streams finds them.
template <class V>
inline void prefetch_row(const typename V::Element* row, size_t depth) {
  for (size_t d = 0; d < depth; d += line<V>) prefetch_far(row + d);
}

/// The scores of `rows` keys against a panel: scores[key][query]. Neighbouring lanes are added
/// until each has a score.
template <class V, size_t share, size_t rows>
inline void score_few_rows(const typename V::Element* queries,
                           const typename V::Element* const* keys, size_t depth,
                           typename V::Element* scores) {
  // Keys are read in the order of their addresses where one has so few products that several are
  // under way at a time; otherwise as many go side by side as have their addresses in registers.
  constexpr size_t at_once = share >= 8 ? 1 : 8;
  static_assert(rows - 1 + at_once + keys_ahead <= rows_ahead, "what is asked for is listed");
  V sum[rows];
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j) sum[j] = V::all(0);
#pragma GCC unroll 16
  for (size_t first = 0; first < rows; first += at_once) {
    const typename V::Element* key[at_once];
#pragma GCC unroll 8
    for (size_t j = 0; j < at_once; ++j) {
      key[j] = keys[first + j];
      prefetch_row<V>(keys[first + j + at_once + keys_ahead], depth);
    }
    const size_t step = at_once > 1 ? line<V> : depth;
    for (size_t d = 0; d < depth; d += step)
      add_products_of_few<V, share, at_once>(queries, key, d, d + step < depth ? d + step : depth,
                                             sum + first);
  }
  if constexpr (share > 1)
#pragma GCC unroll 4
    for (size_t left = rows / 2; left >= rows / share; left /= 2)
#pragma GCC unroll 8
      for (size_t j = 0; j < left; ++j) sum[j] = sums_of_pairs(sum[2 * j], sum[2 * j + 1]);
#pragma GCC unroll 8
  for (size_t j = 0; j < rows / share; ++j) sum[j].store(scores + j * V::width);
}

template <class V, size_t share>
void score_few_of(const typename V::Element* queries, const typename V::Element* const* keys,
                  size_t count, size_t depth, typename V::Element* tile, size_t tile_stride) {
  constexpr size_t rows = share < 8 ? 8 : share, lanes = V::width / share;
  for (size_t j = 0; j < count; j += rows) {
    const size_t n = count - j < rows ? count - j : rows;
    if (n == rows && tile_stride == lanes) {
      score_few_rows<V, share, rows>(queries, keys + j, depth, tile + j * lanes);
      continue;
    }
    alignas(64) typename V::Element scores[rows * lanes];
    score_few_rows<V, share, rows>(queries, keys + j, depth, scores);
    for (size_t k = 0; k < n; ++k)
      for (size_t i = 0; i < lanes; ++i) tile[(j + k) * tile_stride + i] = scores[k * lanes + i];
  }
}

template <class V, size_t share = V::width>
void score_few(const typename V::Element* queries, size_t rows,
               const typename V::Element* const* keys, size_t count, size_t depth,
               typename V::Element* tile, size_t tile_stride) {
  if constexpr (share > 1)
    if (share_of_few(rows, V::width) < share)
      return score_few<V, share / 2>(queries, rows, keys, count, depth, tile, tile_stride);
  score_few_of<V, share>(queries, keys, count, depth, tile, tile_stride);
}

/// `vectors` vectors of dimensions of the weighted sum of values for `rows` queries; the last
/// vector may be one that is not whole.
template <class V, size_t rows, size_t vectors>
inline void weigh_few_rows(const typename V::Element* tile, size_t tile_stride,
                           const typename V::Element* const* values, size_t dim, size_t count,
                           size_t depth, const typename V::Element* factor,
                           typename V::Element* out, size_t stride, bool is_first) {
  // One sum after another waits for itself where there are fewer than 8.
  constexpr size_t chains = rows * vectors < 8 ? 2 : 1;
  V sum[chains][rows][vectors];
#pragma GCC unroll 2
  for (size_t c = 0; c < chains; ++c)
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; ++i)
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v) sum[c][i][v] = V::all(0);
  const auto add = [&](size_t j, V(&to)[rows][vectors]) {
    const typename V::Element *value = values[j] + dim, *weights = tile + j * tile_stride;
    V element[vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v)
      element[v] =
          vectors > 1 ? V::load(value + v * V::width) : load_columns<V>(value, depth - dim);
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; ++i) {
      const V weight = V::all(weights[i]);
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v) to[i][v] = multiply_add(weight, element[v], to[i][v]);
    }
  };
  size_t j = 0;
  for (; j + chains <= count; j += chains)
#pragma GCC unroll 2
    for (size_t c = 0; c < chains; ++c) {
      if (is_first)
        for (size_t d = 0; d < vectors * V::width; d += line<V>)
          prefetch_far(values[j + c + values_ahead] + dim + d);
      add(j + c, sum[c]);
    }
  if (j < count) add(j, sum[0]);
#pragma GCC unroll 8
  for (size_t i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      typename V::Element* to = out + i * stride + dim + v * V::width;
      const V all = chains > 1 ? sum[0][i][v] + sum[chains - 1][i][v] : sum[0][i][v];
      multiply_add(V::load(to), V::all(factor[i]), all).store(to);
    }
}

template <class V, size_t vectors>
struct WeighFewBlock {
  const typename V::Element* tile;
  size_t tile_stride;
  const typename V::Element* const* values;
  size_t dim, count, depth;
  const typename V::Element* factor;
  typename V::Element* out;
  size_t stride;
  template <size_t rows>
  void run(size_t begin) const {
    weigh_few_rows<V, rows, vectors>(tile + begin, tile_stride, values, dim, count, depth,
                                     factor + begin, out + begin * stride, stride, begin == 0);
  }
};

/// Blocks of `rows` queries and `vectors` vectors of dimensions.
template <class V, size_t rows, size_t vectors>
inline void weigh_few_blocks(const typename V::Element* tile, size_t tile_stride, size_t queries,
                             const typename V::Element* const* values, size_t count, size_t depth,
                             const typename V::Element* factor, typename V::Element* out,
                             size_t stride) {
  size_t d = 0;
  for (; d + vectors * V::width <= depth; d += vectors * V::width)
    in_blocks<rows>(queries, WeighFewBlock<V, vectors>{tile, tile_stride, values, d, count, depth,
                                                       factor, out, stride});
  for (; d < depth; d += V::width)
    in_blocks<rows>(queries, WeighFewBlock<V, 1>{tile, tile_stride, values, d, count, depth, factor,
                                                 out, stride});
}

template <class V, class Blocks>
void weigh_few(const typename V::Element* tile, size_t tile_stride, size_t rows,
               const typename V::Element* const* values, size_t count, size_t depth,
               const typename V::Element* factor, typename V::Element* out, size_t stride) {
  // Sums, a row of values and a weight fit the registers. Values that are far apart leave the
  // first-level cache soon, so that the more queries use them at a time the better.
  constexpr bool many_registers = Blocks::rows_of_4 > 0;
  if constexpr (many_registers)
    if (rows >= 8)
      return weigh_few_blocks<V, 8, 2>(tile, tile_stride, rows, values, count, depth, factor, out,
                                       stride);
  weigh_few_blocks<V, 4, many_registers ? 4 : 2>(tile, tile_stride, rows, values, count, depth,
                                                 factor, out, stride);
}

}  // namespace
}  // namespace logitkit
