// e^x scale 2^-base in every lane of a vector, denormal results included. Include only from
// files with an instruction set of their own, after that one's vectors.
#pragma once

#include "simd/exp.h"

namespace logitkit {
namespace {

/// How results below the smallest normal number are made: 2^lift times as large, where `one`
/// is the distance of two of them, so that an addition rounds them and leaves their bits.
template <class Element>
struct Denormals;
template <>
struct Denormals<float> {
  static constexpr int lift = 149;
  static constexpr float one = 0x1p23f;
};
template <>
struct Denormals<double> {
  static constexpr int lift = 1074;
  static constexpr double one = 0x1p52;
};

template <class V>
class ScaledExp {
  using Element = typename V::Element;
  using C = ExpConstants<Element>;
  using D = Denormals<Element>;

 public:
  /// For 1/2 <= scale <= 1 and integers |base| <= 2^20.
  ScaledExp(V base, V scale)
      : bias_(exponent_bias(base)),
        lifted_bias_(exponent_bias(base - all<V>(D::lift))),
        scale_(scale),
        lowest_(times_ln_2(base - all<V>(D::lift + 2))),
        lowest_normal_(times_ln_2(base - all<V>(C::bias - 3.25f))) {}

  /// Whether e^x scale 2^-base may be too small for normal().
  bool any_small(V x) const { return any(greater(lowest_normal_, x)); }

  /// The result where it is a normal number.
  ///   Error:  1.5 ulp
  V normal(V x) const {
    const ExpParts<V> e = exp_parts(x);
    const V power = power_of_two(e.n, bias_) * scale_;
    return fma(power, e.t, power);
  }

  /// The result, whatever it is; x may be -inf.
  V any_size(V x) const {
    const V inside = max(x, lowest_);
    const ExpParts<V> e = exp_parts(inside);
    const V power = power_of_two(e.n, lifted_bias_) * scale_;
    const V lifted = fma(power, e.t, power);
    const V denormal = sub_bits(lifted + all<V>(D::one), all<V>(D::one));
    const V small_normal = sub_bits(lifted, to_exponent(integer_bits(D::lift)));
    const V small = select(greater(all<V>(D::one), lifted), denormal, small_normal);
    return select(greater(lowest_normal_, x), small, normal(max(x, lowest_normal_)));
  }

 private:
  static V times_ln_2(V n) { return n * all<V>(C::ln_2); }
  static V integer_bits(int n) {
    return sub_bits(all<V>(C::magic + static_cast<Element>(n)), all<V>(C::magic));
  }

  V bias_, lifted_bias_, scale_, lowest_, lowest_normal_;
};

}  // namespace
}  // namespace logitkit
