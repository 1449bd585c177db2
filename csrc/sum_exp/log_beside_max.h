// log(1 + sum) of what is beside a maximum, however small. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include "simd/double_double.h"
#include "simd/log.h"
#include "simd/table_exp.h"

namespace logitkit {
namespace {

/// Where the type T of the results needs twice the digits of a double.
template <class T>
constexpr bool needs_twice = sizeof(T) == sizeof(double);

/// The integer k of v = 2^k f, 1 <= f < 2, for normal v > 0.
template <class F64>
inline F64 exponent_below(F64 v) {
  using C = ExpConstants<double>;
  return add_bits(from_exponent(v), all<F64>(C::magic)) - all<F64>(C::magic + C::bias);
}

/// sum 2^base e^-top for doubles within 2^-55 of it, which a double alone would not be; 0 where
/// that is below 2^-1021.
template <class F64>
inline DoubleDouble<F64> closely_beside_max(DoubleDouble<F64> sum, F64 base, F64 top) {
  using C = ExpConstants<double>;
  const F64 zero = all<F64>(0.0), lowest = all<F64>(-1021.0 * C::ln_2);
  // A base may be far from the largest term.
  const F64 k = exponent_below(sum.high), to_fraction = power_of_two(zero - k);
  const F64 fraction = sum.high * to_fraction, fraction_low = sum.low * to_fraction;
  const F64 exponent = base + k;
  const DoubleDouble<F64> product = multiply(exponent, all<F64>(C::ln_2));
  const DoubleDouble<F64> shift = two_sum(product.high, zero - top);
  const auto normal = greater(shift.high, lowest);
  const F64 high = select(normal, shift.high, zero);
  const F64 low = shift.low + fma(exponent, all<F64>(C::ln_2_rest), product.low);
  // e^shift = 2^n e^r e^r_low. The first step is exact, as in exp_parts().
  const F64 n = round(high * all<F64>(C::log2_e));
  const F64 r = fnma(n, all<F64>(C::ln_2), high);
  const F64 r_low = select(normal, fnma(n, all<F64>(C::ln_2_rest), low), zero);
  const TableExpParts<F64> e = table_exp_parts<true>(r, table_magic<true>(zero));
  const F64 t = fma(e.t, r_low, e.t + r_low);
  const DoubleDouble<F64> result = multiply(fraction, e.power);
  const F64 rest = result.low + fma(result.high, t, fraction_low * e.power);
  const F64 power = select(normal, power_of_two(n), zero);
  return fast_two_sum(result.high * power, rest * power);
}

/// The same for floats, within 2^-36 of it; what is below 2^-510 is nothing to them.
template <class F64>
inline F64 nearly_beside_max(F64 sum, F64 base, F64 top) {
  using C = ExpConstants<double>;
  const F64 zero = all<F64>(0.0), lowest = all<F64>(-510.0 * C::ln_2);
  const F64 shift = fma(base, all<F64>(C::ln_2), zero - top);
  const TableExpParts<F64> e = table_exp_parts<false>(max(lowest, shift), table_magic<false>(zero));
  return sum * select(greater(lowest, shift), zero, fma(e.power, e.t, e.power));
}

/// log(1 + x) for x >= 0.
///   Error:  2^-53, also relative
template <class F64>
inline F64 log_of_one_and(DoubleDouble<F64> x) {
  const F64 one = all<F64>(1.0);
  const DoubleDouble<F64> sum = two_sum(one, x.high);
  const F64 result = log(sum.high, sum.low + x.low, all<F64>(0.0)).high;
  // Its error is 2^-54, which is too much beside small results alone.
  const F64 small = all<F64>(0.25);
  if (!any(greater(small, result))) return result;
  return select(greater(small, result), exact_log<F64>(one, x).high, result);
}
/// The same within 2^-50; NaN if x is.
template <class F64>
inline F64 log_of_one_and(F64 x) {
  const F64 one = all<F64>(1.0);
  const Fraction<F64> sum = fraction_of(one + x);
  // Small x is at hand without what rounding took; and a NaN stays one.
  const F64 z = select(greater(x, all<F64>(0.25)), sum.f - one, x);
  return fma(sum.k, all<F64>(ExpConstants<double>::ln_2), log_of_near_one(z));
}

/// log(1 + sum 2^base e^-top) for elements of type T.
template <class T, class F64>
inline F64 log_beside(DoubleDouble<F64> sum, F64 base, F64 top) {
  if constexpr (needs_twice<T>)
    return log_of_one_and(closely_beside_max(sum, base, top));
  else
    return log_of_one_and(nearly_beside_max(sum.high + sum.low, base, top));
}

}  // namespace
}  // namespace logitkit
