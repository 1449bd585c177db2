// Softmax of rows that a cache holds, with one exponential of each term. Include only from files
// with an instruction set of their own, after that one's vectors.
//
// The parts of e^x are kept until the sum is known: power (1 + t) is a term of it and, times the
// inverse of the sum, a result, of which no rounding between took a digit. Several short rows
// go through each step together, so that none waits for the end of another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/prefetch.h"
#include "sum_exp/lanes.h"
#include "sum_exp/scaled_exp.h"

namespace logitkit {
namespace {

template <class V>
class SoftmaxRows {
  using Element = typename V::Element;
  using F64 = typename V::Wide;
  using Sums = Lanes<V, Keep::max>;
  static constexpr bool is_double = sizeof(Element) == sizeof(double);
  static constexpr size_t group = 4;          // vectors that are looked at together
  static constexpr double most_sum = 0x1p32;  // in which no power is too small to be written
  static constexpr double far_above = 0x1p40;
  static constexpr size_t most_rows = V::width;
  static constexpr size_t room = bytes_at_once / sizeof(Element) / V::width;  // vectors

 public:
  /// How many rows run() takes.
  static size_t rows(size_t terms) {
    const size_t fit = room / 2 / vectors_of(terms);  // beside the rows and results of others
    return fit == 0 ? 1 : fit < most_rows ? fit : most_rows;
  }

  /// y = softmax(x) for adjacent rows of up to bytes_at_once each. made[i] = 0 and y is as it was
  /// where a term is a NaN, +inf, or so much larger than the first ones that the sum is not in
  /// range, or where that is beyond exponent_limit; else 1.
  ///
  /// between(at) is called after each few vectors of the first step, which end at x + at, and
  /// after() after each few results: what waits for the memory goes there.
  template <class Between, class After>
  void run(const Element* x, size_t rows, size_t terms, Element* y, double* made,
           const Between& between, const After& after) {
    set_bases(x, rows, terms);
    for (size_t i = 0; i < rows; ++i) {
      made[i] = sum(x, terms, i, rows, between) ? 1.0 : 0.0;
      if (made[i] == 0.0) high_[i] = low_[i] = all<F64>(1.0);
    }
    for (size_t i = rows; i < most_rows; ++i) high_[i] = low_[i] = all<F64>(1.0);
    invert_sums();
    for (size_t i = 0; i < rows; ++i) {
      // No result is denormal then that is made of parts above smallest_power.
      if (!(total_[i] < most_sum)) made[i] = 0.0;
      if (made[i] == 1.0) write(x + i * terms, terms, i, y + i * terms, after);
    }
  }

 private:
  static size_t vectors_of(size_t terms) { return (terms + V::width - 1) / V::width; }

  [[gnu::always_inline]] static V load_terms(const Element* x, size_t n) {
    return n >= V::width ? V::load(x) : V::load_first(x, n, all<V>(minus_infinity));
  }

  /// The exponents of the largest of the first terms of each row.
  void set_bases(const Element* x, size_t rows, size_t terms) {
    V largest[V::width];
    for (size_t i = 0; i < V::width; ++i) {
      largest[i] = all<V>(minus_infinity);
      const Element* row = x + i * terms;
      if (i < rows && terms >= group * V::width)
        largest[i] = max(max(V::load(row), V::load(row + V::width)),
                         max(V::load(row + 2 * V::width), V::load(row + 3 * V::width)));
      else if (i < rows)
        for (size_t j = 0; j < terms; j += V::width)
          largest[i] = max(largest[i], load_terms(row + j, terms - j));
    }
    transpose(largest);
    for (size_t n = V::width / 2; n > 0; n /= 2)
      for (size_t i = 0; i < n; ++i) largest[i] = max(largest[i], largest[i + n]);
    Sums::exponent_of(largest[0] * all<V>(ExpConstants<Element>::log2_e)).store(bases_);
  }

  /// The sum of row i and the parts of its terms; and asks for the batch that is next.
  template <class Between>
  [[gnu::always_inline]] bool sum(const Element* rows_from, size_t terms, size_t i, size_t rows,
                                  const Between& between) {
    const Element* x = rows_from + i * terms;
    constexpr auto limit = static_cast<Element>(exponent_limit);
    if (!(bases_[i] > -limit && bases_[i] < limit)) return false;
    Sums sums;
    sums.set_base(all<V>(bases_[i]));
    if constexpr (is_double) sums.sum[0] = all<F64>(far_above);
    V rests = all<V>(0);  // the share of t
    size_t j = 0, at = i * vectors_of(terms) * V::width;
    for (; j + group * V::width <= terms; j += group * V::width, at += group * V::width) {
      for (size_t k = 0; k < group; ++k) {
        prefetch_far(x + j + k * V::width + far_ahead / sizeof(Element));
        prefetch(x + j + k * V::width + rows * terms);
      }
      if (!add<group>(x + j, group * V::width, at, sums, rests)) return false;
      if (j / V::width % 16 == 12) flush(rests, sums);
      between(i * terms + j);
    }
    for (; j < terms; j += V::width, at += V::width)
      if (!add<1>(x + j, terms - j, at, sums, rests)) return false;
    flush(rests, sums);
    if constexpr (is_double) {
      high_[i] = sums.sum[0] - all<F64>(far_above);
      low_[i] = rests;
    } else {
      high_[i] = sums.sum[0];
      low_[i] = all<F64>(0.0);
    }
    for (size_t p = 1; p < Sums::parts; ++p) high_[i] = high_[i] + sums.sum[p];
    return true;
  }

  template <size_t count>
  [[gnu::always_inline]] bool add(const Element* x, size_t terms, size_t at, Sums& sums, V& rests) {
    const V limit = largest_in_range<true, V>();
    V n = limit;
    typename Sums::Term before = {n, n, n};
#pragma GCC unroll 4
    for (size_t k = 0; k < count; ++k) {
      const auto term = sums.term_of(load_terms(x + k * V::width, terms));
      term.power.store(power_ + at + k * V::width);
      term.factor.store(t_ + at + k * V::width);
      if (count == 1 || k % 2 == 1) n = or_bits(n, before.n, term.n);
      if constexpr (!is_double) {
        rests = fma(term.power, term.factor, rests);
        if (count == 1 || k % 2 == 1) {  // pairs of powers lose little as floats
          F64 wide[Sums::parts];
          widen(count == 1 ? term.power : before.power + term.power, wide);
          for (size_t p = 0; p < Sums::parts; ++p) sums.sum[p] = sums.sum[p] + wide[p];
        }
        before = term;
      } else if constexpr (count == 1) {
        add_doubles(term.power, term.power * term.factor, sums, rests);
      } else {
        if (k % 2 == 1)  // so do pairs of powers that have half the digits
          add_doubles(before.power + term.power,
                      fma(term.power, term.factor, before.power * before.factor), sums, rests);
        before = term;
      }
    }
    return !any_bits_above(n, limit);
  }

  /// The sum is larger than all powers together, so that what rounding takes is found at once.
  [[gnu::always_inline]] static void add_doubles(V powers, V more_rests, Sums& sums, V& rests) {
    const DoubleDouble<V> total = fast_two_sum(sums.sum[0], powers);
    sums.sum[0] = total.high;
    rests = rests + (more_rests + total.low);
  }

  /// Few small parts are added before the sum takes all but the last bits of them.
  [[gnu::always_inline]] static void flush(V& rests, Sums& sums) {
    if constexpr (!is_double) {
      F64 wide[Sums::parts];
      widen(rests, wide);
      for (size_t p = 0; p < Sums::parts; ++p) sums.sum[p] = sums.sum[p] + wide[p];
      rests = all<V>(0);
    } else {
      const DoubleDouble<V> total = fast_two_sum(sums.sum[0], rests);
      sums.sum[0] = total.high;
      rests = total.low;
    }
  }

  /// The totals of all rows and their inverses, scale + rest each.
  void invert_sums() {
    DoubleDouble<F64> totals[Sums::parts];
    for (size_t p = 0; p < Sums::parts; ++p) {
      const DoubleDouble<F64> sum = Sums::totals(high_ + p * F64::width, low_ + p * F64::width);
      totals[p] = fast_two_sum(sum.high, sum.low);
      totals[p].high.store(total_ + p * F64::width);
    }
    const Factor<V> inverse = inverse_of<V>(totals);
    inverse.sum.store(inverse_);
    inverse.high.store(inverse_high_);
    inverse.low.store(inverse_low_);
  }

  /// y = the terms of row i over their sum.
  template <class After>
  [[gnu::always_inline]] void write(const Element* x, size_t terms, size_t i, Element* y,
                                    const After& after) const {
    const Factor<V> inverse = {all<V>(inverse_[i]), all<V>(inverse_high_[i]),
                               all<V>(inverse_low_[i])};
    const V smallest = all<V>(smallest_power<Element>);
    size_t j = 0, at = i * vectors_of(terms) * V::width;
    for (; j + group * V::width <= terms; j += group * V::width, at += group * V::width) {
      V power[group];
#pragma GCC unroll 4
      for (size_t k = 0; k < group; ++k) power[k] = V::load(power_ + at + k * V::width);
      const V least = min(min(power[0], power[1]), min(power[2], power[3]));
      if (__builtin_expect(any(greater(smallest, least)), false)) {
        write_any_size(x + j, group * V::width, i, y + j);
        continue;
      }
#pragma GCC unroll 4
      for (size_t k = 0; k < group; ++k)
        scaled_parts(power[k], V::load(t_ + at + k * V::width), inverse)
            .store(y + j + k * V::width);
      after();
    }
    for (; j + V::width <= terms; j += V::width, at += V::width) {
      const V power = V::load(power_ + at);
      if (__builtin_expect(any(greater(smallest, power)), false))
        write_any_size(x + j, V::width, i, y + j);
      else
        scaled_parts(power, V::load(t_ + at), inverse).store(y + j);
    }
    if (j == terms) return;
    const V power = V::load_first(power_ + at, terms - j, all<V>(1));
    if (__builtin_expect(any(greater(smallest, power)), false))
      write_any_size(x + j, terms - j, i, y + j);
    else
      scaled_parts(power, V::load(t_ + at), inverse).store_first(y + j, terms - j);
  }

  /// The same for terms of any size.
  [[gnu::noinline]] void write_any_size(const Element* x, size_t terms, size_t i,
                                        Element* y) const {
    // The sum is fraction 2^exponent, 1/2 <= fraction < 1.
    std::uint64_t bits;
    __builtin_memcpy(&bits, total_ + i, sizeof bits);
    const int exponent = static_cast<int>(bits >> 52) - ExpConstants<double>::bias + 1;
    const V half_power = power_of_two(all<V>(static_cast<Element>(exponent - 1)));
    const ScaledExp<V> exp(all<V>(bases_[i] + static_cast<Element>(exponent - 1)),
                           all<V>(inverse_high_[i]) * half_power,
                           all<V>(inverse_low_[i]) * half_power);
    for (size_t j = 0; j < terms; j += V::width) {
      const V result = exp.any_size(load_terms(x + j, terms - j));
      if (terms - j >= V::width)
        result.store(y + j);
      else
        result.store_first(y + j, terms - j);
    }
  }

  Element bases_[most_rows];
  F64 high_[most_rows], low_[most_rows];  // sums in each lane
  double total_[most_rows];
  Element inverse_[most_rows], inverse_high_[most_rows], inverse_low_[most_rows];
  alignas(64) Element power_[room * V::width];
  alignas(64) Element t_[room * V::width];
};

}  // namespace
}  // namespace logitkit
