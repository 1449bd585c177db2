// log of every lane of a vector of doubles. Include only from files with an instruction set of
// their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/double_double.h"
#include "simd/exp.h"

namespace logitkit {
namespace {

/// log(1 + z), sqrt(1/2) <= 1 + z < sqrt(2).
///   Error:  2^-53, also relative
template <class F64>
inline F64 log_of_near_one(F64 z) {
  // log(1 + z) = z - z^2/2 + s (z^2/2 + L(s^2)), s = z / (2 + z); L is the rest of the series
  // 2 artanh(s), here the polynomial of least error for |s| <= 0.172: 2e-19.
  constexpr double l[7] = {0x1.55555555555d7p-1, 0x1.999999996e35ap-2, 0x1.2492494f0c345p-2,
                           0x1.c71c48b6f188ap-3, 0x1.7467f6ff59539p-3, 0x1.39791fdb49b5dp-3,
                           0x1.3080e6404fe58p-3};
  const F64 s = z / (all<F64>(2.0) + z);
  const F64 w = s * s;
  F64 series = all<F64>(l[6]);
#pragma GCC unroll 6
  for (std::size_t i = 6; i > 0; --i) series = fma(series, w, all<F64>(l[i - 1]));
  const F64 half_square = all<F64>(0.5) * z * z;
  return z - (half_square - s * fma(w, series, half_square));
}

/// v = 2^k f, sqrt(1/2) <= f < sqrt(2), for normal v > 0.
template <class F64>
struct Fraction {
  F64 f, k;
};
template <class F64>
inline Fraction<F64> fraction_of(F64 v) {
  using C = ExpConstants<double>;
  const F64 half_root = all<F64>(0x1.6a09e667f3bcdp-1);
  const F64 biased = from_exponent(add_bits(sub_bits(v, half_root), all<F64>(1.0)));
  const F64 f = sub_bits(v, to_exponent(sub_bits(biased, from_exponent(all<F64>(1.0)))));
  return {f, add_bits(biased, all<F64>(C::magic)) - all<F64>(C::magic + C::bias)};
}

/// log(v + rest) + base ln 2, for normal v > 0, |rest| <= ulp(v) and integers |base| < 2^21.
///   Error:  2^-54 + 2^-100 |result|; the result is normalised
template <class F64>
inline DoubleDouble<F64> log(F64 v, F64 rest, F64 base) {
  using C = ExpConstants<double>;
  const Fraction<F64> of_v = fraction_of(v);
  const F64 log_f = log_of_near_one(of_v.f - all<F64>(1.0)) + rest / v;
  const F64 n = base + of_v.k;
  const DoubleDouble<F64> product = multiply(n, all<F64>(C::ln_2));
  const DoubleDouble<F64> sum = two_sum(product.high, log_f);
  return fast_two_sum(sum.high, sum.low + fma(n, all<F64>(C::ln_2_rest), product.low));
}

/// log(count + x) for integers 1 <= count < 2^53 and x >= 0.
///   Error:  2^-100 + 2^-102 |result|; where count = 1 and x < 2^-30, 2^-84 |result|
template <class F64>
inline DoubleDouble<F64> exact_log(F64 count, DoubleDouble<F64> x) {
  const DoubleDouble<F64> head = two_sum(count, x.high);
  const DoubleDouble<F64> sum = fast_two_sum(head.high, head.low + x.low);
  // One step of Newton's method for e^y = sum, from the logarithm in double precision:
  // y + log(1 + q), q = sum e^-y - 1.
  const F64 y = log(sum.high, sum.low, all<F64>(0.0)).high;
  const F64 zero = all<F64>(0.0), one = all<F64>(1.0);
  const ExactExpParts<F64> parts = exact_exp_parts<F64>({zero - y, zero});
  const DoubleDouble<F64> exp = add_smaller({one, zero}, parts.t);
  const DoubleDouble<F64> product = sum * fast_two_sum(exp.high, exp.low);
  const F64 power = power_of_two(parts.n, exponent_bias(zero));
  const F64 q = fms(product.high, power, one) + product.low * power;
  const DoubleDouble<F64> newton = fast_two_sum(y, q - all<F64>(0.5) * q * q);

  // log(1 + x) = x - x^2/2 + x^3/3 - x^4/4 + ...
  const F64 cubic = fma(x.high, all<F64>(-0.25), all<F64>(0x1.5555555555555p-2));
  const F64 terms = x.high * x.high * fma(cubic, x.high, all<F64>(-0.5));
  const DoubleDouble<F64> series = fast_two_sum(x.high, x.low + terms);

  const auto small = greater(all<F64>(0x1p-30), (count - one) + x.high);
  return {select(small, series.high, newton.high), select(small, series.low, newton.low)};
}

}  // namespace
}  // namespace logitkit
