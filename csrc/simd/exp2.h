// 2^x of every lane of a vector, for x <= 0. Include only from files with an instruction set of
// their own, after that one's vectors.
#pragma once

#include <cstddef>

namespace logitkit {
namespace {

/// The polynomial 1 + x (c[0] + x (c[1] + ...)) for 2^x on [0, 1): least relative error with
/// an exact 1 at 0, which an online softmax relies on.
template <class Element>
struct Exp2Constants;

template <>
struct Exp2Constants<float> {
  static constexpr float c[6] = {0x1.62e42cp-1f, 0x1.ebfd58p-3f,  0x1.c68912p-5f,
                                 0x1.3d0b92p-7f, 0x1.46d64cp-10f, 0x1.c54176p-13f};
};

template <>
struct Exp2Constants<double> {
  static constexpr double c[11] = {
      0x1.62e42fefa39f5p-1,  0x1.ebfbdff82c04bp-3,  0x1.c6b08d7065838p-5,  0x1.3b2ab6f734171p-7,
      0x1.5d87ff4d2259fp-10, 0x1.4308fa1dd29cap-13, 0x1.ffcfc6a98a6abp-17, 0x1.628f3585d6d03p-20,
      0x1.b85f42b4ae873p-24, 0x1.c2c479bbcd06ep-28, 0x1.58566d9274442p-31};
};

/// 2^x for x <= 0.
///   Error:     1 ulp; 2^0 is exactly 1
///   Specials:  0 below the smallest normal number; NaN if x is a NaN
template <class V>
inline V exp2(V x) {
  using C = Exp2Constants<typename V::Element>;
  constexpr std::size_t terms = sizeof(C::c) / sizeof(C::c[0]);
  const V r = fraction(x);
  V p = V::all(C::c[terms - 1]);
#pragma GCC unroll 16
  for (std::size_t k = terms - 1; k > 0; --k) p = multiply_add(p, r, V::all(C::c[k - 1]));
  return times_power(multiply_add(p, r, V::all(1)), x);
}

}  // namespace
}  // namespace logitkit
