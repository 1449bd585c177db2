// float16 and bfloat16 from and to float, by their bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/attention.h"

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

inline float from_float16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
  // Integers below 2^10 are the denormal numbers, in units of 2^-24.
  if (rest < 0x400u) {
    const float size = static_cast<float>(rest) * 0x1p-24f;
    return float_of_bits(bits_of_float(size) | sign);
  }
  const std::uint32_t bias = rest >= 0x7c00u ? 224u : 112u;  // infinities and NaN stay so
  return float_of_bits(((rest << 13) + (bias << 23)) | sign);
}

/// Rounded to nearest, ties to even; a NaN stays one.
inline std::uint16_t to_bfloat16(float x) {
  const std::uint32_t bits = bits_of_float(x);
  if (x != x) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline std::uint16_t to_float16(float x) {
  const std::uint32_t bits = bits_of_float(x), sign = (bits >> 16) & 0x8000u;
  const std::uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (size >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (size < 0x38800000u) {  // below 2^-14: adding 1/2 leaves units of 2^-24 in the low bits
    const float shifted = float_of_bits(size) + 0.5f;
    return static_cast<std::uint16_t>(sign | (bits_of_float(shifted) - 0x3f000000u));
  }
  return static_cast<std::uint16_t>(sign |
                                    ((size - (112u << 23) + 0xfffu + ((size >> 13) & 1u)) >> 13));
}

/// n elements of a half type as floats.
inline void widen(Element element, const void* from, std::size_t n, float* to) {
  const auto* half = static_cast<const std::uint16_t*>(from);
  if (element == Element::bfloat16)
    for (std::size_t i = 0; i < n; ++i) to[i] = from_bfloat16(half[i]);
  else
    for (std::size_t i = 0; i < n; ++i) to[i] = from_float16(half[i]);
}

inline void narrow(Element element, const float* from, std::size_t n, void* to) {
  auto* half = static_cast<std::uint16_t*>(to);
  if (element == Element::bfloat16)
    for (std::size_t i = 0; i < n; ++i) half[i] = to_bfloat16(from[i]);
  else
    for (std::size_t i = 0; i < n; ++i) half[i] = to_float16(from[i]);
}

}  // namespace logitkit
