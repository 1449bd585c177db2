// csrc/cuda/mma.h on the processor.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <type_traits>

#include "cuda_runtime.h"

namespace logitkit::cuda {

template <class S>
constexpr bool has_products() {
  return true;  // of each GPU that is emulated: multiply_add() looks which one it is
}

namespace emulated {

inline float half_element(unsigned bits, const __half*) {
  return __half2float({static_cast<std::uint16_t>(bits)});
}
inline float half_element(unsigned bits, const __nv_bfloat16*) {
  return __bfloat162float({static_cast<std::uint16_t>(bits)});
}

// Element k of 32 bytes, of which four lanes hold a word each of the first 16, and of the others.
template <class S>
float element(const unsigned (&low)[4], const unsigned (&high)[4], int k) {
  if constexpr (sizeof(S) == 4) {
    // The tensor cores do not see the last bits.
    const unsigned* words = k < 4 ? low : high;
    return __uint_as_float(words[k % 4] & 0xffffe000u);
  } else {
    const unsigned* words = k < 8 ? low : high;
    return half_element(words[k % 8 / 2] >> k % 2 * 16, static_cast<const S*>(nullptr));
  }
}

}  // namespace emulated

template <class S>
void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const S*) {
  constexpr int needed = std::is_same_v<S, __half> ? 75 : 80;
  emulation::require(emulation::capability() >= needed, "products that this GPU does not have");
  struct Operands {
    unsigned a[4], b[2];
  } mine;
  std::memcpy(mine.a, a, sizeof a);
  std::memcpy(mine.b, b, sizeof b);
  const auto& all = emulation::exchange(&mine, sizeof mine);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned column = 2 * t + i % 2;
    unsigned words[4][4];  // of row and column, low and high bytes
    for (unsigned k = 0; k < 4; ++k) {
      const auto of_row = emulation::from_lane<Operands>(all, 4 * g + k);
      const auto of_column = emulation::from_lane<Operands>(all, 4 * column + k);
      words[0][k] = of_row.a[i / 2];
      words[1][k] = of_row.a[2 + i / 2];
      words[2][k] = of_column.b[0];
      words[3][k] = of_column.b[1];
    }
    double sum = c[i];
    for (int k = 0; k < 32 / static_cast<int>(sizeof(S)); ++k)
      sum += double{emulated::element<S>(words[0], words[1], k)} *
             double{emulated::element<S>(words[2], words[3], k)};
    c[i] = static_cast<float>(sum);
  }
}

inline void load_matrices(unsigned (&x)[4], const void* row) {
  emulation::require_aligned(row, 16);
  const auto& all = emulation::exchange(&row, sizeof row);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned k = 0; k < 4; ++k)
    std::memcpy(&x[k], emulation::from_lane<const unsigned char*>(all, 8 * k + g) + 4 * t, 4);
}

inline void load_transposed(unsigned (&x)[4], const void* row) {
  emulation::require_aligned(row, 16);
  const auto& all = emulation::exchange(&row, sizeof row);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned k = 0; k < 4; ++k) {
    std::uint16_t pair[2];
    for (unsigned i = 0; i < 2; ++i)
      std::memcpy(&pair[i],
                  emulation::from_lane<const unsigned char*>(all, 8 * k + 2 * t + i) + 2 * g, 2);
    x[k] = pair[0] | unsigned{pair[1]} << 16;
  }
}

inline unsigned packed(float first, float second, const __half*) {
  return __float2half_rn(first).bits | unsigned{__float2half_rn(second).bits} << 16;
}
inline unsigned packed(float first, float second, const __nv_bfloat16*) {
  return __float2bfloat16_rn(first).bits | unsigned{__float2bfloat16_rn(second).bits} << 16;
}

inline float fast_exp2(float x) {
  const float result = std::exp2(x);
  return result < 0x1p-126f ? 0.0f : result;
}

}  // namespace logitkit::cuda
