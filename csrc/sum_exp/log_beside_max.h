// log(1 + sum) of what is beside a maximum, however small. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include "simd/double_double.h"
#include "simd/log.h"

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

/// sum 2^base e^-max where that is below 2^53; 0 below 2^-1021.
template <class T, class F64>
inline DoubleDouble<F64> beside_max(DoubleDouble<F64> sum, F64 base, F64 max) {
  using C = ExpConstants<double>;
  const F64 zero = all<F64>(0.0), one = all<F64>(1.0), lowest = all<F64>(-1021.0 * C::ln_2);
  // A base may be far from the largest term.
  const F64 k = exponent_below(sum.high), to_fraction = power_of_two(zero - k);
  sum = {sum.high * to_fraction, sum.low * to_fraction};
  const F64 exponent = base + k;
  const DoubleDouble<F64> product = multiply(exponent, all<F64>(C::ln_2));
  const DoubleDouble<F64> shift = two_sum(product.high, zero - max);
  const F64 shift_low = shift.low + fma(exponent, all<F64>(C::ln_2_rest), product.low);
  const auto normal = greater(shift.high, lowest);
  const F64 high = select(normal, shift.high, lowest), low = select(normal, shift_low, zero);
  if constexpr (needs_twice<T>) {
    const ExactExpParts<F64> e = exact_exp_parts<F64>({high, low});
    const F64 power = select(normal, power_of_two(e.n, exponent_bias(zero)), zero);
    const DoubleDouble<F64> exp = fast_two_sum(one, e.t.high);
    const DoubleDouble<F64> result =
        two_sum(sum.high, sum.low) *
        DoubleDouble<F64>{exp.high * power, (exp.low + e.t.low) * power};
    return fast_two_sum(result.high, result.low);
  }
  const ExpParts<F64> e = exp_parts(high);
  const F64 power = select(normal, power_of_two(e.n, exponent_bias(zero)), zero);
  return {(sum.high + sum.low) * fma(power, e.t, power), zero};
}

/// log(1 + x) for x >= 0.
///   Error:  relative, 2^-50 for floats and 2^-53 for doubles
template <class T, class F64>
inline F64 log_of_sum(DoubleDouble<F64> x) {
  const F64 one = all<F64>(1.0);
  const DoubleDouble<F64> sum = two_sum(one, x.high);
  const F64 result = log(sum.high, sum.low + x.low, all<F64>(0.0)).high;
  if constexpr (!needs_twice<T>) return result;
  // Its error is 2^-54, which is too much beside small results alone.
  const F64 small = all<F64>(0.25);
  if (!any(greater(small, result))) return result;
  return select(greater(small, result), exact_log<F64>(one, x).high, result);
}

}  // namespace
}  // namespace logitkit
