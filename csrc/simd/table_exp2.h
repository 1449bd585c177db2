// 2^x of every lane of a vector, by a table of roots of two: less work than exp2.h where a register
// holds the table. Include only from files with an instruction set of their own, after that one's
// vectors.
#pragma once

#include <cstddef>

#include "simd/exp.h"
#include "simd/table_exp.h"

namespace logitkit {
namespace {

/// The polynomial 1 + x (c[0] + x (c[1] + ...)) for 2^x on |x| <= 2^-bits / 2: least relative error
/// with an exact 1 at 0.
template <class Element, int bits>
struct TableExp2Constants;

template <>
struct TableExp2Constants<float, 3> {  // 2.7e-8
  static constexpr float c[3] = {0x1.62e432p-1f, 0x1.ec0c32p-3f, 0x1.c6a002p-5f};
};

/// 2^x for x <= 0, where denormal numbers are flushed.
///   Error:     1.5 ulp; 2^0 is exactly 1
///   Specials:  0 or denormal below the smallest normal number; NaN if x is a NaN
template <class V>
inline V table_exp2(V x) {
  using Element = typename V::Element;
  using C = TableExp2Constants<Element, V::root_bits>;
  using Table = RootTable<Element, V::root_bits>;
  constexpr auto step = static_cast<Element>(1 << V::root_bits);
  // Its last bits are those of integers of steps, and of the range that the roots leave out.
  constexpr Element magic = ExpConstants<Element>::magic / step + exponent_range<Element>;
  // From -bias on down power is 0. The bound is the first operand so that a NaN stays.
  x = max(all<V>(-ExpConstants<Element>::bias), x);
  const V n = x + all<V>(magic);
  const V r = x - (n - all<V>(magic));
  constexpr std::size_t terms = sizeof(C::c) / sizeof(C::c[0]);
  V p = all<V>(C::c[terms - 1]);
#pragma GCC unroll 16
  for (std::size_t k = terms - 1; k > 0; --k) p = multiply_add(p, r, all<V>(C::c[k - 1]));
  const V power =
      add_bits(V::template steps_to_exponent<V::root_bits>(n), V::look_up(Table::roots, n));
  return multiply_add(power, p * r, power);
}

}  // namespace
}  // namespace logitkit
