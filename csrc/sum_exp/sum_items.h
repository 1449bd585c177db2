// Walks over the items of a block, which give their terms to accumulators. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/prefetch.h"
#include "sum_exp/lanes.h"
#include "sum_exp/loops.h"
#include "sum_exp/tile.h"

namespace logitkit {
namespace {

// The vectors of a strip of columns: 8 KiB of each row at most. The memory gives long pieces of
// rows faster; wider strips would need more of a thread's stack than some systems have. The sums
// of a narrow strip stay in the first-level cache.
constexpr size_t strip = 128, narrow_strip = 32;

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
/// from k on, `step` in a vector. Where a row is in all lanes and has moments, one base spares
/// many steps in the end.
template <class Lanes, class Term>
[[gnu::always_inline]] inline void expect_some(size_t terms, size_t step, Lanes& lanes,
                                               const Term& term) {
  if constexpr (Lanes::expected_terms > 0) {
    if (terms == 0) return;
    auto largest = lanes.ahead();
    for (size_t n = 0, k = 0; n < Lanes::expected_terms && k < terms; ++n, k += step)
      largest.add(term(k));
    lanes.expect(step > 1 && Lanes::one_base ? largest.over_lanes() : largest.in_lanes());
  }
}

/// What `largest` makes of the next terms of a row, in all lanes.
template <class V, class T, class Largest, class Change>
[[gnu::noinline]] V largest_of_row(const T* x, size_t terms, Largest largest, Change change) {
  Largest others[3];
  const size_t some = terms < terms_ahead ? terms : terms_ahead;
  size_t j = 0;
  for (; j + 4 * V::width <= some; j += 4 * V::width) {
    largest.add(change(V::load(x + j)));
#pragma GCC unroll 3
    for (size_t k = 0; k < 3; ++k) others[k].add(change(V::load(x + j + (k + 1) * V::width)));
  }
  for (; j < some; j += V::width) largest.add(change(load_some<V>(x + j, some - j)));
  for (const Largest& other : others) largest.add(other);
  return largest.over_lanes();
}

/// What `largest` makes of the terms to come of a tile, in each lane.
template <class V, class Largest, class Change>
[[gnu::noinline]] V largest_of_tile(const V* tile, size_t terms, Largest largest, Change change) {
  Largest other;
  size_t j = 0;
  for (; j + 2 <= terms; j += 2) {
    largest.add(change(tile[j]));
    other.add(change(tile[j + 1]));
  }
  if (j < terms) largest.add(change(tile[j]));
  largest.add(other);
  return largest.in_lanes();
}

/// Gives `count` vectors of a row, of which `terms` are to come, to an accumulator, each after
/// `change`; eight vectors are whole.
template <size_t count, class V, class T, class Lanes, class Change>
[[gnu::always_inline]] inline void add_vectors(const T* x, size_t terms, Lanes& lanes,
                                               const Change& change) {
  // From memory first, then from the second-level cache.
  constexpr size_t far = far_ahead / sizeof(T), near = 256 / sizeof(T);
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
    if (count == 8 && k * V::width * sizeof(T) % 64 == 0) {
      prefetch_far(x + k * V::width + far);
      prefetch(x + k * V::width + near);
    }
  }
  lanes.add(vectors, load, [&] { return largest_of_row<V>(x, terms, lanes.ahead(), change); });
}

/// Gives a row to an accumulator, V::width terms in a vector.
template <class V, class T, class Lanes, class Change>
[[gnu::always_inline]] inline void add_row(const T* x, size_t terms, Lanes& lanes,
                                           const Change& change) {
  size_t j = 0;
  expect_some(terms, V::width, lanes,
              [&](size_t k) { return change(load_some<V>(x + k, terms - k)); });
  for (; j + 8 * V::width <= terms; j += 8 * V::width)
    add_vectors<8, V>(x + j, terms - j, lanes, change);
  for (; j + V::width < terms; j += 4 * V::width)
    add_vectors<4, V>(x + j, terms - j, lanes, change);
  if (j < terms) add_vectors<1, V>(x + j, terms - j, lanes, change);
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
      [&] { return largest_of_tile(tile, terms, lanes.ahead(), change); });
}

/// Gives all vectors of a tile to an accumulator.
template <class V, class Lanes, class Change>
[[gnu::always_inline]] inline void add_tile(const V* tile, size_t terms, Lanes& lanes,
                                            const Change& change) {
  size_t j = 0;
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

/// Gives `count` rows of a strip of columns to its accumulators. The second-level cache is asked
/// for the rows that are next: eight of a wide strip are more than the first one holds.
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
      prefetch_far(x + (k + count) * row_step + c);
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

/// The sums of all items of a block of columns, by strips of `vectors`.
template <size_t vectors, class V, class T, class Lanes, class Start, class Out, class Change>
inline void sum_columns(const Block<T>& block, const Start& start, Out out, const Change& change) {
  constexpr size_t most = vectors * V::width;
  for (size_t first = 0; first < block.items; first += most) {
    const size_t columns = block.items - first < most ? block.items - first : most;
    const auto in_vector = [=](size_t c) {
      return columns - c < V::width ? columns - c : V::width;
    };
    Lanes lanes[vectors];
    for (size_t c = 0; c < columns; c += V::width)
      lanes[c / V::width] = start(first + c, in_vector(c));
    if (block.terms > 0)  // else x may be null
      add_columns<V>(block.x + first, block.terms, block.term_step, columns, lanes, change);
    for (size_t c = 0; c < columns; c += V::width)
      lanes[c / V::width].store(out, first + c, in_vector(c));
  }
}

/// The sums of all items of a block. start(i, n) makes the accumulator of items i .. i + n - 1,
/// one in a lane, or of item i in all lanes if n = 0.
template <class V, class T, class Lanes, class Start, class Out, class Change>
inline void sum_items(const Block<T>& block, const Start& start, Out out, const Change& change) {
  if (!block.has_rows() && block.items <= narrow_strip * V::width) {
    sum_columns<narrow_strip, V, T, Lanes>(block, start, out, change);
  } else if (!block.has_rows()) {
    sum_columns<strip, V, T, Lanes>(block, start, out, change);
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

/// As load_lanes(), for all lanes of V.
template <class V, class F64 = typename V::Wide>
inline void load_wide(const double* x, size_t i, size_t n, F64 (&wide)[V::width / F64::width]) {
  for (size_t p = 0; p < V::width / F64::width; ++p) {
    const size_t begin = p * F64::width;
    const size_t rest = n > begin ? n - begin : 0;
    wide[p] = n == 0 ? F64::all(x[i])
                     : F64::load_first(rest == 0 ? x : x + i + begin,
                                       rest < F64::width ? rest : F64::width, F64::all(0.0));
  }
}

/// The same, rounded to the elements of V.
template <class V>
inline V load_narrow(const double* x, size_t i, size_t n) {
  typename V::Wide wide[V::width / V::Wide::width];
  load_wide<V>(x, i, n, wide);
  return V::narrow(wide);
}

}  // namespace
}  // namespace logitkit
