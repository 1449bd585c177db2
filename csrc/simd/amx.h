// Tile registers for products of bfloat16. They multiply and add at 16 times the rate of AVX-512
// with floats, so six products of parts take less than half the time of one of floats (see
// simd/bfloat16_avx512.h). Include only from amx.cpp files and their like.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/bfloat16_avx512.h"

namespace logitkit::amx {
namespace {

using namespace avx512;  // on top of which they come

// All eight registers are of 16 rows of 64 bytes.
struct alignas(64) Config {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
constexpr Config config = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/// Come before and after all that uses tile registers, in each thread.
inline void begin() { _tile_loadconfig(&config); }
inline void end() { _tile_release(); }

/// Not in every compiler do loads of tile registers wait for stores to memory.
inline void finish_stores() { __asm__ volatile("" ::: "memory"); }

}  // namespace
}  // namespace logitkit::amx
