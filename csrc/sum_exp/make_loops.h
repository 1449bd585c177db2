// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/log.h"
#include "sum_exp/exact_lanes.h"
#include "sum_exp/lanes.h"
#include "sum_exp/log_beside_max.h"
#include "sum_exp/log_softmax_rows.h"
#include "sum_exp/loops.h"
#include "sum_exp/scaled_exp.h"
#include "sum_exp/softmax_rows.h"

namespace logitkit {
namespace {

// The vectors of a strip of columns: 2 KiB of each row at most. Wider strips suit the memory
// better, narrower ones leave the sums in the first-level cache.
constexpr size_t strip = 32;

template <class V>
inline V lowest_vector() {
  return V::all(minus_infinity);
}

/// The first n elements of x, or a whole vector if n is larger; -inf in the other lanes.
template <class V, class T>
inline V load_some(const T* x, size_t n) {
  return n >= V::width ? V::load(x) : V::load_first(x, n, lowest_vector<V>());
}
template <class V>
inline void store_some(V v, typename V::Element* x, size_t n) {
  if (n >= V::width)
    v.store(x);
  else
    v.store_first(x, n);
}

template <class V>
struct AsIs {
  V operator()(V x) const { return x; }
};
template <class V>
struct Times {
  V factor;
  V operator()(V x) const { return x * factor; }
};

/// Tells an accumulator the largest of the first terms, as many as it wants: term(k) has those
/// from k on, `step` in a vector.
template <class Lanes, class Term>
[[gnu::always_inline]] inline void expect_some(size_t terms, size_t step, Lanes& lanes,
                                               const Term& term) {
  constexpr size_t some = Lanes::expected_terms < 8 ? Lanes::expected_terms : 8;
  if constexpr (some > 0) {
    if (terms == 0) return;
    auto largest = lanes.chosen(term(0));
    for (size_t n = 1, k = step; n < some && k < terms; ++n, k += step)
      largest = max(largest, lanes.chosen(term(k)));
    lanes.expect(largest);
  }
}

/// The largest of the next terms of a row, in all lanes.
template <class V, class T, class Chosen>
[[gnu::noinline]] V largest_of_row(const T* x, size_t terms, Chosen chosen) {
  V top[4];
  for (V& v : top) v = lowest_vector<V>();
  const size_t some = terms < terms_ahead ? terms : terms_ahead;
  size_t j = 0;
  for (; j + 4 * V::width <= some; j += 4 * V::width)
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) top[k] = max(top[k], chosen(V::load(x + j + k * V::width)));
  for (; j < some; j += V::width) top[0] = max(top[0], chosen(load_some<V>(x + j, some - j)));
  return all<V>(largest_lane(max(max(top[0], top[1]), max(top[2], top[3]))));
}

/// The largest of the terms to come of a tile, in each lane.
template <class V, class Chosen>
[[gnu::noinline]] V largest_of_tile(const V* tile, size_t terms, Chosen chosen) {
  V top = lowest_vector<V>(), other = top;
  size_t j = 0;
  for (; j + 2 <= terms; j += 2) {
    top = max(top, chosen(tile[j]));
    other = max(other, chosen(tile[j + 1]));
  }
  if (j < terms) top = max(top, chosen(tile[j]));
  return max(top, other);
}

/// The terms as an accumulator sees them.
template <class Lanes, class Change>
inline auto chosen_by(const Lanes& lanes, const Change& change) {
  return [&](auto x) { return lanes.chosen(change(x)); };
}

/// Gives `count` vectors of a row, of which `terms` are to come, to an accumulator, each after
/// `change`; eight vectors are whole.
template <size_t count, class V, class T, class Lanes, class Change>
[[gnu::always_inline]] inline void add_vectors(const T* x, size_t terms, Lanes& lanes,
                                               const Change& change) {
  constexpr size_t ahead = 4096 / sizeof(T);
  const auto load = [=](size_t k) {
    const T* from = x + k * V::width;
    const size_t rest = count == 8 ? V::width : terms - k * V::width;
    if (count < 8 && k * V::width >= terms) return lowest_vector<V>();
    return change(load_some<V>(from, rest));
  };
  Vectors<V, count> vectors;
#pragma GCC unroll 8
  for (size_t k = 0; k < count; ++k) {
    vectors.v[k] = load(k);
    if (count == 8 && k * V::width * sizeof(T) % 64 == 0) V::prefetch(x + k * V::width + ahead);
  }
  lanes.add(vectors, load, [&] { return largest_of_row<V>(x, terms, chosen_by(lanes, change)); });
}

/// Gives a row to an accumulator, V::width terms in a vector.
template <class V, class T, class Lanes, class Change>
[[gnu::always_inline]] inline void add_row(const T* x, size_t terms, Lanes& lanes,
                                           const Change& change) {
  size_t j = 0;
  if constexpr (Lanes::expected_terms == terms_ahead)
    lanes.expect(largest_of_row<V>(x, terms, chosen_by(lanes, change)));
  else
    expect_some(terms, V::width, lanes,
                [&](size_t k) { return change(load_some<V>(x + k, terms - k)); });
  for (; j + 8 * V::width <= terms; j += 8 * V::width)
    add_vectors<8, V>(x + j, terms - j, lanes, change);
  for (; j + V::width < terms; j += 4 * V::width)
    add_vectors<4, V>(x + j, terms - j, lanes, change);
  if (j < terms) add_vectors<1, V>(x + j, terms - j, lanes, change);
}

/// tile[j][i] = the term j of row i, for the V::width rows from x on; -inf where there is none.
template <class V, class T>
inline void load_tile(const T* x, size_t rows, size_t row_step, size_t terms, V* tile) {
  size_t j = 0;
  for (; rows == V::width && j + V::width <= terms; j += V::width) {
    V block[V::width];
#pragma GCC unroll 16
    for (size_t i = 0; i < V::width; ++i) {
      const T* from = x + i * row_step + j;
      block[i] = V::load(from);
      V::prefetch(from + 2 * V::width * row_step);  // the tile after the next
    }
    transpose(block);
#pragma GCC unroll 16
    for (size_t k = 0; k < V::width; ++k) tile[j + k] = block[k];
  }
  for (; j < terms; j += V::width) {
    V block[V::width];
    for (size_t i = 0; i < V::width; ++i)
      block[i] = i < rows ? load_some<V>(x + i * row_step + j, terms - j) : lowest_vector<V>();
    transpose(block);
    for (size_t k = 0; k < V::width && j + k < terms; ++k) tile[j + k] = block[k];
  }
}

/// The way back for rows of terms <= V::width.
template <class V>
inline void store_tile(const V* tile, size_t rows, size_t row_step, size_t terms,
                       typename V::Element* x) {
  V block[V::width];
  for (size_t k = 0; k < V::width; ++k) block[k] = k < terms ? tile[k] : lowest_vector<V>();
  transpose(block);
  for (size_t i = 0; i < V::width && i < rows; ++i) store_some(block[i], x + i * row_step, terms);
}

/// Gives `count` vectors of a tile to an accumulator; `terms` are to come.
template <size_t count, class V, class Lanes, class Change>
[[gnu::always_inline]] inline void add_some(const V* tile, size_t terms, Lanes& lanes,
                                            const Change& change) {
  Vectors<V, count> vectors;
#pragma GCC unroll 8
  for (size_t k = 0; k < count; ++k) vectors.v[k] = change(tile[k]);
  lanes.add(
      vectors, [=](size_t k) { return change(tile[k]); },
      [&] { return largest_of_tile(tile, terms, chosen_by(lanes, change)); });
}

/// Gives all vectors of a tile to an accumulator.
template <class V, class Lanes, class Change>
[[gnu::always_inline]] inline void add_tile(const V* tile, size_t terms, Lanes& lanes,
                                            const Change& change) {
  size_t j = 0;
  if constexpr (Lanes::expected_terms == terms_ahead)
    lanes.expect(largest_of_tile(tile, terms, chosen_by(lanes, change)));
  else
    expect_some(terms, 1, lanes, [&](size_t k) { return change(tile[k]); });
  for (; j + 8 <= terms; j += 8) add_some<8>(tile + j, terms - j, lanes, change);
  // Doubles, for which there is no wider type, go one by one: a sum of few shows each rounding.
  if constexpr (sizeof(typename V::Element) < sizeof(double)) {
    if (j + 4 <= terms) {
      add_some<4>(tile + j, terms - j, lanes, change);
      j += 4;
    }
    if (j + 2 <= terms) {
      add_some<2>(tile + j, terms - j, lanes, change);
      j += 2;
    }
  }
  for (; j < terms; ++j) add_some<1>(tile + j, terms - j, lanes, change);
}

/// Gives `count` rows of a strip of columns to its accumulators.
template <size_t count, class V, class T, class Lanes, class Change>
[[gnu::always_inline]] inline void add_strip(const T* x, size_t row_step, size_t columns,
                                             Lanes* lanes, const Change& change) {
  size_t c = 0;
  for (; c + V::width <= columns; c += V::width, ++lanes) {
    const auto load = [=](size_t k) { return change(V::load(x + k * row_step + c)); };
    Vectors<V, count> vectors;
#pragma GCC unroll 8
    for (size_t k = 0; k < count; ++k) {
      vectors.v[k] = load(k);
      V::prefetch(x + (k + count) * row_step + c);
    }
    lanes->add(vectors, load, lowest_vector<V>);
  }
  if (c < columns) {
    const auto load = [=](size_t k) {
      return change(load_some<V>(x + k * row_step + c, columns - c));
    };
    Vectors<V, count> vectors;
#pragma GCC unroll 8
    for (size_t k = 0; k < count; ++k) vectors.v[k] = load(k);
    lanes->add(vectors, load, lowest_vector<V>);
  }
}

/// Gives all terms of a strip of columns to its accumulators, eight rows at a time.
template <class V, class T, class Lanes, class Change>
inline void add_columns(const T* x, size_t terms, size_t row_step, size_t columns, Lanes* lanes,
                        const Change& change) {
  for (size_t c = 0; c < columns; c += V::width)
    expect_some(terms, 1, lanes[c / V::width],
                [&](size_t k) { return change(load_some<V>(x + k * row_step + c, columns - c)); });
  size_t j = 0;
  for (; j + 8 <= terms; j += 8)
    add_strip<8, V>(x + j * row_step, row_step, columns, lanes, change);
  for (; j < terms; ++j) add_strip<1, V>(x + j * row_step, row_step, columns, lanes, change);
}

/// The sums of all items of a block. start(i, n) makes the accumulator of items i .. i + n - 1,
/// one in a lane, or of item i in all lanes if n = 0.
template <class V, class T, class Lanes, class Start, class Out, class Change>
inline void sum_items(const Block<T>& block, const Start& start, Out out, const Change& change) {
  if (!block.has_rows()) {
    for (size_t c = 0; c < block.items; c += strip * V::width) {
      const size_t columns =
          block.items - c < strip * V::width ? block.items - c : strip * V::width;
      Lanes lanes[strip];
      for (size_t k = 0; k < columns; k += V::width)
        lanes[k / V::width] = start(c + k, columns - k < V::width ? columns - k : V::width);
      if (block.terms > 0)  // else x may be null
        add_columns<V>(block.x + c, block.terms, block.term_step, columns, lanes, change);
      for (size_t k = 0; k < columns; k += V::width)
        lanes[k / V::width].store(out, c + k, columns - k < V::width ? columns - k : V::width);
    }
  } else if (block.terms <= short_row) {
    for (size_t i = 0; i < block.items; i += V::width) {
      const size_t rows = block.items - i < V::width ? block.items - i : V::width;
      V tile[short_row];
      load_tile(block.x + i * block.item_step, rows, block.item_step, block.terms, tile);
      Lanes lanes = start(i, rows);
      add_tile(tile, block.terms, lanes, change);
      lanes.store(out, i, rows);
    }
  } else {
    for (size_t i = 0; i < block.items; ++i) {
      Lanes lanes = start(i, 0);
      add_row<V>(block.x + i * block.item_step, block.terms, lanes, change);
      lanes.store_sum(out, i);
    }
  }
}

/// max[i] .. max[i + n - 1], one in a lane; max[i] in all lanes if n = 0.
template <class F64>
inline F64 load_lanes(const double* x, size_t i, size_t n) {
  return n == 0 ? F64::all(x[i]) : F64::load_first(x + i, n, F64::all(0.0));
}

/// As load_lanes(), rounded to the elements of V.
template <class V>
inline V load_narrow(const double* x, size_t i, size_t n) {
  using F64 = typename V::Wide;
  constexpr size_t parts = V::width / F64::width;
  F64 wide[parts];
  for (size_t p = 0; p < parts; ++p) {
    const size_t begin = p * F64::width;
    const size_t rest = n > begin ? n - begin : 0;
    wide[p] = n == 0 ? F64::all(x[i])
                     : F64::load_first(rest == 0 ? x : x + i + begin,
                                       rest < F64::width ? rest : F64::width, F64::all(0.0));
  }
  return V::narrow(wide);
}

template <class V, class T, Keep keep>
void sum(const Block<T>& block, SumExp sums) {
  using Sums = Lanes<V, keep>;
  sum_items<V, T, Sums>(
      block, [](size_t, size_t) { return Sums(); }, SumExpMoments{sums, nullptr, nullptr},
      AsIs<V>());
}

template <class V>
void sum_beside_max(const Block<typename V::Element>& block, const double* max, SumExp sums) {
  using Sums = Lanes<V, Keep::all_but_max>;
  sum_items<V, typename V::Element, Sums>(
      block, [max](size_t i, size_t n) { return Sums(next_below(load_narrow<V>(max, i, n))); },
      SumExpMoments{sums, nullptr, nullptr}, AsIs<V>());
}

template <class V, class T>
void sum_moments(const Block<T>& block, T scale, SumExpMoments moments) {
  using Sums = Lanes<V, Keep::moments>;
  const auto start = [](size_t, size_t) { return Sums(); };
  if (scale == T{1})
    sum_items<V, T, Sums>(block, start, moments, AsIs<V>());
  else
    sum_items<V, T, Sums>(block, start, moments, Times<V>{V::all(scale)});
}

/// The largest term in every lane.
template <class V>
struct MaxLanes {
  V top = all<V>(minus_infinity);
  static constexpr size_t expected_terms = 0;
  void expect(V) {}
  static V chosen(V x) { return x; }
  template <size_t count, class Load, class Ahead>
  void add(const Vectors<V, count>& x, const Load&, const Ahead&) {
    for (size_t k = 0; k < count; ++k) top = max(top, x.v[k]);
  }
  void store(double* out, size_t i, size_t count) const {
    for_parts(top, count, [=](typename V::Wide part, size_t begin, size_t n) {
      part.store_first(out + i + begin, n);
    });
  }
  void store_sum(double* out, size_t i) const { out[i] = double{largest_lane(top)}; }
};

template <class V>
void max_of_items(const Block<typename V::Element>& block, double* max) {
  using T = typename V::Element;
  sum_items<V, T, MaxLanes<V>>(block, [](size_t, size_t) { return MaxLanes<V>(); }, max, AsIs<V>());
}

template <class F64, class T>
void sum_exactly(const Block<T>& block, const double* max, ExactSumExp sums) {
  using Sums = ExactLanes<F64>;
  sum_items<F64, T, Sums>(
      block, [max](size_t i, size_t n) { return Sums(load_lanes<F64>(max, i, n)); }, sums,
      AsIs<F64>());
}

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

/// y = map(x) for a strip of columns, which has a map for each vector of items.
template <class V, Store store, class Map>
inline void map_columns(const typename V::Element* x, size_t terms, size_t row_step, size_t columns,
                        const Map* maps, typename V::Element* y) {
  for (size_t j = 0; j < terms; ++j, x += row_step, y += row_step) {
    size_t c = 0;
    for (; c + V::width <= columns; c += V::width) {
      V v = V::load(x + c);
      V::prefetch(x + c + 8 * row_step);
      maps[c / V::width].template apply<1>(&v);
      put<store>(v, y + c);
    }
    if (c < columns) map_some<V>(x + c, columns - c, maps[c / V::width], y + c);
  }
}

/// y = map(x) for all items of a block. start(i, n) makes the map of items i .. i + n - 1, one
/// in a lane, or of item i in all lanes if n = 0.
template <class V, Store store, class Start>
inline void map_items(const Block<typename V::Element>& block, const Start& start,
                      typename V::Element* y) {
  if (block.terms == 0) return;  // x and y may be null
  using Map = decltype(start(0, 0));
  const auto some = [](size_t n) { return n < V::width ? n : V::width; };
  if (!block.has_rows()) {
    const bool aligned = up_to_aligned<V>(y) == 0 && block.term_step % V::width == 0;
    for (size_t c = 0; c < block.items; c += strip * V::width) {
      const size_t rest = block.items - c;
      const size_t columns = rest < strip * V::width ? rest : strip * V::width;
      Map maps[strip];
      for (size_t k = 0; k < columns; k += V::width)
        maps[k / V::width] = start(c + k, some(columns - k));
      const auto map = aligned ? map_columns<V, store, Map> : map_columns<V, Store::cached, Map>;
      map(block.x + c, block.terms, block.term_step, columns, maps, y + c);
    }
  } else if (2 * block.terms <= V::width) {
    for (size_t i = 0; i < block.items; i += V::width) {
      const size_t rows = some(block.items - i);
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

template <class V>
void softmax(const Block<typename V::Element>& block, Scaled scaled, typename V::Element* y,
             Store store) {
  map_items<V>(
      block,
      [scaled](size_t i, size_t n) {
        return Softmax<V>{ScaledExp<V>(load_narrow<V>(scaled.exponent, i, n),
                                       load_narrow<V>(scaled.scale, i, n),
                                       load_narrow<V>(scaled.rest, i, n))};
      },
      y, store);
}

/// A copy past the caches, a few vectors at a time: more than the memory takes at once would wait.
template <class V>
class Stream {
  using T = typename V::Element;

 public:
  /// Finishes what was begun and begins to copy n elements.
  void begin(const T* x, size_t n, T* y) {
    finish();
    const size_t past = up_to_aligned<V>(y), head = past < n ? past : n;
    some(x, head, y);
    x_ = x + head;
    y_ = y + head;
    n_ = n - head;
  }

  /// The next `count` vectors.
  template <size_t count>
  [[gnu::always_inline]] void step() {
    if (n_ < count * V::width) return;
#pragma GCC unroll 4
    for (size_t k = 0; k < count; ++k) V::load(x_ + k * V::width).stream(y_ + k * V::width);
    advance(count * V::width);
  }

  void finish() {
    for (; n_ >= V::width; advance(V::width)) V::load(x_).stream(y_);
    some(x_, n_, y_);
    n_ = 0;
  }

 private:
  static void some(const T* x, size_t n, T* y) {
    if (n > 0) V::load_first(x, n, V::all(*x)).store_first(y, n);
  }
  void advance(size_t n) {
    x_ += n;
    y_ += n;
    n_ -= n;
  }

  const T* x_ = nullptr;
  T* y_ = nullptr;
  size_t n_ = 0;
};

/// The rows of a block by SoftmaxRows or LogSoftmaxRows.
template <class V, class Rows>
void rows_at_once(const Block<typename V::Element>& block, typename V::Element* y, Store store,
                  double* made) {
  using T = typename V::Element;
  Rows batch;
  T results[2][bytes_at_once / sizeof(T)];
  Stream<V> stream;
  const size_t terms = block.terms, most = batch.rows(terms);
  bool turn = false;
  for (size_t i = 0; i < block.items; i += most, turn = !turn) {
    const size_t rows = block.items - i < most ? block.items - i : most;
    const T* x = block.x + i * terms;
    if (store == Store::cached) {
      T* to = y + i * terms;
      batch.run(x, rows, terms, to, made + i, [to](size_t at) {
        for (size_t k = 0; k < 4; ++k) V::prefetch(to + at + k * V::width);
      });
      continue;
    }
    batch.run(x, rows, terms, results[turn], made + i,
              [&stream](size_t) { stream.template step<4>(); });
    for (size_t begin = 0; begin < rows; ++begin) {
      size_t end = begin;
      while (end < rows && made[i + end] == 1.0) ++end;
      stream.begin(results[turn] + begin * terms, (end - begin) * terms, y + (i + begin) * terms);
      begin = end;
    }
  }
  stream.finish();
  if (store == Store::streamed) V::fence();
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

/// f(i, n) for i = 0, width, ..., of n <= width items.
template <class F64, class F>
inline void for_vectors(size_t items, const F& f) {
  for (size_t i = 0; i < items; i += F64::width)
    f(i, items - i < F64::width ? items - i : F64::width);
}

template <class F64>
void add_sums(size_t items, SumExpMoments into, SumExpMoments from) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    Lanes<F64, Keep::moments> a, b;
    a.load(into, i, n);
    b.load(from, i, n);
    const F64 base = max(a.base, b.base);
    a.rescale(0, a.base - base);
    b.rescale(0, b.base - base);
    const DoubleDouble<F64> sum = two_sum(a.sum[0], b.sum[0]);
    a.base = base;
    a.top = max(a.top, b.top);
    a.sum[0] = sum.high;
    a.rest[0] = a.rest[0] + b.rest[0] + sum.low;
    a.mean[0] = a.mean[0] + b.mean[0];
    a.squares[0] = a.squares[0] + b.squares[0];
    a.store(into, i, n);
  });
}

template <class F64>
void log_sums(size_t items, SumExp sums, double* high, double* low) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> sum = two_sum(load(sums.sum), load(sums.rest));
    const DoubleDouble<F64> result = log(sum.high, sum.low, load(sums.exponent));
    result.high.store_first(high + i, n);
    result.low.store_first(low + i, n);
  });
}

template <class T, class F64>
void log_beside_max(size_t items, SumExp sums, double* results) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> beside =
        beside_max<T, F64>({load(sums.sum), load(sums.rest)}, load(sums.exponent), load(sums.max));
    // From log 2 on there may be two that equal the maximum: then there is less beside them.
    const F64 one = all<F64>(1.0);
    const F64 two = select(greater(load(results), all<F64>(0.69)), all<F64>(2.0), one);
    const F64 count = select(greater(beside.high, all<F64>(0.9)), one, two);
    log_of_sum<T>(count, beside).store_first(results + i, n);
  });
}

template <class F64>
void log_exactly(size_t items, ExactSumExp sums) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> result =
        exact_log<F64>(load(sums.count), {load(sums.high), load(sums.low)});
    result.high.store_first(sums.high + i, n);
    result.low.store_first(sums.low + i, n);
  });
}

template <class F32, class F64>
constexpr AllSumExpLoops make_loops() {
  return {
      {sum<F32, float, Keep::nothing>, sum<F32, float, Keep::max>, sum<F64, float, Keep::max>,
       sum_beside_max<F32>, log_beside_max<float, F64>, sum_moments<F32, float>, max_of_items<F32>,
       sum_exactly<F64, float>, softmax<F32>, rows_at_once<F32, SoftmaxRows<F32>>, log_softmax<F32>,
       rows_at_once<F32, LogSoftmaxRows<F32>>},
      {sum<F64, double, Keep::nothing>, sum<F64, double, Keep::max>, sum<F64, double, Keep::max>,
       sum_beside_max<F64>, log_beside_max<double, F64>, sum_moments<F64, double>,
       max_of_items<F64>, sum_exactly<F64, double>, softmax<F64>,
       rows_at_once<F64, SoftmaxRows<F64>>, log_softmax<F64>, nullptr},
      {add_sums<F64>, log_sums<F64>, log_exactly<F64>}};
}

}  // namespace
}  // namespace logitkit
