// What the loops of attention have in common: rows of lanes, and blocks of rows. Include only
// from files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/loops.h"

namespace logitkit {
namespace {

using std::size_t;

template <class V>
constexpr size_t lanes_of = panel_vectors * V::width;

/// x, about which the compiler forgets how it was made: it otherwise keeps the address of each
/// element in a register of its own, of which there are not so many.
template <class X>
inline X opaque(X x) {
#if defined(__GNUC__)
  __asm__("" : "+r"(x));
#endif
  return x;
}

template <class V>
inline V load_columns(const typename V::Element* x, size_t n) {
  return n >= V::width ? V::load(x) : V::load_first(x, n, V::all(0));
}

/// The constants that depend on the element.
template <class Element>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float lowest = -0x1.fffffep+127f, infinity = __builtin_inff();
  static constexpr float no_power = -256.0f;  // 2^x is 0 below
  static constexpr float saturated = 20.0f;   // tanh(x / 2) is 1 above
};
template <>
struct Limits<double> {
  static constexpr double lowest = -0x1.fffffffffffffp+1023, infinity = __builtin_inf();
  static constexpr double no_power = -2048.0;
  static constexpr double saturated = 40.0;
};

/// Calls f with a constant number of rows at a time, `most` as long as there are so many, then
/// halves: f(begin, constant).
template <size_t most, class F>
inline void in_blocks(size_t rows, const F& f) {
  size_t begin = 0;
  for (; begin + most <= rows; begin += most) f.template run<most>(begin);
  if constexpr (most > 8)
    if (rows - begin >= 8) f.template run<8>(begin), begin += 8;
  if constexpr (most > 4)
    if (rows - begin >= 4) f.template run<4>(begin), begin += 4;
  if (rows - begin >= 2) f.template run<2>(begin), begin += 2;
  if (rows - begin >= 1) f.template run<1>(begin);
}

}  // namespace
}  // namespace logitkit
