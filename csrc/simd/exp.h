// exp of every lane of a vector, in two parts. Include only from files with an instruction set
// of their own, after that one's vectors.
#pragma once

#include <cstddef>

namespace logitkit {
namespace {

/// The constants of exp_parts() for floats and doubles.
template <class Element>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float log2_e = 0x1.715476p+0f;
  static constexpr float ln_2 = 0x1.62e43p-1f, ln_2_rest = -0x1.05c61p-29f;
  static constexpr float magic = 0x1.8p+23f;  // x + magic rounds x to an integer
  static constexpr int bias = 127;            // of the exponent
  // (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, least relative error of e^r: 3.1e-9
  static constexpr float q[5] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.123a2p-7f,
                                 0x1.6a23dp-10f};
};

template <>
struct ExpConstants<double> {
  static constexpr double log2_e = 0x1.71547652b82fep+0;
  static constexpr double ln_2 = 0x1.62e42fefa39efp-1, ln_2_rest = 0x1.abc9e3b39803fp-56;
  static constexpr double magic = 0x1.8p+52;
  static constexpr int bias = 1023;
  // The same; 1.1e-17
  static constexpr double q[10] = {
      0x1.000000000000ap-1,  0x1.55555555554fap-3,  0x1.5555555550888p-5,  0x1.1111111127b9cp-7,
      0x1.6c16c184272cbp-10, 0x1.a01a012a6be72p-13, 0x1.a0199a150e0dcp-16, 0x1.71df25319c320p-19,
      0x1.28ad6a2d6b1f4p-22, 0x1.ad7f8cbae1400p-26};
};

/// e^x = 2^n (1 + t), |t| < 0.42. Sums of 2^n and of 2^n t keep a digit more than a sum of their
/// rounded sum; and no maximum need be subtracted from x before.
template <class V>
struct ExpParts {
  V n;  // magic + n, so that the low bits are those of the integer n
  V t;
};

/// The constant c in every lane.
template <class V>
inline V all(typename V::Element c) {
  return V::all(c);
}

/// The parts of e^x for |x| < 2^17 ln 2.
///   Error:     t is within 5e-8 for floats and 1.2e-16 for doubles; e^0 is exactly 1
///   Specials:  t is a NaN if x is a NaN or infinite
template <class V>
inline ExpParts<V> exp_parts(V x) {
  using C = ExpConstants<typename V::Element>;
  const V n = fma(x, all<V>(C::log2_e), all<V>(C::magic));
  const V n_float = n - all<V>(C::magic);
  // x = n ln 2 + r, |r| <= ln(2) / 2. The first step is exact: both x and the product are
  // multiples of the last bit of r.
  V r = fnma(n_float, all<V>(C::ln_2), x);
  r = fnma(n_float, all<V>(C::ln_2_rest), r);
  constexpr std::size_t terms = sizeof(C::q) / sizeof(C::q[0]);
  V q = all<V>(C::q[terms - 1]);
#pragma GCC unroll 16
  for (std::size_t k = terms - 1; k > 0; --k) q = fma(q, r, all<V>(C::q[k - 1]));
  return {n, fma(r * r, q, r)};
}

/// What power_of_two() takes for `bias` to give 2^(n - base), for the n of exp_parts().
template <class V>
inline V exponent_bias(V base) {
  using C = ExpConstants<typename V::Element>;
  return base + all<V>(C::magic - C::bias);  // exact, as are all integers below 2^22
}

/// 2^(n - base), whose exponent must be that of a normal number.
template <class V>
inline V power_of_two(V n, V bias) {
  return to_exponent(sub_bits(n, bias));
}

/// 2^n of integers n.
template <class V>
inline V power_of_two(V n) {
  using C = ExpConstants<typename V::Element>;
  return power_of_two(n + all<V>(C::magic), exponent_bias(all<V>(0)));
}

/// x rounded to integers, |x| < 2^21.
template <class V>
inline V round(V x) {
  using C = ExpConstants<typename V::Element>;
  return (x + all<V>(C::magic)) - all<V>(C::magic);
}

}  // namespace
}  // namespace logitkit
