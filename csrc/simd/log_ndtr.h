// The normal distribution function and its relatives, of every lane of a vector of doubles.
// Include only from files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/exp.h"
#include "simd/log.h"

namespace logitkit {
namespace {

/// |x|.
template <class V>
inline V absolute(V x) {
  return max(x, all<V>(0) - x);
}

/// e^x for x <= 0; at least 2^-1021.
///   Error:  1.2 ulp
template <class V>
inline V exp_of_negative(V x) {
  const ExpParts<V> parts = exp_parts(max(x, all<V>(-0x1.619p+9)));  // -1021 ln 2, rounded up
  const V power = power_of_two(parts.n, exponent_bias(all<V>(0)));
  return fma(power, parts.t, power);
}

/// log(1 - q) for 0 <= q < 1, relative to itself, however small q is.
///   Error:  2^-52 |result|
template <class V>
inline V log_of_complement(V q) {
  const V v = all<V>(1) - q;
  return log(v, (all<V>(1) - v) - q, all<V>(0)).high;
}

/// The Mills ratio Phi(-t) / phi(t) for t >= 0.
///   Error:  2^-51 |result|
template <class V>
inline V mills_ratio(V t) {
  // (t + 2) Phi(-t) / phi(t) is smooth in y = (t - 4) / (t + 4), from -1 to 1: the Chebyshev
  // expansion of degree 23, whose error is 1e-16. M. M. Shepherd and J. G. Laframboise,
  // "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf", 1981, do likewise.
  constexpr double c[24] = {0x1.6b7f80dece266p+0,   -0x1.56cbc5fa50aa2p-1,  0x1.63306e6d14396p-2,
                            -0x1.ba9621dbe318ep-4,  -0x1.b5f76acb1c898p-9,  0x1.83da1750192d6p-6,
                            -0x1.71310e1c34569p-7,  0x1.d0295d5eeceb5p-11,  0x1.4d9de8b0dcb0bp-10,
                            -0x1.6fef91d7479f0p-12, -0x1.3739b2d583a5fp-13, 0x1.101cac639f441p-14,
                            0x1.880c044851a0ep-16,  -0x1.66895274acd81p-17, -0x1.47f281bada9ecp-18,
                            0x1.9c4b02e7ff5bap-20,  0x1.327156da46e42p-20,  -0x1.231fd90c0c93ep-23,
                            -0x1.0c74fb9635214p-22, -0x1.02a8969681e4ap-26, 0x1.6db319b5d39a4p-25,
                            0x1.297c0af00e068p-27,  -0x1.1273e48d8b177p-28, -0x1.5238f78e957bcp-30};
  t = min(t, all<V>(0x1p+500));
  const V y = (t - all<V>(4)) / (t + all<V>(4));
  const V square = y * y;
  V even = all<V>(c[22]), odd = all<V>(c[23]);
#pragma GCC unroll 11
  for (std::size_t k = 22; k > 0; k -= 2) {
    even = fma(even, square, all<V>(c[k - 2]));
    odd = fma(odd, square, all<V>(c[k - 1]));
  }
  return fma(odd, y, even) / (t + all<V>(2));
}

constexpr double log_root_2_pi = 0x1.d67f1c864beb5p-1;      // log sqrt(2 pi)
constexpr double inverse_root_2_pi = 0x1.9884533d43651p-2;  // 1 / sqrt(2 pi)

/// log Phi(x) for |x| < 2^500.
///   Error:  (2^-51 + 2^-53 x^2) |result| + 2^-1000 where x > 0; 2^-50 + 2^-52 |result| else
template <class V>
inline V log_ndtr(V x) {
  const V t = absolute(x);
  const V mills = mills_ratio(t);
  const V exponent = all<V>(-0.5) * x * x;
  const V tail = exp_of_negative(exponent) * mills * all<V>(inverse_root_2_pi);
  const auto right = greater(x, all<V>(0));
  // log Phi(x) = log(1 - Phi(-x)), or log of the Mills ratio and of phi.
  const V v = select(right, all<V>(1) - tail, mills);
  const V rest = select(right, (all<V>(1) - v) - tail, all<V>(0));
  const V result = log(v, rest, all<V>(0)).high;
  return select(right, result, result + (exponent - all<V>(log_root_2_pi)));
}

/// phi(x) / Phi(x) for |x| < 2^500, the derivative of log_ndtr(); close to -x for x << 0.
///   Error:  (2^-49 + 2^-53 x^2) |result|; where x < 0, 2^-49 |result|; 2^-1000
template <class V>
inline V ndtr_ratio(V x) {
  const V mills = mills_ratio(absolute(x));
  const V density = exp_of_negative(all<V>(-0.5) * x * x) * all<V>(inverse_root_2_pi);
  const auto right = greater(x, all<V>(0));
  const V above = select(right, density, all<V>(1));
  return above / select(right, fnma(density, mills, all<V>(1)), mills);
}

}  // namespace
}  // namespace logitkit
