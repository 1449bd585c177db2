// e^x scale 2^-base in every lane of a vector, denormal results included. Include only from
// files with an instruction set of their own, after that one's vectors.
#pragma once

#include "simd/double_double.h"
#include "simd/table_exp.h"

namespace logitkit {
namespace {

/// What is below the lowest exponent in range has no more than this power.
template <class Element>
constexpr Element smallest_power =
    static_cast<Element>(sizeof(Element) == sizeof(double) ? 0x1p-510 : 0x1p-62);

/// A factor in two parts, of which `high` has half the digits of its type: its products with the
/// powers of table_exp_parts<true>() are exact. And their sum, rounded.
template <class V>
struct Factor {
  V sum, high, low;
};
/// The factor scale + rest, by T. J. Dekker's splitting (1971).
template <class V>
inline Factor<V> factor_of(V scale, V rest) {
  using Element = typename V::Element;
  constexpr auto split =
      static_cast<Element>(sizeof(Element) == sizeof(double) ? 0x1p27 + 1 : 0x1p12 + 1);
  const V more = scale * all<V>(split);
  const V high = more - (more - scale);
  return {scale + rest, high, (scale - high) + rest};
}

/// The inverses of sums.
template <class V>
inline Factor<V> inverse_of(
    const DoubleDouble<typename V::Wide> (&totals)[V::width / V::Wide::width]) {
  using F64 = typename V::Wide;
  constexpr std::size_t parts = V::width / F64::width;
  F64 inverse[parts], rest[parts];
  for (std::size_t p = 0; p < parts; ++p) {
    inverse[p] = all<F64>(1.0) / totals[p].high;
    // One step of Newton's method.
    const F64 remainder = fnma(totals[p].high, inverse[p], all<F64>(1.0));
    rest[p] = inverse[p] * fnma(totals[p].low, inverse[p], remainder);
  }
  const V scale = V::narrow(inverse);
  if constexpr (sizeof(typename V::Element) < sizeof(double)) {
    F64 rounded[parts];
    widen(scale, rounded);
    for (std::size_t p = 0; p < parts; ++p) rest[p] = inverse[p] - rounded[p];
  }
  return factor_of(scale, V::narrow(rest));
}

/// Small results are made 2^lift times as large. Added to 2^(lift + smallest), where the distance
/// of two numbers is 2^lift times that of denormal ones, they are rounded and leave their bits.
template <class Element>
struct SmallResults;
template <>
struct SmallResults<float> {
  static constexpr int lift = 88, smallest = -126, digits = 23;
  static constexpr float denormal = 0x1p-38f;  // 2^(lift + smallest)
};
template <>
struct SmallResults<double> {
  static constexpr int lift = 576, smallest = -1022, digits = 52;
  static constexpr double denormal = 0x1p-446;
};

/// power (1 + t) times a factor, rounded once.
template <class V>
[[gnu::always_inline]] inline V scaled_parts(V power, V t, const Factor<V>& factor) {
  return fma(power, fma(t, factor.sum, factor.low), power * factor.high);
}

template <class V>
class ScaledExp {
  using Element = typename V::Element;
  using C = ExpConstants<Element>;
  using Small = SmallResults<Element>;
  static constexpr int step = 1 << V::root_bits;

 public:
  ScaledExp() = default;
  /// For 1/2 <= scale + scale_rest <= 1 and integers |base| <= 2^17 + 64.
  ScaledExp(V base, V scale, V scale_rest)
      : magic_(table_magic<true>(base)),
        factor_(factor_of(scale, scale_rest)),
        lowest_(times_ln_2(base - all<V>(exponent_range<Element> - static_cast<Element>(2)))) {}

  /// Whether e^x 2^-base may be too small for in_range().
  [[gnu::always_inline]] bool any_small(V x) const { return any(greater(lowest_, x)); }
  /// Whether all results are 0.
  [[gnu::always_inline]] bool all_zero(V x) const { return !any(greater(x, zero())); }

  /// The result where e^x 2^-base is not much smaller than 2^-exponent_range.
  ///   Error:  0.6 ulp
  [[gnu::always_inline]] V in_range(V x) const { return scaled(x, magic_); }

  /// The result, whatever it is; x may be -inf.
  ///   Error:  1.5 ulp
  [[gnu::always_inline]] V any_size(V x) const {
    const auto in_range = greater(x, lowest_);
    const V magic_of_small = magic_ + all<V>(static_cast<Element>(Small::lift * step));
    const V y = scaled(max(x, zero()), select(in_range, magic_, magic_of_small));
    const V one = all<V>(Small::denormal);
    const V denormal = sub_bits(y + one, one);
    const V normal = sub_bits(y, to_exponent(integer_bits(Small::lift)));
    return select(in_range, y, select(greater(one, y), denormal, normal));
  }

 private:
  [[gnu::always_inline]] V scaled(V x, V magic) const {
    const TableExpParts<V> e = table_exp_parts<true>(x, magic);
    return scaled_parts(e.power, e.t, factor_);
  }

  /// What is not above has the result 0.
  V zero() const {
    const V steps = magic_ - all<V>(C::magic);
    const V base = all<V>(exponent_range<Element>) - steps * all<V>(Element{1} / step);
    return times_ln_2(base + all<V>(Small::smallest - Small::digits - 2));
  }

  static V times_ln_2(V n) { return n * all<V>(C::ln_2); }
  static V integer_bits(int n) {
    return sub_bits(all<V>(C::magic + static_cast<Element>(n)), all<V>(C::magic));
  }

  // So few that those of many columns stay in the first-level cache.
  V magic_;
  Factor<V> factor_;
  V lowest_;
};

}  // namespace
}  // namespace logitkit
