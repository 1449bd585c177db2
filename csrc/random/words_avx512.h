// Vectors of integers for AVX-512: what random numbers need beside simd/avx512.h.
// Include only from avx512.cpp files.
#pragma once

#include <cstdint>

#include "simd/avx512.h"

namespace logitkit::avx512 {
namespace {

/// As many integers of 64 bits as F64 has lanes.
struct U64 {
  static U64 all(std::uint64_t a) { return {_mm512_set1_epi64(static_cast<long long>(a))}; }
  /// first, first + step, ...
  static U64 counting(std::uint64_t first, std::uint64_t step) {
    const auto s = static_cast<long long>(step);
    return {_mm512_add_epi64(all(first).v,
                             _mm512_setr_epi64(0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s))};
  }
  template <int n>
  U64 left() const {
    return {_mm512_slli_epi64(v, n)};
  }
  template <int n>
  U64 right() const {
    return {_mm512_srli_epi64(v, n)};
  }
  /// All bits of the lanes whose highest bit is set.
  U64 sign() const { return {_mm512_srai_epi64(v, 63)}; }
  void store(std::uint64_t* x) const { _mm512_storeu_si512(x, v); }
  __m512i v;
};

/// As many integers of 32 bits as F32 has lanes.
struct U32 {
  static U32 all(std::uint32_t a) { return {_mm512_set1_epi32(static_cast<int>(a))}; }
  template <int n>
  U32 left() const {
    return {_mm512_slli_epi32(v, n)};
  }
  template <int n>
  U32 right() const {
    return {_mm512_srli_epi32(v, n)};
  }
  U32 sign() const { return {_mm512_srai_epi32(v, 31)}; }
  void store(std::uint32_t* x) const { _mm512_storeu_si512(x, v); }
  __m512i v;
};

inline U64 operator^(U64 a, U64 b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline U32 operator^(U32 a, U32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline U64 operator&(U64 a, U64 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline U32 operator&(U32 a, U32 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline U64 operator|(U64 a, U64 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline U32 operator|(U32 a, U32 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline U64 operator+(U64 a, U64 b) { return {_mm512_add_epi64(a.v, b.v)}; }
inline U32 operator+(U32 a, U32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline U32 operator-(U32 a, U32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline U64 operator-(U64 a, U64 b) { return {_mm512_sub_epi64(a.v, b.v)}; }

/// The products of the low halves of lanes.
inline U64 multiply_low(U64 a, U64 b) { return {_mm512_mul_epu32(a.v, b.v)}; }
/// The low half of a, and that of b above it.
inline U64 merge_low(U64 a, U64 b) {
  return {_mm512_mask_blend_epi32(0xaaaa, a.v, _mm512_slli_epi64(b.v, 32))};
}
/// The same for lanes of 32 bits: those of a and b in turns.
inline void merge_low(const U64 (&x)[2], U32& merged) { merged.v = merge_low(x[0], x[1]).v; }

/// The numbers as signed ones, rounded to nearest.
inline F64 to_float(U64 a) { return {_mm512_cvtepi64_pd(a.v)}; }
inline F32 to_float(U32 a) { return {_mm512_cvtepi32_ps(a.v)}; }

inline F64 as_float(U64 a) { return {_mm512_castsi512_pd(a.v)}; }
inline F32 as_float(U32 a) { return {_mm512_castsi512_ps(a.v)}; }
inline U64 as_words(F64 a) { return {_mm512_castpd_si512(a.v)}; }
inline U32 as_words(F32 a) { return {_mm512_castps_si512(a.v)}; }

/// a where the highest bit of `choice` is set, else b.
inline F64 select_signed(U64 choice, F64 a, F64 b) {
  return {_mm512_mask_blend_pd(_mm512_movepi64_mask(choice.v), b.v, a.v)};
}
inline F32 select_signed(U32 choice, F32 a, F32 b) {
  return {_mm512_mask_blend_ps(_mm512_movepi32_mask(choice.v), b.v, a.v)};
}

inline F64 sqrt(F64 a) { return {_mm512_sqrt_pd(a.v)}; }
inline F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }

/// The lanes of a and b in turns: the first half of them, and the second.
inline void zip(F64 a, F64 b, F64& first, F64& second) {
  const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  first = {_mm512_permutex2var_pd(a.v, low, b.v)};
  second = {_mm512_permutex2var_pd(a.v, high, b.v)};
}
inline void zip(F32 a, F32 b, F32& first, F32& second) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  first = {_mm512_permutex2var_ps(a.v, low, b.v)};
  second = {_mm512_permutex2var_ps(a.v, high, b.v)};
}

/// Writes around the caches, to an address that sizeof a divides.
inline void stream(F64 a, double* x) { _mm512_stream_pd(x, a.v); }
inline void stream(F32 a, float* x) { _mm512_stream_ps(x, a.v); }
template <class V>
inline void end_stream(V) {
  _mm_sfence();
}

}  // namespace
}  // namespace logitkit::avx512
