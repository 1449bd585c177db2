// Sums of many exponentials need powers of two times a few roots of two: a table in a register.
// Include only from files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/exp.h"

namespace logitkit {
namespace {

/// What table_exp_parts() needs, for vectors that look up 2^bits roots of two.
///
/// roots[j] has the bits of 2^(j / 2^bits), less those of 2^range, less j where the bits of the
/// shifted integer j of table_exp_parts() will be added.
///
/// half_roots[j] is the same of the root rounded to half the digits of its type, so that products
/// with others like it are exact; half_rests[j] is the logarithm of the root over the rounded one.
///
/// q is (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2 / 2^bits with the least error of e^r. Where two
/// terms have to do, p is (e^r - 1) / r, which errs less if it does not begin with 1.
template <class Element, int bits>
struct RootTable;

template <>
struct RootTable<float, 3> {  // 1.9e-10
  static constexpr float roots[8] = {0x1p-64f,        0x1.f72b84p-65f, 0x1.f06fep-65f,
                                     0x1.ebfdaep-65f, 0x1.ea09e6p-65f, 0x1.eace54p-65f,
                                     0x1.ee89fap-65f, 0x1.f5818ep-65f};
  static constexpr float half_roots[8] = {0x1p-64f,    0x1.f72p-65f, 0x1.f06p-65f, 0x1.ecp-65f,
                                          0x1.eap-65f, 0x1.eacp-65f, 0x1.ee8p-65f, 0x1.f58p-65f};
  static constexpr float half_rests[8] = {0,
                                          0x1.51eb06p-13f,
                                          0x1.ab493p-13f,
                                          -0x1.ca8cep-16f,
                                          0x1.c00c4p-14f,
                                          0x1.29552p-13f,
                                          0x1.7b9c1cp-14f,
                                          0x1.b1d1bap-17f};
  static constexpr float q[3] = {0.5f, 0x1.555c76p-3f, 0x1.554842p-5f};
};
template <>
struct RootTable<float, 4> {  // 1.6e-9
  static constexpr float roots[16] = {
      0x1p-64f,        0x1.fb5586p-65f, 0x1.f72b84p-65f, 0x1.f387a6p-65f,
      0x1.f06fep-65f,  0x1.edea64p-65f, 0x1.ebfdaep-65f, 0x1.eab07ep-65f,
      0x1.ea09e6p-65f, 0x1.ea1148p-65f, 0x1.eace54p-65f, 0x1.ec4918p-65f,
      0x1.ee89fap-65f, 0x1.f199bep-65f, 0x1.f5818ep-65f, 0x1.fa4afap-65f};
  static constexpr float half_roots[16] = {0x1p-64f,     0x1.fb6p-65f, 0x1.f72p-65f, 0x1.f38p-65f,
                                           0x1.f06p-65f, 0x1.edep-65f, 0x1.ecp-65f,  0x1.eacp-65f,
                                           0x1.eap-65f,  0x1.ea2p-65f, 0x1.eacp-65f, 0x1.ec4p-65f,
                                           0x1.ee8p-65f, 0x1.f1ap-65f, 0x1.f58p-65f, 0x1.fa4p-65f};
  static constexpr float half_rests[16] = {0,
                                           -0x1.40ea36p-13f,
                                           0x1.51eb06p-13f,
                                           0x1.ae102ap-14f,
                                           0x1.ab493p-13f,
                                           0x1.0bd64ap-13f,
                                           -0x1.ca8cep-16f,
                                           -0x1.6e6bdp-13f,
                                           0x1.c00c4p-14f,
                                           -0x1.3ef782p-13f,
                                           0x1.29552p-13f,
                                           0x1.696bfcp-14f,
                                           0x1.7b9c1cp-14f,
                                           -0x1.c81dd6p-15f,
                                           0x1.b1d1bap-17f,
                                           0x1.6ed6bap-14f};
  static constexpr float q[2] = {0x1.00022p-1f, 0x1.55563ap-3f};
};
/// For two registers, and for terms that need not be precise.
template <>
struct RootTable<float, 5> {  // 5.4e-8
  static constexpr float roots[32] = {
      0x1p-64f,        0x1.fd9b0ep-65f, 0x1.fb5586p-65f, 0x1.f9301ep-65f, 0x1.f72b84p-65f,
      0x1.f54874p-65f, 0x1.f387a6p-65f, 0x1.f1e9ep-65f,  0x1.f06fep-65f,  0x1.ef1a74p-65f,
      0x1.edea64p-65f, 0x1.ece086p-65f, 0x1.ebfdaep-65f, 0x1.eb42b6p-65f, 0x1.eab07ep-65f,
      0x1.ea47ecp-65f, 0x1.ea09e6p-65f, 0x1.e9f75ep-65f, 0x1.ea1148p-65f, 0x1.ea589ap-65f,
      0x1.eace54p-65f, 0x1.eb737cp-65f, 0x1.ec4918p-65f, 0x1.ed503cp-65f, 0x1.ee89fap-65f,
      0x1.eff77p-65f,  0x1.f199bep-65f, 0x1.f3720ep-65f, 0x1.f5818ep-65f, 0x1.f7c974p-65f,
      0x1.fa4afap-65f, 0x1.fd0766p-65f};
  static constexpr float p[2] = {0x1.0000f6p+0f, 0x1.fffffep-2f};
};
template <>
struct RootTable<double, 4> {  // 1.2e-17
  static constexpr double roots[16] = {0x1p-512,
                                       0x1.fb5586cf9890fp-513,
                                       0x1.f72b83c7d517bp-513,
                                       0x1.f387a6e756238p-513,
                                       0x1.f06fe0a31b715p-513,
                                       0x1.edea64c123422p-513,
                                       0x1.ebfdad5362a27p-513,
                                       0x1.eab07dd485429p-513,
                                       0x1.ea09e667f3bcdp-513,
                                       0x1.ea11473eb0187p-513,
                                       0x1.eace5422aa0dbp-513,
                                       0x1.ec49182a3f090p-513,
                                       0x1.ee89f995ad3adp-513,
                                       0x1.f199bdd85529cp-513,
                                       0x1.f5818dcfba487p-513,
                                       0x1.fa4afa2a490dap-513};
  static constexpr double half_roots[16] = {
      0x1p-512,         0x1.fb5587p-513, 0x1.f72b84p-513,  0x1.f387a7p-513,
      0x1.f06fe08p-513, 0x1.edea65p-513, 0x1.ebfdad8p-513, 0x1.eab07ep-513,
      0x1.ea09e68p-513, 0x1.ea1147p-513, 0x1.eace54p-513,  0x1.ec4918p-513,
      0x1.ee89f98p-513, 0x1.f199bep-513, 0x1.f5818ep-513,  0x1.fa4afap-513};
  static constexpr double half_rests[16] = {0,
                                            -0x1.72d09ece282f9p-27,
                                            -0x1.9c0c2141fef92p-27,
                                            -0x1.5a85dbf35a1f5p-28,
                                            0x1.d8582233b51e8p-28,
                                            -0x1.94f4d19930d82p-27,
                                            -0x1.13389d0c95ep-27,
                                            -0x1.00d8abadaf8d3p-27,
                                            -0x1.101228eded968p-28,
                                            0x1.5394e3af5b5f2p-27,
                                            0x1.67a1ca1d9d84ap-28,
                                            0x1.a3b5e344f7bdfp-28,
                                            0x1.9c72f009003bfp-29,
                                            -0x1.6961b3cf799ap-28,
                                            -0x1.a5217cbeba37ep-28,
                                            0x1.61428daeb9d87p-28};
  static constexpr double q[5] = {0x1.fffffffffffb9p-2, 0x1.555555548f734p-3, 0x1.55555558fd1a1p-5,
                                  0x1.11123abe85c8fp-7, 0x1.6c14c6c361d9ap-10};
};

/// The exponents that table_exp_parts() can give lie in [-range, range).
template <class Element>
constexpr int exponent_range = 64;
template <>
constexpr int exponent_range<double> = 512;

/// Of how many roots table_exp_parts() takes one.
template <bool precise, class V>
constexpr int bits_of_roots = precise ? V::root_bits : V::coarse_root_bits;

/// e^x 2^-base = power (1 + t), |t| <= ln(2) / 2 / 2^bits_of_roots.
template <class V>
struct TableExpParts {
  V n;  // above in_range() if the exponent is too high for power
  V power, t;
};

/// What table_exp_parts() takes for `magic`, from the integer base.
template <bool precise, class V>
inline V table_magic(V base) {
  using Element = typename V::Element;
  constexpr auto step = static_cast<Element>(1 << bits_of_roots<precise, V>);
  constexpr auto range = static_cast<Element>(exponent_range<Element>);
  return (all<V>(range) - base) * all<V>(step) + all<V>(ExpConstants<Element>::magic);
}

/// The largest n, as an integer, of an exponent in range.
template <bool precise, class V>
inline V largest_in_range() {
  using Element = typename V::Element;
  constexpr auto step = static_cast<Element>(1 << bits_of_roots<precise, V>);
  constexpr auto range = static_cast<Element>(exponent_range<Element>);
  return all<V>(ExpConstants<Element>::magic + 2 * range * step - 1);
}

/// The parts of e^x 2^-base for x >= (base - range + 1/2) ln 2 and |x| < 2^17 ln 2.
///   Error:     t is within 4e-9 for floats and 1.6e-17 for doubles; power errs by half an ulp;
///              if `precise`, it has half the digits of its type, and t has what they lack. Of five
///              bits t is within 5.4e-8
///   Specials:  t is a NaN if x is a NaN or +inf
template <bool precise, class V>
inline TableExpParts<V> table_exp_parts(V x, V magic) {
  using Element = typename V::Element;
  using C = ExpConstants<Element>;
  constexpr int bits = bits_of_roots<precise, V>;
  using Table = RootTable<Element, bits>;
  constexpr auto step = static_cast<Element>(1 << bits);
  // x = n ln(2) / step + r, as in exp_parts(); n has the integer n - step (base - range).
  const V n = fma(x, all<V>(C::log2_e * step), magic);
  const V n_float = n - magic;
  V r = fnma(n_float, all<V>(C::ln_2 / step), x);
  r = fnma(n_float, all<V>(C::ln_2_rest / step), r);
  // The exponent of n goes where that of power stands, and its fraction chooses the root.
  const V exponent = V::template steps_to_exponent<bits>(n);
  if constexpr (bits > V::root_bits) {
    const V t = r * fma(r, all<V>(Table::p[1]), all<V>(Table::p[0]));
    return {n, add_bits(exponent, V::look_up(Table::roots, n)), t};
  } else {
    if constexpr (precise) r = r + V::look_up(Table::half_rests, n);
    constexpr std::size_t terms = sizeof(Table::q) / sizeof(Table::q[0]);
    V q = all<V>(Table::q[terms - 1]);
#pragma GCC unroll 16
    for (std::size_t k = terms - 1; k > 0; --k) q = fma(q, r, all<V>(Table::q[k - 1]));
    const V root = V::look_up(precise ? Table::half_roots : Table::roots, n);
    return {n, add_bits(exponent, root), fma(r * r, q, r)};
  }
}

}  // namespace
}  // namespace logitkit
