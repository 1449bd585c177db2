// CUDA's half on the processor: what logitkit uses of it.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  std::uint16_t bits;
};
struct __half_raw {
  unsigned short x;
};

inline float __half2float(__half half) {
  const std::uint32_t sign = (half.bits & 0x8000u) << 16, magnitude = half.bits & 0x7fffu;
  std::uint32_t bits;
  if (magnitude >= 0x7c00u) {  // infinite or NaN
    bits = sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
  } else if (magnitude >= 0x400u) {
    bits = sign | ((magnitude << 13) + ((127u - 15u) << 23));
  } else {  // denormal: a multiple of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    std::memcpy(&bits, &value, sizeof bits);
    bits |= sign;
  }
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline __half __float2half_rn(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7fffu)};
  if (bits >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // rounds to 2^16
  if (bits < 0x38800000u) {  // denormal: the sum rounds to a multiple of 2^-24
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof bits);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof bits);
    return {static_cast<std::uint16_t>(sign | (bits - 0x3f000000u))};
  }
  bits += 0xfffu + (bits >> 13 & 1);  // to nearest, ties to even
  return {static_cast<std::uint16_t>(sign | ((bits >> 13) - ((127u - 15u) << 10)))};
}
