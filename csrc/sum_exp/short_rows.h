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

/// The terms of as many rows as a vector has lanes.
template <class V>
struct ShortTile {
  static constexpr size_t most_terms = short_row_bytes / sizeof(typename V::Element);
  V terms[most_terms];
};

/// Rows whose results Map makes of a tile. Map::run(tile, terms, made) replaces its terms, and
/// sets made[i] to 0 for row i if it cannot, else to 1.
template <class V, class Map>
class ShortRows {
  using Element = typename V::Element;

 public:
  static size_t rows(size_t) { return V::width; }

  /// Results for adjacent rows. between(at) is as in SoftmaxRows.
  template <class Between>
  void run(const Element* x, size_t rows, size_t terms, Element* y, double* made,
           const Between& between) {
    for (size_t at = 0; at < rows * terms; at += 4 * V::width) between(at);
    ShortTile<V> tile = {};
    load_tile(x, rows, terms, terms, tile.terms);
    Element each_made[V::width];
    if (terms == V::width)
      Map::run(tile, V::width, each_made);
    else
      Map::run(tile, terms, each_made);
    size_t not_made = 0;
    for (size_t i = 0; i < rows; ++i) {
      made[i] = double{each_made[i]};
      not_made += made[i] == 0.0;
    }
    if (not_made == 0) return store_tile(tile.terms, rows, terms, terms, y);
    Element results[V::width * ShortTile<V>::most_terms];
    store_tile(tile.terms, rows, terms, terms, results);
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; made[i] == 1.0 && j < terms; ++j)
        y[i * terms + j] = results[i * terms + j];
  }
};

/// 1 where a > b, else 0.
template <class V>
inline V ones_where_greater(V a, V b) {
  return select(greater(a, b), all<V>(1), all<V>(0));
}

template <class V>
struct ShortSoftmax {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  using Sums = Lanes<V, Keep::max>;

  [[gnu::always_inline]] static void run(ShortTile<V>& tile, size_t terms, Element* made) {
    V largest = tile.terms[0];
#pragma GCC unroll 16
    for (size_t j = 1; j < terms; ++j) largest = max(largest, tile.terms[j]);
    Sums sums;
    sums.expect(largest);
    // power (1 + t) is a term of the sum and, times the inverse of that, a result.
    ShortTile<V> powers = {}, factors = {};  // for a compiler that sees terms not used
    V least = all<V>(1), rests = all<V>(0);
#pragma GCC unroll 16
    for (size_t j = 0; j < terms; ++j) {
      const auto term = sums.term_of(tile.terms[j]);
      powers.terms[j] = term.power;
      factors.terms[j] = term.factor;
      least = min(least, term.power);
      if constexpr (sizeof(Element) < sizeof(double)) rests = fma(term.power, term.factor, rests);
    }
    DoubleDouble<F64> totals[Sums::parts];
    add_up(powers, factors, rests, terms, totals);
    const Inverse<V> inverse = inverse_of<V>(totals);
    F64 high[Sums::parts];
    for (size_t p = 0; p < Sums::parts; ++p) high[p] = totals[p].high;
    constexpr auto limit = static_cast<Element>(exponent_limit);
    const V total = V::narrow(high), zero = all<V>(0);
    // A NaN is greater than nothing.
    const V in_range = min(ones_where_greater(sums.base, zero - all<V>(limit)),
                           ones_where_greater(all<V>(limit), sums.base));
    min(in_range, ones_where_greater(total, zero)).store(made);
    if (__builtin_expect(any(greater(all<V>(smallest_power<Element>), least)), false))
      return of_any_size(tile, terms, sums.base, totals, inverse);
#pragma GCC unroll 16
    for (size_t j = 0; j < terms; ++j)
      tile.terms[j] = scaled_parts(powers.terms[j], factors.terms[j], inverse.scale, inverse.rest);
  }

  /// The sums of power (1 + t); `rests` has those of power t in float.
  [[gnu::always_inline]] static void add_up(const ShortTile<V>& powers, const ShortTile<V>& factors,
                                            V rests, size_t terms,
                                            DoubleDouble<F64> (&totals)[Sums::parts]) {
    if constexpr (sizeof(Element) < sizeof(double)) {
      F64 sum[Sums::parts], wide[Sums::parts];
      widen(rests, sum);
      size_t j = 0;
#pragma GCC unroll 8
      for (; j + 2 <= terms; j += 2) {
        widen(powers.terms[j] + powers.terms[j + 1], wide);
        for (size_t p = 0; p < Sums::parts; ++p) sum[p] = sum[p] + wide[p];
      }
      if (j < terms) {
        widen(powers.terms[j], wide);
        for (size_t p = 0; p < Sums::parts; ++p) sum[p] = sum[p] + wide[p];
      }
      for (size_t p = 0; p < Sums::parts; ++p) totals[p] = {sum[p], all<F64>(0.0)};
    } else {
      Sums sums;
      for (size_t j = 0; j < terms; ++j)
        sums.accumulate({rests, powers.terms[j], powers.terms[j] * factors.terms[j], rests});
      totals[0] = two_sum(sums.sum[0], sums.rest[0]);
    }
  }

  /// The results where some may be denormal.
  [[gnu::noinline]] static void of_any_size(ShortTile<V>& tile, size_t terms, V base,
                                            const DoubleDouble<F64> (&totals)[Sums::parts],
                                            Inverse<V> inverse) {
    F64 exponents[Sums::parts];
    for (size_t p = 0; p < Sums::parts; ++p) exponents[p] = exponent_below(totals[p].high);
    const V exponent = V::narrow(exponents), power = power_of_two(exponent);
    const ScaledExp<V> exp(base + exponent, inverse.scale * power, inverse.rest * power);
    for (size_t j = 0; j < terms; ++j) tile.terms[j] = exp.any_size(tile.terms[j]);
  }
};

template <class V>
struct ShortLogSoftmax {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  using Sums = Lanes<V, Keep::max_apart>;
  static constexpr size_t parts = Sums::parts;

  [[gnu::always_inline]] static void run(ShortTile<V>& tile, size_t terms, Element* made) {
    SecondLargest<V> largest;
#pragma GCC unroll 16
    for (size_t j = 0; j < terms; ++j) largest.add(tile.terms[j]);
    Sums sums;
    sums.expect(largest.second);
    size_t j = 0;
#pragma GCC unroll 4
    for (; j + 4 <= terms; j += 4)
      sums.add_in_range(
          Vectors<V, 4>{{tile.terms[j], tile.terms[j + 1], tile.terms[j + 2], tile.terms[j + 3]}},
          true);
#pragma GCC unroll 3
    for (; j < terms; ++j) sums.add_in_range(Vectors<V, 1>{{tile.terms[j]}}, true);

    F64 base[parts], top[parts], logs[parts];
    widen(sums.base, base);
    widen(sums.top, top);
    for (size_t p = 0; p < parts; ++p)
      logs[p] = log_of_sum<Element>(
          beside_max<Element, F64>({sums.sum[p], sums.rest[p]}, base[p], top[p]));
    const V log_sum = V::narrow(logs);
    // A NaN is greater than nothing.
    constexpr auto limit = static_cast<Element>(max_limit);
    const V low = ones_where_greater(sums.top, all<V>(-limit));
    const V high = ones_where_greater(all<V>(limit), sums.top);
    min(min(low, high), ones_where_greater(all<V>(limit), log_sum)).store(made);
#pragma GCC unroll 16
    for (size_t k = 0; k < terms; ++k) tile.terms[k] = (tile.terms[k] - sums.top) - log_sum;
  }
};

}  // namespace
}  // namespace logitkit
