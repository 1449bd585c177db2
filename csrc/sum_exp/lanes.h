// Sums of exponentials in every lane of a vector. Include only from files with an instruction
// set of their own, after that one's vectors.
//
// A lane keeps sum_j power_j (1 + t_j) for the e^x_j 2^-base = power_j (1 + t_j) that it has
// seen. The base is an integer near the exponent of the largest. It rises when a term comes that is
// so much larger that sums might overflow, which hardly ever happens: powers of two cost no digits,
// so the base need not follow the maximum as in the online normaliser of M. Milakov and N.
// Gimelshein (2018, arXiv:1805.02867). The idea of an exponent of its own is that of M. Dukhan and
// A. Ablavatski, "Two-pass softmax algorithm" (2020, arXiv:2001.04438).
#pragma once

#include <cstddef>

#include "simd/double_double.h"
#include "simd/exp.h"
#include "simd/table_exp.h"
#include "sum_exp/largest.h"
#include "sum_exp/loops.h"

namespace logitkit {
namespace {

using std::size_t;

// Of how many terms to come accumulators may ask the largest: so many stay in the cache.
constexpr size_t terms_ahead = 2048;

/// What is kept beside the sum of exponentials. Where the maximum is, so is what rounding took
/// from the terms: those sums are for softmax, which needs each digit. The maximum may be kept
/// instead of its term, of which the sum is then free.
enum class Keep { nothing, max, moments, max_apart };

/// A few vectors, to be held in registers.
template <class V, size_t count>
struct Vectors {
  V v[count];
};

/// Sums over a few terms power (1 + t): of power and of power t. With moments of p, of p z and of
/// p^2 instead, p being a term rounded to its type.
template <class V>
struct Terms {
  V powers, rests, squares;
};

/// f(part, begin, n) for the parts that hold the first `count` lanes, n of them from `begin` on.
template <class F64, size_t parts, class F>
inline void for_parts(const F64 (&x)[parts], size_t count, const F& f) {
  for (size_t begin = 0; begin < count; begin += F64::width)
    f(x[begin / F64::width], begin, count - begin < F64::width ? count - begin : F64::width);
}
template <class V, class F>
inline void for_parts(V x, size_t count, const F& f) {
  typename V::Wide wide[V::width / V::Wide::width];
  widen(x, wide);
  for_parts(wide, count, f);
}

template <class V, Keep keep>
struct Lanes {
  using Element = typename V::Element;
  using C = ExpConstants<Element>;
  using F64 = typename V::Wide;
  static constexpr size_t parts = V::width / F64::width;
  static constexpr bool is_double = sizeof(Element) == sizeof(double);
  static constexpr bool moments = keep == Keep::moments;
  static constexpr bool max_apart = keep == Keep::max_apart;
  static constexpr bool precise = keep == Keep::max || max_apart;

  V base, magic, lowest;
  V top;  // the largest term
  F64 sum[parts], rest[parts];
  DoubleDouble<F64> mean[moments ? parts : 1], squares[moments ? parts : 1];

  Lanes() : top(all<V>(minus_infinity)) {
    set_base(all<V>(static_cast<Element>(-exponent_limit)));
    for (size_t p = 0; p < parts; ++p) sum[p] = rest[p] = all<F64>(0.0);
    if constexpr (moments)
      for (size_t p = 0; p < parts; ++p) mean[p] = squares[p] = {all<F64>(0.0), all<F64>(0.0)};
  }

  void set_base(V to) {
    constexpr auto range = static_cast<Element>(exponent_range<Element>);
    base = to;
    magic = table_magic<precise>(base);
    lowest = (base - all<V>(range - static_cast<Element>(0.75))) * all<V>(C::ln_2);
  }

  /// The exponents of terms that are not above are in range, whatever is rounded.
  V highest() const {
    constexpr auto range = static_cast<Element>(exponent_range<Element>);
    return lowest + all<V>((2 * range - static_cast<Element>(1.25)) * C::ln_2);
  }

  /// Of how many terms expect() wants the largest: one is as large as all others, as a rule, to
  /// within what a base allows; but moments lose digits to a base that is far from the largest.
  static constexpr size_t expected_terms = moments ? 8 : max_apart ? 4 : 1;
  static constexpr bool one_base = moments;

  /// What finds the largest term that will be summed, if the terms to come are added to it.
  auto ahead() const {
    if constexpr (max_apart)
      return SecondLargest<V>{top, all<V>(minus_infinity)};
    else
      return Largest<V>{};
  }

  /// Sets the base of lanes without terms to the exponents of x.
  [[gnu::always_inline]] void expect(V x) { set_base(exponent_of(x * all<V>(C::log2_e))); }

  /// Adds a term for each of the vectors to each lane; -inf adds nothing. load(k) has them again,
  /// and largest_ahead() the largest of some terms to come.
  template <size_t count, class Load, class Ahead>
  [[gnu::always_inline]] void add(const Vectors<V, count>& x, const Load& load,
                                  const Ahead& largest_ahead) {
    if (__builtin_expect(!add_in_range(x), false))
      *this = raised_for<count>(*this, load, largest_ahead());
  }

  /// Adds nothing and returns false if the exponent of a term is out of range and `raised` is
  /// not set.
  template <size_t count>
  [[gnu::always_inline]] bool add_in_range(const Vectors<V, count>& x, bool raised = false) {
    // A sum of eight, by halves, has the error of three additions: too much for softmax.
    constexpr size_t group = precise && count > 2 ? 2 : count;
    // Of each two that could be the largest, the smaller one is summed.
    [[maybe_unused]] V largest = top;
    Vectors<V, count> summed = x;
    if constexpr (max_apart) {
#pragma GCC unroll 8
      for (size_t k = 0; k < count; ++k) {
        summed.v[k] = min(largest, x.v[k]);
        largest = max(largest, x.v[k]);
      }
    }
    Terms<V> terms[count / group];
    const V limit = largest_in_range<precise, V>();
    V n = limit;
#pragma GCC unroll 4
    for (size_t k = 0; k < count / group; ++k) terms[k] = terms_of<group>(summed.v + k * group, n);
    if constexpr (keep == Keep::max || moments) {
      largest = largest_of<count>(x.v);
      if (any(greater(largest, highest())) && !raised) return false;
      top = max(top, largest);
    } else {
      if (any_bits_above(n, limit) && !raised) return false;
      if constexpr (max_apart) top = largest;
    }
    if constexpr (!is_double && precise) {
      // All small parts together lose little as floats.
#pragma GCC unroll 4
      for (size_t n = count / group / 2; n > 0; n /= 2)
        for (size_t k = 0; k < n; ++k) terms[k].rests = terms[k].rests + terms[k + n].rests;
      add_wide(terms[0].rests);
#pragma GCC unroll 4
      for (size_t k = 0; k < count / group; ++k) add_wide(terms[k].powers);
    } else {
#pragma GCC unroll 4
      for (size_t k = 0; k < count / group; ++k) accumulate(terms[k]);
    }
    return true;
  }

  /// The lanes with a base that suits the vectors and what comes, and with these added. By value,
  /// and loaded again, so that those of the caller may stay in registers.
  template <size_t count, class Load>
  [[gnu::noinline]] static Lanes raised_for(Lanes lanes, Load load, V ahead) {
    Vectors<V, count> x;
    auto largest = lanes.ahead();
    for (size_t k = 0; k < count; ++k) {
      x.v[k] = load(k);
      largest.add(x.v[k]);
    }
    lanes.raise(max(ahead, largest.in_lanes()));
    lanes.add_in_range(x, true);
    return lanes;
  }

  template <size_t count>
  [[gnu::always_inline]] static V largest_of(const V* x) {
    if constexpr (count == 1)
      return x[0];
    else
      return max(largest_of<count / 2>(x), largest_of<count / 2>(x + count / 2));
  }

  /// The sums over a few terms; and n gets the bits that are set in any of theirs.
  template <size_t count>
  [[gnu::always_inline]] Terms<V> terms_of(const V* x, V& n) const {
    if constexpr (count > 2) {
      const Terms<V> a = terms_of<count / 2>(x, n), b = terms_of<count / 2>(x + count / 2, n);
      Terms<V> sum = {a.powers + b.powers, a.rests + b.rests, a.squares};
      if constexpr (moments) sum.squares = a.squares + b.squares;
      return sum;
    } else if constexpr (count == 2) {
      const Term a = term_of(x[0]), b = term_of(x[1]);
      n = or_bits(n, a.n, b.n);
      return sum_of(a, b);
    } else {
      const Term a = term_of(x[0]);
      n = or_bits(n, n, a.n);
      return {a.power, a.power * a.factor, moments ? a.power * a.power : a.power};
    }
  }

  /// A term as power (1 + factor); or with moments as power, z = factor.
  struct Term {
    V n, power, factor;
  };

  [[gnu::always_inline]] static Terms<V> sum_of(const Term& a, const Term& b) {
    const V rests = fma(b.power, b.factor, a.power * a.factor);
    const V squares = moments ? fma(b.power, b.power, a.power * a.power) : rests;
    if constexpr (is_double && max_apart) {
      // There is no wider type for what rounding would take, and the logarithm errs, too.
      const DoubleDouble<V> powers = two_sum(a.power, b.power);
      return {powers.high, rests + powers.low, squares};
    }
    return {a.power + b.power, rests, squares};
  }

  // x stands second, as a NaN has to stay one. What lies below the lowest adds no more than
  // 2^-63 of a sum of at least 1/2 (2^-511 in double).
  [[gnu::always_inline]] Term term_of(V x) const {
    const V z = max(lowest, x);
    const TableExpParts<V> e = table_exp_parts<precise>(z, magic);
    if constexpr (moments)
      return {e.n, fma(e.power, e.t, e.power), fnma(base, all<V>(C::ln_2), z)};
    else
      return {e.n, e.power, e.t};
  }

  [[gnu::always_inline]] void add_wide(V x) {
    F64 wide[parts];
    widen(x, wide);
    for (size_t p = 0; p < parts; ++p) sum[p] = sum[p] + wide[p];
  }

  [[gnu::always_inline]] void accumulate(const Terms<V>& terms) {
    F64 powers[parts], rests[parts], more_squares[parts];
    widen(terms.powers, powers);
    widen(terms.rests, rests);
    if constexpr (moments) widen(terms.squares, more_squares);
    for (size_t p = 0; p < parts; ++p) {
      if constexpr (moments) {
        const DoubleDouble<F64> total = plus({sum[p], rest[p]}, powers[p]);
        sum[p] = total.high;
        rest[p] = total.low;
        mean[p] = plus(mean[p], rests[p]);
        squares[p] = plus(squares[p], more_squares[p]);
      } else if constexpr (is_double) {
        // All but the last bits goes to the sum: what rests alone rounds as coarsely as the whole.
        const DoubleDouble<F64> terms_sum = fast_two_sum(powers[p], rests[p]);
        const DoubleDouble<F64> total = two_sum(sum[p], terms_sum.high);
        sum[p] = total.high;
        rest[p] = rest[p] + (total.low + terms_sum.low);
      } else {
        sum[p] = sum[p] + (powers[p] + rests[p]);
      }
    }
  }

  /// sum + x. What rounding takes from a sum of doubles is gathered in its low part.
  static DoubleDouble<F64> plus(DoubleDouble<F64> sum, F64 x) {
    if constexpr (!is_double) return {sum.high + x, sum.low};
    const DoubleDouble<F64> total = two_sum(sum.high, x);
    return {total.high, sum.low + total.low};
  }

  /// Sets the base to the exponent of the largest term in lanes where that is out of range, or
  /// closer to it than rounding can tell.
  void raise(V largest) {
    const V to =
        select(greater(largest, highest()), exponent_of(largest * all<V>(C::log2_e)), base);
    F64 change[parts];
    widen(base - to, change);
    for (size_t p = 0; p < parts; ++p) rescale(p, change[p]);
    set_base(to);
  }

  /// An integer that may be a base.
  static V exponent_of(V exponent) {
    const V limit = all<V>(static_cast<Element>(exponent_limit));
    return round(min(limit, max(exponent, all<V>(0) - limit)));
  }

  /// Part p as seen from a base that is lower by `change` <= 0.
  void rescale(size_t p, F64 change) {
    const F64 factor = power_of_two(max(change, all<F64>(-1000.0)));
    if constexpr (moments) {
      const F64 shift = change * all<F64>(ExpConstants<double>::ln_2);
      mean[p] = plus(mean[p], shift * (sum[p] + rest[p]));
      mean[p] = {mean[p].high * factor, mean[p].low * factor};
      const F64 square = factor * factor;
      squares[p] = {squares[p].high * square, squares[p].low * square};
    }
    sum[p] = sum[p] * factor;
    rest[p] = rest[p] * factor;
  }

  /// One item for each of the first `count` lanes.
  void store(SumExpMoments out, size_t i, size_t count) const {
    const auto store_at = [i](double* to) {
      return [=](F64 part, size_t begin, size_t n) { part.store_first(to + i + begin, n); };
    };
    for_parts(base, count, store_at(out.sums.exponent));
    if constexpr (keep != Keep::nothing) for_parts(top, count, store_at(out.sums.max));
    for_parts(sum, count, store_at(out.sums.sum));
    for_parts(rest, count, store_at(out.sums.rest));
    if constexpr (moments) {
      F64 both[2][parts];
      for (size_t p = 0; p < parts; ++p) {
        both[0][p] = mean[p].high + mean[p].low;
        both[1][p] = squares[p].high + squares[p].low;
      }
      for_parts(both[0], count, store_at(out.mean));
      for_parts(both[1], count, store_at(out.sum_of_squares));
    }
  }

  /// One item for each of the first `count` lanes, as store() left them.
  void load(SumExpMoments from, size_t i, size_t count) {
    static_assert(is_double, "these are what store() writes");
    const F64 zero = all<F64>(0.0);
    set_base(F64::load_first(from.sums.exponent + i, count, zero));
    top = F64::load_first(from.sums.max + i, count, zero);
    sum[0] = F64::load_first(from.sums.sum + i, count, zero);
    rest[0] = F64::load_first(from.sums.rest + i, count, zero);
    if constexpr (moments) {
      mean[0] = {F64::load_first(from.mean + i, count, zero), zero};
      squares[0] = {F64::load_first(from.sum_of_squares + i, count, zero), zero};
    }
  }

  /// Adds one term to each lane, none of which is kept apart.
  void add_all(V x) {
    const V kept = top;
    if constexpr (max_apart) top = all<V>(0) - all<V>(minus_infinity);
    raise(x);
    add_in_range(Vectors<V, 1>{{x}}, true);
    if constexpr (max_apart) top = kept;
  }

  /// Adds what the lanes keep apart, but for one of the largest, to their sums.
  void join_tops() {
    Element tops[V::width];
    top.store(tops);
    const Element largest = largest_lane(top);
    size_t lane = 0;
    while (lane + 1 < V::width && tops[lane] != largest) ++lane;
    tops[lane] = minus_infinity;
    add_all(V::load(tops));
  }

  /// All lanes as item i.
  void store_sum(SumExpMoments out, size_t i) {
    if constexpr (max_apart) join_tops();
    const Element highest_base = largest_lane(base);
    if (any(greater(all<V>(highest_base), base))) {
      F64 change[parts];
      widen(base - all<V>(highest_base), change);
      for (size_t p = 0; p < parts; ++p) rescale(p, change[p]);
    }
    out.sums.exponent[i] = double{highest_base};
    if constexpr (keep != Keep::nothing) out.sums.max[i] = double{largest_lane(top)};
    const DoubleDouble<double> sum_of_all = total();
    out.sums.sum[i] = sum_of_all.high;
    out.sums.rest[i] = sum_of_all.low;
    if constexpr (moments) {
      out.mean[i] = sum_of_parts(mean);
      out.sum_of_squares[i] = sum_of_parts(squares);
    }
  }

  /// The sum of all lanes, whose base is one.
  DoubleDouble<double> total() const {
    if constexpr (!is_double) return {sum_of_parts(sum), sum_of_parts(rest)};
    double lanes[2][F64::width];
    sum[0].store(lanes[0]);
    rest[0].store(lanes[1]);
    for (size_t n = F64::width / 2; n > 0; n /= 2)
      for (size_t k = 0; k < n; ++k) {
        const DoubleDouble<double> pair = two_sum(lanes[0][k], lanes[0][k + n]);
        lanes[0][k] = pair.high;
        lanes[1][k] += lanes[1][k + n] + pair.low;
      }
    return {lanes[0][0], lanes[1][0]};
  }

  /// The same for several sums high + low, one in a lane of the result, by the same order.
  static DoubleDouble<F64> totals(const F64* high, const F64* low) {
    constexpr size_t width = F64::width;
    F64 a[width], b[width];
    for (size_t k = 0; k < width; ++k) {
      a[k] = high[k];
      b[k] = low[k];
    }
    if constexpr (!is_double) return {sums_of_lanes(a), all<F64>(0.0)};
    transpose(a);
    transpose(b);
    for (size_t n = width / 2; n > 0; n /= 2)
      for (size_t k = 0; k < n; ++k) {
        const DoubleDouble<F64> pair = two_sum(a[k], a[k + n]);
        a[k] = pair.high;
        b[k] = b[k] + (b[k + n] + pair.low);
      }
    return {a[0], b[0]};
  }

  static double sum_of_parts(const F64 (&x)[parts]) {
    if constexpr (parts == 1)
      return sum_of_lanes(x[0]);
    else
      return sum_of_lanes(x[0] + x[1]);
  }
  template <size_t n>
  static double sum_of_parts(const DoubleDouble<F64> (&x)[n]) {
    if constexpr (!is_double && n == 2) return sum_of_lanes(x[0].high + x[1].high);
    double sum = 0.0;
    for (size_t p = 0; p < n; ++p) sum += sum_of_lanes(x[p].high) + sum_of_lanes(x[p].low);
    return sum;
  }
};

}  // namespace
}  // namespace logitkit
