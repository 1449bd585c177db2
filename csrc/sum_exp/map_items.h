// Softmax and log-softmax from the sums: walks over the items of a block, with a map for each.
// Include only from files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/prefetch.h"
#include "sum_exp/loops.h"
#include "sum_exp/scaled_exp.h"
#include "sum_exp/sum_items.h"
#include "sum_exp/tile.h"

namespace logitkit {
namespace {

/// y = map(x) for n < V::width terms.
template <class V, class Map>
inline void map_some(const typename V::Element* x, size_t n, const Map& map,
                     typename V::Element* y) {
  if (n == 0) return;
  V v = V::load_first(x, n, V::all(*x));
  map.template apply<1>(&v);
  v.store_first(y, n);
}

/// The elements from y on up to where a vector is aligned.
template <class V>
inline size_t up_to_aligned(const typename V::Element* y) {
  const size_t past = reinterpret_cast<std::uintptr_t>(y) / sizeof(typename V::Element) % V::width;
  return past == 0 ? 0 : V::width - past;
}

template <Store store, class V>
inline void put(V v, typename V::Element* y) {
  if constexpr (store == Store::streamed)
    v.stream(y);
  else
    v.store(y);
}

/// y = map(x) for a row.
template <class V, Store store, class Map>
inline void map_row(const typename V::Element* x, size_t terms, const Map& map,
                    typename V::Element* y) {
  size_t j = 0;
  if constexpr (store == Store::streamed) {
    const size_t head = up_to_aligned<V>(y);
    j = head < terms ? head : terms;
    map_some<V>(x, j, map, y);
  }
  for (; j + 4 * V::width <= terms; j += 4 * V::width) {
    V v[4];
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) v[k] = V::load(x + j + k * V::width);
    map.template apply<4>(v);
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) put<store>(v[k], y + j + k * V::width);
  }
  for (; j + V::width <= terms; j += V::width) {
    V v = V::load(x + j);
    map.template apply<1>(&v);
    put<store>(v, y + j);
  }
  map_some<V>(x + j, terms - j, map, y + j);
}

/// y = map(x) for `rows` rows of a strip of columns, which has a map for its first `head` <
/// V::width items and one for each vector of the others.
template <size_t rows, class V, Store store, class Map>
[[gnu::always_inline]] inline void map_strip(const typename V::Element* x, size_t row_step,
                                             size_t head, size_t columns, const Map* map,
                                             typename V::Element* y) {
  for (size_t k = 0; k < rows; ++k) map_some<V>(x + k * row_step, head, *map, y + k * row_step);
  ++map;
  size_t c = head;
  for (; c + V::width <= columns; c += V::width, ++map) {
    V v[rows];
#pragma GCC unroll 4
    for (size_t k = 0; k < rows; ++k) {
      v[k] = V::load(x + k * row_step + c);
      prefetch_far(x + (k + 8) * row_step + c);
    }
    map->template apply<rows>(v);
#pragma GCC unroll 4
    for (size_t k = 0; k < rows; ++k) put<store>(v[k], y + k * row_step + c);
  }
  for (size_t k = 0; c < columns && k < rows; ++k)
    map_some<V>(x + k * row_step + c, columns - c, *map, y + k * row_step + c);
}

/// The same for all rows. Four at a time share what their maps take to load; but what they replace
/// in the caches comes from the memory faster row by row.
template <class V, Store store, bool row_by_row, class Map>
inline void map_columns(const typename V::Element* x, size_t terms, size_t row_step, size_t head,
                        size_t columns, const Map* maps, typename V::Element* y) {
  size_t j = 0;
  for (; !row_by_row && j + 4 <= terms; j += 4, x += 4 * row_step, y += 4 * row_step)
    map_strip<4, V, store>(x, row_step, head, columns, maps, y);
  for (; j < terms; ++j, x += row_step, y += row_step)
    map_strip<1, V, store>(x, row_step, head, columns, maps, y);
}

/// y = map(x) for all items of a block. start(i, n) makes the map of items i .. i + n - 1, one
/// in a lane, or of item i in all lanes if n = 0.
template <class V, Store store, class Start>
inline void map_items(const Block<typename V::Element>& block, const Start& start,
                      typename V::Element* y) {
  if (block.terms == 0) return;  // x and y may be null
  using Map = decltype(start(0, 0));
  const auto some = [](size_t n, size_t most) { return n < most ? n : most; };
  if (!block.has_rows()) {
    const size_t past = up_to_aligned<V>(y);
    // In all rows alike; of few columns too many would be in lines that are written in two parts.
    const bool aligned = block.term_step % V::width == 0 && block.items >= 8 * V::width;
    for (size_t c = 0; c < block.items; c += strip * V::width) {
      const size_t columns = some(block.items - c, strip * V::width);
      const size_t head = aligned ? some(columns, past) : 0;
      Map maps[strip + 2];
      Map* map = maps;
      *map++ = start(c, some(columns, V::width));
      for (size_t k = head; k < columns; k += V::width)
        *map++ = start(c + k, some(columns - k, V::width));
      const auto map_columns_by =
          aligned ? map_columns<V, store, false, Map>
                  : map_columns<V, Store::cached, store == Store::streamed, Map>;
      map_columns_by(block.x + c, block.terms, block.term_step, head, columns, maps, y + c);
    }
  } else if (2 * block.terms <= V::width) {
    for (size_t i = 0; i < block.items; i += V::width) {
      const size_t rows = some(block.items - i, V::width);
      V tile[V::width];
      load_tile(block.x + i * block.item_step, rows, block.item_step, block.terms, tile);
      const Map map = start(i, rows);
      for (size_t j = 0; j < block.terms; ++j) map.template apply<1>(tile + j);
      store_tile(tile, rows, block.item_step, block.terms, y + i * block.item_step);
    }
  } else {
    for (size_t i = 0; i < block.items; ++i)
      map_row<V, store>(block.x + i * block.item_step, block.terms, start(i, 0),
                        y + i * block.item_step);
  }
}

template <class V, class Start>
inline void map_items(const Block<typename V::Element>& block, const Start& start,
                      typename V::Element* y, Store store) {
  if (store == Store::cached) return map_items<V, Store::cached>(block, start, y);
  map_items<V, Store::streamed>(block, start, y);
  V::fence();
}

template <class V>
struct Softmax {
  ScaledExp<V> exp;
  template <size_t count>
  [[gnu::always_inline]] void apply(V* x) const {
    V least = x[0];
#pragma GCC unroll 4
    for (size_t k = 1; k < count; ++k) least = min(least, x[k]);
    if (exp.any_small(least)) {
      V largest = x[0];
#pragma GCC unroll 4
      for (size_t k = 1; k < count; ++k) largest = max(largest, x[k]);
      const bool zero = exp.all_zero(largest);
#pragma GCC unroll 4
      for (size_t k = 0; k < count; ++k) x[k] = zero ? all<V>(0) : exp.any_size(x[k]);
      return;
    }
#pragma GCC unroll 4
    for (size_t k = 0; k < count; ++k) x[k] = exp.in_range(x[k]);
  }
};

template <class V>
struct LogSoftmax {
  V max, log_sum;
  template <size_t count>
  void apply(V* x) const {
    for (size_t k = 0; k < count; ++k) x[k] = (x[k] - max) - log_sum;
  }
};

/// The maps of items i .. i + n - 1, as map_items() asks for them.
template <class V>
inline Softmax<V> softmax_of(const Scaled& scaled, size_t i, size_t n) {
  const V exponent = load_narrow<V>(scaled.exponent, i, n);
  if constexpr (sizeof(typename V::Element) == sizeof(double)) {
    return {ScaledExp<V>(exponent, load_narrow<V>(scaled.scale, i, n),
                         load_narrow<V>(scaled.rest, i, n))};
  } else {
    using F64 = typename V::Wide;
    constexpr size_t parts = V::width / F64::width;
    F64 scale[parts], rounded[parts], rest[parts];
    load_wide<V>(scaled.scale, i, n, scale);
    const V scale_of_floats = V::narrow(scale);
    widen(scale_of_floats, rounded);
    for (size_t p = 0; p < parts; ++p) rest[p] = scale[p] - rounded[p];
    return {ScaledExp<V>(exponent, scale_of_floats, V::narrow(rest))};
  }
}

template <class V>
void softmax(const Block<typename V::Element>& block, Scaled scaled, typename V::Element* y,
             Store store) {
  map_items<V>(
      block, [scaled](size_t i, size_t n) { return softmax_of<V>(scaled, i, n); }, y, store);
}

template <class V>
void log_softmax(const Block<typename V::Element>& block, const double* max, const double* log_sum,
                 typename V::Element* y, Store store) {
  map_items<V>(
      block,
      [max, log_sum](size_t i, size_t n) {
        return LogSoftmax<V>{load_narrow<V>(max, i, n), load_narrow<V>(log_sum, i, n)};
      },
      y, store);
}

}  // namespace
}  // namespace logitkit
