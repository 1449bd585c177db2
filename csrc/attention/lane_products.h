// Products of panels whose lanes are queries with keys, values and gradients. Include only from
// files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/lanes.h"

namespace logitkit {
namespace {

/// The scores of `rows` keys against `vectors` vectors of queries, all in registers.
template <class V, size_t rows, size_t vectors>
inline void score_rows(const typename V::Element* panel, const typename V::Element* const* keys,
                       size_t depth, typename V::Element* tile) {
  const typename V::Element* key[rows];
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j) {
    key[j] = keys[j];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sum[j][v] = V::all(0);
  }
  // Counting takes turns on the ports of the multiply-adds: 5 % lost where it is not unrolled.
#pragma GCC unroll 4
  for (size_t d = 0; d < depth; ++d) {
    V query[vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) query[v] = V::load(panel + d * lanes_of<V> + v * V::width);
#pragma GCC unroll 16
    for (size_t j = 0; j < rows; ++j) {
      const V element = V::all(key[j][d]);
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) sum[j][v] = multiply_add(query[v], element, sum[j][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sum[j][v].store(tile + j * lanes_of<V> + v * V::width);
}

/// `rows` dimensions of the weighted sum of values. The sum over a tile begins at 0, for its
/// error does then not grow with the number of tiles.
template <class V, size_t rows, size_t vectors>
inline void weigh_rows(const typename V::Element* tile, const typename V::Element* const* values,
                       size_t dim, size_t count, const typename V::Element* factor,
                       typename V::Element* out) {
  // So few indices fit the registers for addresses; otherwise each row's address takes an addition
  // on the ports of the multiply-adds.
  constexpr bool indexed = rows <= 4;
  const size_t index = indexed ? opaque(dim) : 0;
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (size_t d = 0; d < rows; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sum[d][v] = V::all(0);
#pragma GCC unroll 4
  for (size_t j = 0; j < count; ++j) {
    const typename V::Element* value = opaque(indexed ? values[j] : values[j] + dim);
    V weight[vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) weight[v] = V::load(tile + j * lanes_of<V> + v * V::width);
#pragma GCC unroll 16
    for (size_t d = 0; d < rows; ++d) {
      const V element = V::all(value[index + d]);
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) sum[d][v] = multiply_add(weight[v], element, sum[d][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t d = 0; d < rows; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      typename V::Element* to = out + d * lanes_of<V> + v * V::width;
      multiply_add(V::load(to), V::load(factor + v * V::width), sum[d][v]).store(to);
    }
}

template <class V, size_t vectors>
struct ScoreBlock {
  const typename V::Element* panel;
  const typename V::Element* const* keys;
  size_t depth;
  typename V::Element* tile;
  template <size_t rows>
  void run(size_t begin) const {
    score_rows<V, rows, vectors>(panel, keys + begin, depth, tile + begin * lanes_of<V>);
  }
};

template <class V, size_t vectors>
struct WeighBlock {
  const typename V::Element* tile;
  const typename V::Element* const* values;
  size_t count;
  const typename V::Element* factor;
  typename V::Element* out;
  template <size_t rows>
  void run(size_t begin) const {
    weigh_rows<V, rows, vectors>(tile, values, begin, count, factor, out + begin * lanes_of<V>);
  }
};

/// Blocks::rows_of_3, rows_of_2 and rows_of_1 rows by so many vectors fill the registers; the
/// addresses of more than 8 keys do not fit the others.
constexpr size_t with_addresses(size_t rows) { return rows < 8 ? rows : 8; }

template <class V, class Blocks>
void score(const typename V::Element* panel, const typename V::Element* const* keys, size_t count,
           size_t depth, size_t first, size_t vectors, typename V::Element* tile) {
  panel += first * V::width;
  tile += first * V::width;
  if (vectors == 3)
    in_blocks<with_addresses(Blocks::rows_of_3)>(count, ScoreBlock<V, 3>{panel, keys, depth, tile});
  else if (vectors == 2)
    in_blocks<with_addresses(Blocks::rows_of_2)>(count, ScoreBlock<V, 2>{panel, keys, depth, tile});
  else
    in_blocks<with_addresses(Blocks::rows_of_1)>(count, ScoreBlock<V, 1>{panel, keys, depth, tile});
}

template <class V, class Blocks>
void weigh(const typename V::Element* tile, const typename V::Element* const* values, size_t count,
           size_t depth, size_t first, size_t vectors, const typename V::Element* factor,
           typename V::Element* out) {
  tile += first * V::width;
  factor += first * V::width;
  out += first * V::width;
  if (vectors == 3)
    in_blocks<Blocks::rows_of_3>(depth, WeighBlock<V, 3>{tile, values, count, factor, out});
  else if (vectors == 2)
    in_blocks<Blocks::rows_of_2>(depth, WeighBlock<V, 2>{tile, values, count, factor, out});
  else
    in_blocks<Blocks::rows_of_1>(depth, WeighBlock<V, 1>{tile, values, count, factor, out});
}

/// `rows` keys by `vectors` vectors of dimensions of the weighted sum over queries.
template <class V, size_t rows, size_t vectors>
inline void spread_rows(const typename V::Element* tile, const typename V::Element* queries,
                        size_t first, size_t end, size_t depth, typename V::Element* out) {
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) sum[j][v] = V::all(0);
#pragma GCC unroll 4
  for (size_t i = first; i < end; ++i) {
    const typename V::Element* weight = opaque(tile + i);
    V query[vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) query[v] = V::load(queries + i * depth + v * V::width);
#pragma GCC unroll 16
    for (size_t j = 0; j < rows; ++j) {
      const V element = V::all(weight[j * lanes_of<V>]);
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v) sum[j][v] = multiply_add(query[v], element, sum[j][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      typename V::Element* to = out + j * depth + v * V::width;
      (V::load(to) + sum[j][v]).store(to);
    }
}

template <class V, size_t vectors>
struct SpreadBlock {
  const typename V::Element *tile, *queries;
  size_t first, end, depth;
  typename V::Element* out;
  template <size_t rows>
  void run(size_t begin) const {
    spread_rows<V, rows, vectors>(tile + begin * lanes_of<V>, queries, first, end, depth,
                                  out + begin * depth);
  }
};

template <class V, class Blocks>
void spread(const typename V::Element* tile, const typename V::Element* queries, size_t count,
            size_t depth, size_t first, size_t end, typename V::Element* out) {
  for (size_t d = 0; d < depth;) {
    const size_t vectors = (depth - d) / V::width;
    const auto block = [&](auto sized) {
      sized.tile = tile, sized.queries = queries + d, sized.first = first, sized.end = end;
      sized.depth = depth, sized.out = out + d;
      return sized;
    };
    if (Blocks::rows_of_4 > 0 && vectors >= 4) {
      in_blocks<Blocks::rows_of_4 + (Blocks::rows_of_4 == 0)>(count, block(SpreadBlock<V, 4>()));
      d += 4 * V::width;
    } else if (vectors >= 3) {
      in_blocks<Blocks::rows_of_3>(count, block(SpreadBlock<V, 3>()));
      d += 3 * V::width;
    } else if (vectors == 2) {
      in_blocks<Blocks::rows_of_2>(count, block(SpreadBlock<V, 2>()));
      d += 2 * V::width;
    } else {
      in_blocks<Blocks::rows_of_1>(count, block(SpreadBlock<V, 1>()));
      d += V::width;
    }
  }
}

}  // namespace
}  // namespace logitkit
