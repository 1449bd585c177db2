// log_softmax of rows that a cache holds, with one look at the exponentials. Include only from
// files with an instruction set of their own, after that one's vectors.
//
// The largest two terms of a row come first. What is beside the maximum is summed from the
// exponent of the second on, so that log(1 + sum) has all its digits, however small the sum.
// Several short rows go through each step together, so that none waits for the end of another.
#pragma once

#include <cstddef>

#include "simd/prefetch.h"
#include "sum_exp/lanes.h"
#include "sum_exp/log_beside_max.h"

namespace logitkit {
namespace {

/// The next number below x; below 0 the largest that is not denormal.
template <class V>
inline V next_below(V x) {
  using Element = typename V::Element;
  constexpr bool is_double = sizeof(Element) == sizeof(double);
  const V zero = all<V>(0), bit = all<V>(static_cast<Element>(is_double ? 0x1p-1074 : 0x1p-149));
  const V below_zero = all<V>(static_cast<Element>(is_double ? -0x1p-1022 : -0x1p-126));
  return select(greater(x, zero), sub_bits(x, bit),
                select(greater(zero, x), add_bits(x, bit), below_zero));
}

template <class V>
class LogSoftmaxRows {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  using Sums = Lanes<V, Keep::max>;
  static constexpr size_t parts = Sums::parts;
  static constexpr size_t group = 4;  // vectors between two calls of between()

 public:
  /// How many rows run() takes.
  static size_t rows(size_t terms) {
    const size_t fit = bytes_at_once / 2 / sizeof(Element) / terms;
    return fit == 0 ? 1 : fit < V::width ? fit : V::width;
  }

  /// y = log_softmax(x) for adjacent rows of up to bytes_at_once each. made[i] = 0 and y is as it
  /// was where a term is a NaN or +inf, or the largest two are beyond exponent_limit; else 1.
  /// between(at) and after() are as in SoftmaxRows.
  template <class Between, class After>
  void run(const Element* x, size_t rows, size_t terms, Element* y, double* made,
           const Between& between, const After& after) {
    find_largest(x, rows, terms);
    for (size_t i = 0; i < V::width; ++i) high_[i] = low_[i] = all<F64>(1.0);
    for (size_t i = 0; i < rows; ++i) sum(x + i * terms, terms, i, rows, between);
    take_logs();
    for (size_t i = 0; i < rows; ++i) {
      constexpr auto limit = static_cast<Element>(exponent_limit * ExpConstants<double>::ln_2);
      // A NaN fails, and so does the infinity beside a maximum of +inf.
      const bool usable = top_[i] > -limit && top_[i] < limit && second_[i] > -limit &&
                          static_cast<double>(log_sum_[i]) < limit;
      made[i] = usable ? 1.0 : 0.0;
      if (usable) write(x + i * terms, terms, i, y + i * terms, after);
    }
  }

 private:
  [[gnu::always_inline]] static V load_terms(const Element* x, size_t n) {
    return n >= V::width ? V::load(x) : V::load_first(x, n, all<V>(minus_infinity));
  }

  /// The largest two terms of each row, and what the sums of the rows begin with.
  void find_largest(const Element* x, size_t rows, size_t terms) {
    V top[V::width], second[V::width];
    for (size_t i = 0; i < V::width; ++i) {
      top[i] = second[i] = all<V>(minus_infinity);
      if (i >= rows) continue;
      const Element* row = x + i * terms;
      V a = top[i], b = a, c = a, d = a;
      size_t j = 0;
      for (; j + 2 * V::width <= terms; j += 2 * V::width) {
        const V u = V::load(row + j), v = V::load(row + j + V::width);
        b = max(b, min(a, u));
        a = max(a, u);
        d = max(d, min(c, v));
        c = max(c, v);
      }
      for (; j < terms; j += V::width) {
        const V u = load_terms(row + j, terms - j);
        b = max(b, min(a, u));
        a = max(a, u);
      }
      second[i] = max(max(b, d), min(a, c));
      top[i] = max(a, c);
    }
    transpose(top);
    transpose(second);
    for (size_t n = V::width / 2; n > 0; n /= 2)
      for (size_t i = 0; i < n; ++i) {
        second[i] = max(max(second[i], second[i + n]), min(top[i], top[i + n]));
        top[i] = max(top[i], top[i + n]);
      }
    top[0].store(top_);
    second[0].store(second_);
    Sums::exponent_of(second[0] * all<V>(ExpConstants<Element>::log2_e)).store(bases_);
    // Where several share the maximum, nothing is small beside it, and none is left out.
    const V infinity = all<V>(0) - all<V>(minus_infinity);
    select(greater(top[0], second[0]), next_below(top[0]), infinity).store(limits_);
  }

  /// The sum of row i; and asks for the batch that is next.
  template <class Between>
  [[gnu::always_inline]] void sum(const Element* x, size_t terms, size_t i, size_t rows,
                                  const Between& between) {
    Sums sums;
    sums.set_base(all<V>(bases_[i]));
    const V limit = all<V>(limits_[i]);
    // A NaN stays one.
    const auto chosen = [limit](V x) {
      return select(greater(x, limit), all<V>(minus_infinity), x);
    };
    size_t j = 0;
    for (; j + group * V::width <= terms; j += group * V::width) {
      Vectors<V, group> some;
#pragma GCC unroll 4
      for (size_t k = 0; k < group; ++k) {
        some.v[k] = chosen(V::load(x + j + k * V::width));
        prefetch_far(x + j + k * V::width + far_ahead / sizeof(Element));
        prefetch(x + j + k * V::width + rows * terms);
      }
      sums.add_in_range(some, true);
      between(i * terms + j);
    }
    for (; j < terms; j += V::width)
      sums.add_in_range(Vectors<V, 1>{{chosen(load_terms(x + j, terms - j))}}, true);
    high_[i] = sums.sum[0];
    low_[i] = sums.rest[0];
    for (size_t p = 1; p < parts; ++p) high_[i] = high_[i] + sums.sum[p];
  }

  void take_logs() {
    F64 base[parts], top[parts], logs[parts];
    widen(V::load(bases_), base);
    widen(V::load(top_), top);
    // Where several share the maximum, it is in the sum.
    F64 counted[parts];
    const V infinity = all<V>(0) - all<V>(minus_infinity);
    widen(select(greater(infinity, V::load(limits_)), all<V>(0), all<V>(1)), counted);
    for (size_t p = 0; p < parts; ++p) {
      const DoubleDouble<F64> total = Sums::totals(high_ + p * F64::width, low_ + p * F64::width);
      if constexpr (needs_twice<Element>) {
        const DoubleDouble<F64> beside = closely_beside_max(total, base[p], top[p]);
        const DoubleDouble<F64> rest = two_sum(beside.high, all<F64>(0.0) - counted[p]);
        logs[p] = log_of_one_and(DoubleDouble<F64>{rest.high, rest.low + beside.low});
      } else {
        logs[p] = log_of_one_and(nearly_beside_max(total.high, base[p], top[p]) - counted[p]);
      }
    }
    V::narrow(logs).store(log_sum_);
  }

  template <class After>
  [[gnu::always_inline]] void write(const Element* x, size_t terms, size_t i, Element* y,
                                    const After& after) const {
    const V top = all<V>(top_[i]), log_sum = all<V>(log_sum_[i]);
    size_t j = 0;
    for (; j + group * V::width <= terms; j += group * V::width) {
#pragma GCC unroll 4
      for (size_t k = 0; k < group; ++k)
        ((V::load(x + j + k * V::width) - top) - log_sum).store(y + j + k * V::width);
      after();
    }
    for (; j + V::width <= terms; j += V::width) ((V::load(x + j) - top) - log_sum).store(y + j);
    if (j < terms)
      ((V::load_first(x + j, terms - j, top) - top) - log_sum).store_first(y + j, terms - j);
  }

  Element top_[V::width], second_[V::width], bases_[V::width], limits_[V::width],
      log_sum_[V::width];
  F64 high_[V::width], low_[V::width];  // sums in each lane
};

}  // namespace
}  // namespace logitkit
