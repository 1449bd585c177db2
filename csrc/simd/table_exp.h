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
/// rests[j] is what rounding took from the root, relative to it.
///
/// q is (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2 / 2^bits with the least error of e^r.
template <class Element, int bits>
struct RootTable;

template <>
struct RootTable<float, 3> {  // 1.9e-10
  static constexpr float roots[8] = {0x1p-64f,        0x1.f72b84p-65f, 0x1.f06fep-65f,
                                     0x1.ebfdaep-65f, 0x1.ea09e6p-65f, 0x1.eace54p-65f,
                                     0x1.ee89fap-65f, 0x1.f5818ep-65f};
  static constexpr float rests[8] = {0,
                                     -0x1.9c0c22p-27f,
                                     0x1.125002p-25f,
                                     -0x1.0a355p-25f,
                                     0x1.26055cp-26f,
                                     0x1.67a1cap-28f,
                                     -0x1.f9c304p-27f,
                                     -0x1.a5217cp-28f};
  static constexpr float q[3] = {0.5f, 0x1.555c76p-3f, 0x1.554842p-5f};
};
template <>
struct RootTable<float, 4> {  // 1.6e-9
  static constexpr float roots[16] = {
      0x1p-64f,        0x1.fb5586p-65f, 0x1.f72b84p-65f, 0x1.f387a6p-65f,
      0x1.f06fep-65f,  0x1.edea64p-65f, 0x1.ebfdaep-65f, 0x1.eab07ep-65f,
      0x1.ea09e6p-65f, 0x1.ea1148p-65f, 0x1.eace54p-65f, 0x1.ec4918p-65f,
      0x1.ee89fap-65f, 0x1.f199bep-65f, 0x1.f5818ep-65f, 0x1.fa4afap-65f};
  static constexpr float rests[16] = {0,
                                      0x1.8d96d4p-25f,
                                      -0x1.9c0c22p-27f,
                                      0x1.964904p-25f,
                                      0x1.125002p-25f,
                                      0x1.370be4p-25f,
                                      -0x1.0a355p-25f,
                                      -0x1.00d8acp-27f,
                                      0x1.26055cp-26f,
                                      -0x1.05cb44p-25f,
                                      0x1.67a1cap-28f,
                                      0x1.a3b5e4p-28f,
                                      -0x1.f9c304p-27f,
                                      -0x1.6961b4p-28f,
                                      -0x1.a5217cp-28f,
                                      0x1.61428ep-28f};
  static constexpr float q[2] = {0x1.00022p-1f, 0x1.55563ap-3f};
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
  static constexpr double rests[16] = {0,
                                       0x1.79aa65d837b6dp-54,
                                       -0x1.01b15eaa59348p-55,
                                       0x1.68efde3a8a894p-54,
                                       0x1.34d754db0abb6p-55,
                                       0x1.59f48a72a4c6dp-55,
                                       0x1.690cebb7aafb0p-56,
                                       0x1.063e1e21c5409p-54,
                                       -0x1.3b3efbf5e2228p-54,
                                       -0x1.b32dcb94da51dp-56,
                                       0x1.db72fc1f0eab4p-55,
                                       0x1.1affc2b91ce27p-56,
                                       0x1.c1a7792cb3387p-55,
                                       0x1.36eae30af0cb3p-56,
                                       0x1.4a385a63d07a7p-56,
                                       -0x1.ff7128fd391f0p-55};
  static constexpr double q[5] = {0x1.fffffffffffb9p-2, 0x1.555555548f734p-3, 0x1.55555558fd1a1p-5,
                                  0x1.11123abe85c8fp-7, 0x1.6c14c6c361d9ap-10};
};

/// The exponents that table_exp_parts() can give lie in [-range, range).
template <class Element>
constexpr int exponent_range = 64;
template <>
constexpr int exponent_range<double> = 512;

/// e^x 2^-base = power (1 + t), |t| <= ln(2) / 2 / 2^V::root_bits.
template <class V>
struct TableExpParts {
  V n;  // above in_range() if the exponent is too high for power
  V power, t;
};

/// What table_exp_parts() takes for `magic`, from the integer base.
template <class V>
inline V table_magic(V base) {
  using Element = typename V::Element;
  constexpr auto step = static_cast<Element>(1 << V::root_bits);
  constexpr auto range = static_cast<Element>(exponent_range<Element>);
  return (all<V>(range) - base) * all<V>(step) + all<V>(ExpConstants<Element>::magic);
}

/// The largest n, as an integer, of an exponent in range.
template <class V>
inline V largest_in_range() {
  using Element = typename V::Element;
  constexpr auto step = static_cast<Element>(1 << V::root_bits);
  constexpr auto range = static_cast<Element>(exponent_range<Element>);
  return all<V>(ExpConstants<Element>::magic + 2 * range * step - 1);
}

/// The parts of e^x 2^-base for x >= (base - range + 1/2) ln 2 and |x| < 2^17 ln 2.
///   Error:     t is within 4e-9 for floats and 1.6e-17 for doubles; power errs by half an ulp,
///              and `precise` makes up for that in t
///   Specials:  t is a NaN if x is a NaN or +inf
template <bool precise, class V>
inline TableExpParts<V> table_exp_parts(V x, V magic) {
  using Element = typename V::Element;
  using C = ExpConstants<Element>;
  using Table = RootTable<Element, V::root_bits>;
  constexpr auto step = static_cast<Element>(1 << V::root_bits);
  // x = n ln(2) / step + r, as in exp_parts(); n has the integer n - step (base - range).
  const V n = fma(x, all<V>(C::log2_e * step), magic);
  const V n_float = n - magic;
  V r = fnma(n_float, all<V>(C::ln_2 / step), x);
  r = fnma(n_float, all<V>(C::ln_2_rest / step), r);
  constexpr std::size_t terms = sizeof(Table::q) / sizeof(Table::q[0]);
  V q = all<V>(Table::q[terms - 1]);
#pragma GCC unroll 16
  for (std::size_t k = terms - 1; k > 0; --k) q = fma(q, r, all<V>(Table::q[k - 1]));
  V r_and_rest = r;
  // The exponent of n goes where that of power stands, and its fraction chooses the root.
  const V power = add_bits(steps_to_exponent(n), V::look_up(Table::roots, n));
  if constexpr (precise) r_and_rest = r + V::look_up(Table::rests, n);
  return {n, power, fma(r * r, q, r_and_rest)};
}

}  // namespace
}  // namespace logitkit
