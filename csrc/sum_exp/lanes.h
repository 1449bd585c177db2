// Sums of exponentials in every lane of a vector. Include only from files with an instruction
// set of their own, after that one's vectors.
//
// A lane keeps sum_j 2^(n_j - base) (1 + t_j) for the e^x_j = 2^n_j (1 + t_j) that it has seen.
// The base is an integer near the largest n. It rises when a term comes that is so much larger
// that sums might overflow, which hardly ever happens: powers of two cost no digits, so the base
// need not follow the maximum as in the online normaliser of M. Milakov and N. Gimelshein (2018,
// arXiv:1805.02867). The idea of an exponent of its own is that of M. Dukhan and A. Ablavatski,
// "Two-pass softmax algorithm" (2020, arXiv:2001.04438).
#pragma once

#include <cstddef>

#include "simd/double_double.h"
#include "simd/exp.h"
#include "sum_exp/loops.h"

namespace logitkit {
namespace {

using std::size_t;

/// The exponents n - base of the terms that a lane tells from zero without overflow.
template <class Element>
struct ExponentRange;
template <>
struct ExponentRange<float> {
  static constexpr float lowest = -125.25f;  // 2^-126 is the last normal number
  static constexpr float highest = 60.0f;    // eight terms of that size are far from overflow
};
template <>
struct ExponentRange<double> {
  static constexpr double lowest = -1021.25;
  static constexpr double highest = 500.0;
};

constexpr float minus_infinity = -__builtin_huge_valf();

/// Sums over a few terms: of 2^n and of 2^n t; with p = 2^n (1 + t), of p z and of p^2.
template <class V>
struct Terms {
  V powers, rests, means, squares;
};

template <class V, bool moments>
struct Lanes {
  using Element = typename V::Element;
  using C = ExpConstants<Element>;
  using F64 = typename V::Wide;
  static constexpr size_t parts = V::width / F64::width;
  static constexpr bool is_double = sizeof(Element) == sizeof(double);

  V base, bias, lowest, highest, top;  // top: the largest term
  F64 sum[parts], rest[parts];
  F64 mean[moments ? parts : 1], squares[moments ? parts : 1];

  Lanes() : top(all<V>(minus_infinity)) {
    set_base(all<V>(static_cast<Element>(-exponent_limit)));
    for (size_t p = 0; p < parts; ++p) sum[p] = rest[p] = all<F64>(0.0);
    if constexpr (moments)
      for (size_t p = 0; p < parts; ++p) mean[p] = squares[p] = all<F64>(0.0);
  }

  void set_base(V to) {
    base = to;
    bias = exponent_bias(base);
    lowest = (base + all<V>(ExponentRange<Element>::lowest)) * all<V>(C::ln_2);
    highest = (base + all<V>(ExponentRange<Element>::highest)) * all<V>(C::ln_2);
  }

  /// Adds a term for each of the vectors to each lane; -inf adds nothing.
  template <size_t count>
  void add(const V* x) {
    const V largest = largest_of<count>(x);
    const auto too_high = greater(largest, highest);
    if (any(too_high)) raise(too_high, largest);
    top = max(top, largest);
    accumulate(terms_of<count>(x));
  }

  template <size_t count>
  static V largest_of(const V* x) {
    if constexpr (count == 1)
      return x[0];
    else
      return max(largest_of<count / 2>(x), largest_of<count / 2>(x + count / 2));
  }

  // By halves, so that a sum of eight has the error of three additions.
  template <size_t count>
  Terms<V> terms_of(const V* x) const {
    if constexpr (count > 1) {
      const Terms<V> a = terms_of<count / 2>(x), b = terms_of<count / 2>(x + count / 2);
      Terms<V> sum = {a.powers + b.powers, a.rests + b.rests, a.means, a.squares};
      if constexpr (moments) {
        sum.means = a.means + b.means;
        sum.squares = a.squares + b.squares;
      }
      return sum;
    } else {
      // x stands second, as a NaN has to stay one. What lies below the lowest adds no more
      // than 2^-125 to a sum of at least 1/2.
      const V z = max(lowest, x[0]);
      const ExpParts<V> e = exp_parts(z);
      const V power = power_of_two(e.n, bias);
      Terms<V> term = {power, power * e.t, power, power};
      if constexpr (moments) {
        const V p = fma(power, e.t, power);
        term.means = p * fnma(base, all<V>(C::ln_2), z);
        term.squares = p * p;
      }
      return term;
    }
  }

  void accumulate(const Terms<V>& terms) {
    F64 powers[parts], rests[parts];
    widen(terms.powers, powers);
    widen(terms.rests, rests);
    for (size_t p = 0; p < parts; ++p) {
      if constexpr (is_double) {
        const DoubleDouble<F64> total = two_sum(sum[p], powers[p]);
        sum[p] = total.high;
        rest[p] = rest[p] + (total.low + rests[p]);
      } else {
        sum[p] = sum[p] + (powers[p] + rests[p]);
      }
    }
    if constexpr (moments) {
      F64 means[parts], more_squares[parts];
      widen(terms.means, means);
      widen(terms.squares, more_squares);
      for (size_t p = 0; p < parts; ++p) {
        mean[p] = mean[p] + means[p];
        squares[p] = squares[p] + more_squares[p];
      }
    }
  }

  /// Sets the base of some lanes to the exponent of their largest term.
  template <class Mask>
  void raise(Mask lanes, V largest) {
    const V limit = all<V>(static_cast<Element>(exponent_limit));
    const V n = round(min(limit, max(largest * all<V>(C::log2_e), all<V>(0) - limit)));
    const V to = select(lanes, n, base);
    F64 change[parts];
    widen(base - to, change);
    for (size_t p = 0; p < parts; ++p) rescale(p, change[p]);
    set_base(to);
  }

  /// Part p as seen from a base that is lower by `change` <= 0.
  void rescale(size_t p, F64 change) {
    const F64 factor = power_of_two(max(change, all<F64>(-1000.0)));
    if constexpr (moments) {
      const F64 shift = change * all<F64>(ExpConstants<double>::ln_2);
      mean[p] = fma(shift, sum[p] + rest[p], mean[p]) * factor;
      squares[p] = squares[p] * factor * factor;
    }
    sum[p] = sum[p] * factor;
    rest[p] = rest[p] * factor;
  }

  /// One item for each of the first `count` lanes.
  void store(SumExpMoments out, size_t i, size_t count) const {
    F64 exponent[parts], largest[parts];
    widen(base, exponent);
    widen(top, largest);
    for (size_t p = 0; p < parts && p * F64::width < count; ++p) {
      const size_t begin = i + p * F64::width;
      const size_t n = count - p * F64::width < F64::width ? count - p * F64::width : F64::width;
      exponent[p].store_first(out.sums.exponent + begin, n);
      largest[p].store_first(out.sums.max + begin, n);
      sum[p].store_first(out.sums.sum + begin, n);
      rest[p].store_first(out.sums.rest + begin, n);
      if constexpr (moments) {
        mean[p].store_first(out.mean + begin, n);
        squares[p].store_first(out.sum_of_squares + begin, n);
      }
    }
  }

  /// One item for each of the first `count` lanes, as store() left them.
  void load(SumExpMoments from, size_t i, size_t count) {
    static_assert(is_double && moments, "these are what store() writes");
    const F64 zero = all<F64>(0.0);
    base = F64::load_first(from.sums.exponent + i, count, zero);
    top = F64::load_first(from.sums.max + i, count, zero);
    sum[0] = F64::load_first(from.sums.sum + i, count, zero);
    rest[0] = F64::load_first(from.sums.rest + i, count, zero);
    mean[0] = F64::load_first(from.mean + i, count, zero);
    squares[0] = F64::load_first(from.sum_of_squares + i, count, zero);
  }

  /// All lanes as item i.
  void store_sum(SumExpMoments out, size_t i) {
    const Element highest_base = largest_lane(base);
    F64 change[parts];
    widen(base - all<V>(highest_base), change);
    for (size_t p = 0; p < parts; ++p) rescale(p, change[p]);
    out.sums.exponent[i] = double{highest_base};
    out.sums.max[i] = double{largest_lane(top)};
    if constexpr (is_double) {
      double lanes[2][F64::width];
      sum[0].store(lanes[0]);
      rest[0].store(lanes[1]);
      for (size_t n = F64::width / 2; n > 0; n /= 2)
        for (size_t k = 0; k < n; ++k) {
          const DoubleDouble<double> pair = two_sum(lanes[0][k], lanes[0][k + n]);
          lanes[0][k] = pair.high;
          lanes[1][k] += lanes[1][k + n] + pair.low;
        }
      out.sums.sum[i] = lanes[0][0];
      out.sums.rest[i] = lanes[1][0];
    } else {
      out.sums.sum[i] = sum_of_parts(sum);
      out.sums.rest[i] = 0.0;
    }
    if constexpr (moments) {
      out.mean[i] = sum_of_parts(mean);
      out.sum_of_squares[i] = sum_of_parts(squares);
    }
  }

  static double sum_of_parts(const F64 (&x)[parts]) {
    if constexpr (parts == 1)
      return sum_of_lanes(x[0]);
    else
      return sum_of_lanes(x[0] + x[1]);
  }
};

}  // namespace
}  // namespace logitkit
