// e^x scale 2^-base in every lane of a vector, denormal results included. Include only from
// files with an instruction set of their own, after that one's vectors.
#pragma once

#include "simd/table_exp.h"

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
  ScaledExp() = default;
  /// For 1/2 <= scale + scale_rest <= 1 and integers |base| <= 2^17 + 64.
  ScaledExp(V base, V scale, V scale_rest)
      : base_(base),
        magic_(table_magic(base)),
        scale_(scale),
        scale_rest_(scale_rest),
        lowest_(times_ln_2(base - all<V>(exponent_range<Element> - static_cast<Element>(2)))) {}

  /// Whether e^x 2^-base may be too small for in_range().
  [[gnu::always_inline]] bool any_small(V x) const { return any(greater(lowest_, x)); }

  /// The result where e^x 2^-base is not much smaller than 2^-exponent_range.
  ///   Error:  0.6 ulp
  [[gnu::always_inline]] V in_range(V x) const {
    const TableExpParts<V> e = table_exp_parts<true>(x, magic_);
    // power (1 + t) (scale + scale_rest), rounded once
    const V product = e.power * scale_;
    const V rest = fms(e.power, scale_, product);
    return product + fma(e.power, fma(e.t, scale_, scale_rest_), rest);
  }

  /// The result, whatever it is; x may be -inf.
  ///   Error:  1.5 ulp
  V any_size(V x) const {
    const ExpParts<V> e = exp_parts(max(x, times_ln_2(base_ - all<V>(D::lift + 2))));
    const V power = power_of_two(e.n, exponent_bias(base_ - all<V>(D::lift))) * scale_;
    const V lifted = fma(power, e.t, power);
    const V denormal = sub_bits(lifted + all<V>(D::one), all<V>(D::one));
    const V small_normal = sub_bits(lifted, to_exponent(integer_bits(D::lift)));
    const V small = select(greater(all<V>(D::one), lifted), denormal, small_normal);
    return select(greater(lowest_, x), small, in_range(max(x, lowest_)));
  }

 private:
  static V times_ln_2(V n) { return n * all<V>(C::ln_2); }
  static V integer_bits(int n) {
    return sub_bits(all<V>(C::magic + static_cast<Element>(n)), all<V>(C::magic));
  }

  V base_, magic_, scale_, scale_rest_, lowest_;
};

}  // namespace
}  // namespace logitkit
