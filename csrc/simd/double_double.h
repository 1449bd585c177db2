// Sums of two doubles that carry twice the digits, in every lane of a vector. Include only from
// files with an instruction set of their own, after that one's vectors.
//
// T. J. Dekker, "A floating-point technique for extending the available precision", 1971;
// M. Joldes, J.-M. Muller and V. Popescu, "Tight and rigorous error bounds for basic building
// blocks of double-word arithmetic", 2017.
#pragma once

#include <cstddef>

#include "simd/exp.h"

namespace logitkit {
namespace {

/// high + low, |low| <= ulp(high).
template <class F64>
struct DoubleDouble {
  F64 high, low;
};

/// a + b exactly.
template <class F64>
inline DoubleDouble<F64> two_sum(F64 a, F64 b) {
  const F64 sum = a + b;
  const F64 b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

/// a + b exactly, where |a| >= |b| or a = 0.
template <class F64>
inline DoubleDouble<F64> fast_two_sum(F64 a, F64 b) {
  const F64 sum = a + b;
  return {sum, b - (sum - a)};
}

/// a * b exactly.
template <class F64>
inline DoubleDouble<F64> multiply(F64 a, F64 b) {
  const F64 product = a * b;
  return {product, fms(a, b, product)};
}

/// a * b within 2^-103 of the product.
template <class F64>
inline DoubleDouble<F64> operator*(DoubleDouble<F64> a, DoubleDouble<F64> b) {
  const DoubleDouble<F64> product = multiply(a.high, b.high);
  return {product.high, product.low + fma(a.high, b.low, a.low * b.high)};
}

/// a + b within 2^-104 of the sum, where |a| >= |b|; not normalised.
template <class F64>
inline DoubleDouble<F64> add_smaller(DoubleDouble<F64> a, DoubleDouble<F64> b) {
  const DoubleDouble<F64> sum = fast_two_sum(a.high, b.high);
  return {sum.high, sum.low + (a.low + b.low)};
}

/// a + b within 2^-104 (|a| + |b|).
template <class F64>
inline DoubleDouble<F64> operator+(DoubleDouble<F64> a, DoubleDouble<F64> b) {
  const DoubleDouble<F64> sum = two_sum(a.high, b.high);
  return fast_two_sum(sum.high, sum.low + (a.low + b.low));
}

/// e^x = 2^n (1 + t) as exp_parts() has it.
template <class F64>
struct ExactExpParts {
  F64 n;
  DoubleDouble<F64> t;
};

/// 1/k! for k = 1 .. 8, and the rest of each.
constexpr double inverse_factorial[8][2] = {{1.0, 0.0},
                                            {0.5, 0.0},
                                            {0x1.5555555555555p-3, 0x1.5555555555555p-57},
                                            {0x1.5555555555555p-5, 0x1.5555555555555p-59},
                                            {0x1.1111111111111p-7, 0x1.1111111111111p-63},
                                            {0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65},
                                            {0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-73},
                                            {0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-76}};

/// 1/k! for k = 9 .. 16, where double precision is enough.
constexpr double small_inverse_factorial[8] = {
    0x1.71de3a556c734p-19, 0x1.27e4fb7789f5cp-22, 0x1.ae64567f544e4p-26, 0x1.1eed8eff8d898p-29,
    0x1.6124613a86d09p-33, 0x1.93974a8c07c9dp-37, 0x1.ae7f3e733b81fp-41, 0x1.ae7f3e733b81fp-45};

/// The parts of e^x for |x| < 1022 ln 2.
///   Error:  2^-100, 2^-98 for large x; e^0 is exactly 1
template <class F64>
inline ExactExpParts<F64> exact_exp_parts(DoubleDouble<F64> x) {
  using C = ExpConstants<double>;
  const F64 n = fma(x.high, all<F64>(C::log2_e), all<F64>(C::magic));
  const F64 n_float = n - all<F64>(C::magic);
  // r = x - n ln 2, with ln 2 = ln_2 + ln_2_rest + 0x1.7b57ap-111. The first step is exact.
  const F64 r_high = fnma(n_float, all<F64>(C::ln_2), x.high);
  const DoubleDouble<F64> product = multiply(n_float, all<F64>(-C::ln_2_rest));
  const DoubleDouble<F64> sum = two_sum(r_high, product.high);
  const F64 low = fnma(n_float, all<F64>(0x1.7b57a079a1934p-111), product.low + x.low);
  const DoubleDouble<F64> r = fast_two_sum(sum.high, sum.low + low);

  // t = e^r - 1 from s = r / 8: e^(2s) - 1 = 2 (e^s - 1) + (e^s - 1)^2, three times.
  const F64 eighth = all<F64>(0.125);
  const DoubleDouble<F64> s = {r.high * eighth, r.low * eighth};
  F64 p = all<F64>(small_inverse_factorial[7]);
#pragma GCC unroll 7
  for (std::size_t k = 7; k > 0; --k) p = fma(p, s.high, all<F64>(small_inverse_factorial[k - 1]));
  DoubleDouble<F64> series = {p, all<F64>(0.0)};
#pragma GCC unroll 8
  for (std::size_t k = 8; k > 0; --k) {
    const double* c = inverse_factorial[k - 1];
    series = add_smaller({all<F64>(c[0]), all<F64>(c[1])}, s * series);
  }
  DoubleDouble<F64> t = s * series;
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) t = add_smaller({t.high + t.high, t.low + t.low}, t * t);
  return {n, fast_two_sum(t.high, t.low)};
}

}  // namespace
}  // namespace logitkit
