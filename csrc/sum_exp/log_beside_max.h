// log(count + sum) of what is beside a maximum, however small. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include "simd/double_double.h"
#include "simd/log.h"

namespace logitkit {
namespace {

/// Where the type T of the results needs twice the digits of a double.
template <class T>
constexpr bool needs_twice = sizeof(T) == sizeof(double);

/// sum 2^base e^-max for 2^base < 3 e^max; 0 where 2^base is below 2^-1021 e^max.
template <class T, class F64>
inline DoubleDouble<F64> beside_max(DoubleDouble<F64> sum, F64 base, F64 max) {
  using C = ExpConstants<double>;
  const F64 zero = all<F64>(0.0), one = all<F64>(1.0), lowest = all<F64>(-1021.0 * C::ln_2);
  const DoubleDouble<F64> product = multiply(base, all<F64>(C::ln_2));
  const DoubleDouble<F64> shift = two_sum(product.high, zero - max);
  const F64 shift_low = shift.low + fma(base, all<F64>(C::ln_2_rest), product.low);
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

/// log(count + x) for 1 <= count and x >= 0.
///   Error:  relative, 2^-50 for floats and 2^-53 for doubles
template <class T, class F64>
inline F64 log_of_sum(F64 count, DoubleDouble<F64> x) {
  if constexpr (needs_twice<T>) return exact_log<F64>(count, x).high;
  const DoubleDouble<F64> sum = two_sum(count, x.high);
  return log(sum.high, sum.low, all<F64>(0.0)).high;
}

}  // namespace
}  // namespace logitkit
