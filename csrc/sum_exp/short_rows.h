// Softmax and log-softmax of rows of 64 bytes at most, which are transposed. Include only from
// files with an instruction set of their own, after that one's vectors.
//
// Each lane has a row: its maximum, sum and logarithm need no step across lanes, and the terms
// stay in registers or the first-level cache from the way there to the way back.
#pragma once

#include <cstddef>

#include "sum_exp/lanes.h"
#include "sum_exp/log_beside_max.h"
#include "sum_exp/loops.h"
#include "sum_exp/scaled_exp.h"
#include "sum_exp/tile.h"

namespace logitkit {
namespace {

/// The terms of as many rows as a vector has lanes; all are set, for the sake of compilers that
/// cannot see which are used.
template <class V>
struct ShortTile {
  static constexpr size_t most_terms = short_row_bytes / sizeof(typename V::Element);
  V terms[most_terms] = {};
};

/// Rows whose results Map makes of a tile, in three steps that a few tiles take together, so that
/// none waits for the end of another. Map::sum(tile, terms) sums the terms, take_sums() looks at
/// the sums, and write(tile, terms) replaces the terms by results and returns 1 in the lanes where
/// it can, else 0.
template <class V, class Map>
class ShortRows {
  using Element = typename V::Element;
  static constexpr size_t together = 4;

 public:
  /// How many rows run() takes.
  static size_t rows(size_t) { return together * V::width; }

  /// Results for adjacent rows. between(at) is as in SoftmaxRows; results are not written past
  /// the caches, and after() is not called.
  template <class Between, class After>
  void run(const Element* x, size_t rows, size_t terms, Element* y, double* made,
           const Between& between, const After&) {
    size_t tiles = 0;
    for (size_t i = 0; i < rows; i += V::width, ++tiles) {
      load_tile(x + i * terms, rows_from(i, rows), terms, terms, tiles_[tiles].terms);
      for (size_t j = 0; j < terms; j += 4) between(i * terms + j * V::width);
      if (terms == V::width)  // then loops know how long they are
        maps_[tiles].sum(tiles_[tiles].terms, V::width);
      else
        maps_[tiles].sum(tiles_[tiles].terms, terms);
    }
    for (size_t k = 0; k < tiles; ++k) maps_[k].take_sums();
    for (size_t k = 0; k < tiles; ++k)
      write(k, rows_from(k * V::width, rows), terms, y + k * V::width * terms, made + k * V::width);
  }

 private:
  static size_t rows_from(size_t i, size_t rows) {
    return rows - i < V::width ? rows - i : V::width;
  }

  /// The results of tile k.
  void write(size_t k, size_t rows, size_t terms, Element* y, double* made) {
    V* tile = tiles_[k].terms;
    const V made_lanes =
        terms == V::width ? maps_[k].write(tile, V::width) : maps_[k].write(tile, terms);
    for_parts(made_lanes, rows, [made](typename V::Wide part, size_t begin, size_t n) {
      part.store_first(made + begin, n);
    });
    if (!any(greater(all<V>(1), made_lanes))) return store_tile(tile, rows, terms, terms, y);
    Element results[V::width * ShortTile<V>::most_terms];
    store_tile(tile, rows, terms, terms, results);
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; made[i] == 1.0 && j < terms; ++j)
        y[i * terms + j] = results[i * terms + j];
  }

  ShortTile<V> tiles_[together];
  Map maps_[together];
};

/// 1 where low < x < high, which no NaN is; else 0.
template <class V>
inline V ones_between(typename V::Element low, V x, typename V::Element high) {
  const V zero = all<V>(0), one = all<V>(1);
  return select(greater(x, all<V>(low)), select(greater(all<V>(high), x), one, zero), zero);
}

/// The largest of n vectors, by lanes.
template <class V>
[[gnu::always_inline]] inline V largest_of(const V* x, size_t n) {
  V largest[4];
  for (V& v : largest) v = all<V>(minus_infinity);
#pragma GCC unroll 16
  for (size_t j = 0; j < n; ++j) largest[j % 4] = max(largest[j % 4], x[j]);
  return max(max(largest[0], largest[1]), max(largest[2], largest[3]));
}

/// The parts of the terms of a tile, and their sums.
template <class V>
class ShortSums {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  using Sums = Lanes<V, Keep::max>;
  static constexpr bool is_double = sizeof(Element) == sizeof(double);

 public:
  static constexpr size_t parts = Sums::parts;

  /// Takes the parts of n terms, whose base is near the exponent of the largest.
  [[gnu::always_inline]] void add(const V* x, size_t n, V largest) {
    Sums sums;
    sums.expect(largest);
    base = sums.base;
#pragma GCC unroll 16
    for (size_t j = 0; j < n; ++j) {
      const auto term = sums.term_of(x[j]);
      powers.terms[j] = term.power;
      factors.terms[j] = term.factor;
    }
    if constexpr (is_double)
      add_doubles(n, sums);
    else
      add_floats(n);
  }

  V least_power(size_t n) const {
    V least[2] = {powers.terms[0], powers.terms[0]};
#pragma GCC unroll 16
    for (size_t j = 1; j < n; ++j) least[j % 2] = min(least[j % 2], powers.terms[j]);
    return min(least[0], least[1]);
  }

  V base;
  ShortTile<V> powers, factors;  // power (1 + factor)
  DoubleDouble<F64> totals[parts];

 private:
  [[gnu::always_inline]] void add_doubles(size_t n, Sums& sums) {
    for (size_t j = 0; j < n; ++j)
      sums.accumulate({powers.terms[j], powers.terms[j] * factors.terms[j], base});
    totals[0] = two_sum(sums.sum[0], sums.rest[0]);
  }

  /// Pairs of powers, and all the rests, lose little as floats.
  [[gnu::always_inline]] void add_floats(size_t n) {
    V rests[2] = {all<V>(0), all<V>(0)};
    F64 sum[2][parts], wide[parts];
#pragma GCC unroll 16
    for (size_t j = 0; j < n; ++j)
      rests[j % 2] = fma(powers.terms[j], factors.terms[j], rests[j % 2]);
    widen(rests[0] + rests[1], sum[0]);
    for (size_t p = 0; p < parts; ++p) sum[1][p] = all<F64>(0.0);
#pragma GCC unroll 8
    for (size_t j = 0; j < n; j += 2) {
      widen(j + 1 < n ? powers.terms[j] + powers.terms[j + 1] : powers.terms[j], wide);
      for (size_t p = 0; p < parts; ++p) sum[j / 2 % 2][p] = sum[j / 2 % 2][p] + wide[p];
    }
    for (size_t p = 0; p < parts; ++p) totals[p] = {sum[0][p] + sum[1][p], all<F64>(0.0)};
  }
};

template <class V>
class ShortSoftmax {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  static constexpr size_t parts = ShortSums<V>::parts;

 public:
  [[gnu::always_inline]] void sum(const V* tile, size_t terms) {
    sums_.add(tile, terms, largest_of(tile, terms));
  }

  void take_sums() { inverse_ = inverse_of<V>(sums_.totals); }

  [[gnu::always_inline]] V write(V* tile, size_t terms) const {
    F64 totals[parts];
    for (size_t p = 0; p < parts; ++p) totals[p] = sums_.totals[p].high;
    constexpr auto limit = static_cast<Element>(exponent_limit);
    const V made = min(ones_between(-limit, sums_.base, limit),
                       ones_between(Element{0}, V::narrow(totals), limit));
    const V least = sums_.least_power(terms);
    if (__builtin_expect(any(greater(all<V>(smallest_power<Element>), least)), false)) {
      any_size(tile, terms);
      return made;
    }
#pragma GCC unroll 16
    for (size_t j = 0; j < terms; ++j)
      tile[j] = scaled_parts(sums_.powers.terms[j], sums_.factors.terms[j], inverse_);
    return made;
  }

 private:
  /// The results where some may be denormal.
  [[gnu::noinline]] void any_size(V* tile, size_t terms) const {
    F64 exponents[parts];
    for (size_t p = 0; p < parts; ++p) exponents[p] = exponent_below(sums_.totals[p].high);
    const V exponent = V::narrow(exponents), power = power_of_two(exponent);
    const ScaledExp<V> exp(sums_.base + exponent, inverse_.high * power, inverse_.low * power);
    for (size_t j = 0; j < terms; ++j) tile[j] = exp.any_size(tile[j]);
  }

  ShortSums<V> sums_;
  Factor<V> inverse_;
};

template <class V>
class ShortLogSoftmax {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  static constexpr size_t parts = ShortSums<V>::parts;

 public:
  [[gnu::always_inline]] void sum(const V* tile, size_t terms) {
    V* terms_left = beside_.terms;
#pragma GCC unroll 16
    for (size_t j = 0; j < terms; ++j) terms_left[j] = tile[j];
    // Of each two, the smaller one is put aside, until the largest of all is left, in front.
#pragma GCC unroll 5
    for (size_t left = terms; left > 1; left -= left / 2) {
#pragma GCC unroll 8
      for (size_t k = 0; k < left / 2; ++k) {
        const V a = terms_left[k], b = terms_left[left - 1 - k];
        terms_left[k] = max(b, a);  // the other way round, as a NaN must stay
        terms_left[left - 1 - k] = min(a, b);
      }
    }
    top_ = terms_left[0];
    sums_.add(terms_left + 1, terms - 1, largest_of(terms_left + 1, terms - 1));
  }

  void take_sums() {
    F64 base[parts], top[parts], logs[parts];
    widen(sums_.base, base);
    widen(top_, top);
    for (size_t p = 0; p < parts; ++p)
      logs[p] = log_beside<Element>(sums_.totals[p], base[p], top[p]);
    log_sum_ = V::narrow(logs);
  }

  [[gnu::always_inline]] V write(V* tile, size_t terms) const {
#pragma GCC unroll 16
    for (size_t k = 0; k < terms; ++k) tile[k] = (tile[k] - top_) - log_sum_;
    constexpr auto limit = static_cast<Element>(max_limit);
    return min(ones_between(-limit, top_, limit), ones_between(-limit, log_sum_, limit));
  }

 private:
  ShortTile<V> beside_;
  ShortSums<V> sums_;
  V top_, log_sum_;
};

}  // namespace
}  // namespace logitkit
