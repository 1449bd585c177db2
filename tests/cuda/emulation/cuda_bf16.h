// CUDA's bfloat16 on the processor: what logitkit uses of it.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  std::uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 given) {
  const std::uint32_t bits = std::uint32_t{given.bits} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fffu};
  bits += 0x7fffu + (bits >> 16 & 1);  // to nearest, ties to even
  return {static_cast<std::uint16_t>(bits >> 16)};
}
