// Half types from and to float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/attention.h"
#include "attention/loops.h"

namespace logitkit {

inline float float_of_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline std::uint32_t bits_of_float(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float from_bfloat16(std::uint16_t bits) { return float_of_bits(std::uint32_t{bits} << 16); }

/// Rounded to nearest, ties to even; a NaN stays one.
inline std::uint16_t to_bfloat16(float x) {
  const std::uint32_t bits = bits_of_float(x);
  if (x != x) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// n elements of a half type as floats.
inline void widen(Element element, const AllAttentionLoops& loops, const void* from, std::size_t n,
                  float* to) {
  const auto* half = static_cast<const std::uint16_t*>(from);
  if (element == Element::float16) return loops.widen_float16(half, n, to);
  for (std::size_t i = 0; i < n; ++i) to[i] = from_bfloat16(half[i]);
}

inline void narrow(Element element, const AllAttentionLoops& loops, const float* from,
                   std::size_t n, void* to) {
  auto* half = static_cast<std::uint16_t*>(to);
  if (element == Element::float16) return loops.narrow_float16(from, n, half);
  for (std::size_t i = 0; i < n; ++i) half[i] = to_bfloat16(from[i]);
}

}  // namespace logitkit
