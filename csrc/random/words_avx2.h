// Vectors of integers for AVX2: what random numbers need beside simd/avx2.h; words_avx512.h says
// what the operations are. Include only from avx2.cpp files.
#pragma once

#include <cstdint>

#include "simd/avx2.h"

namespace logitkit::avx2 {
namespace {

struct U64 {
  static U64 all(std::uint64_t a) { return {_mm256_set1_epi64x(static_cast<long long>(a))}; }
  static U64 counting(std::uint64_t first, std::uint64_t step) {
    const auto s = static_cast<long long>(step);
    return {_mm256_add_epi64(all(first).v, _mm256_setr_epi64x(0, s, 2 * s, 3 * s))};
  }
  template <int n>
  U64 left() const {
    return {_mm256_slli_epi64(v, n)};
  }
  template <int n>
  U64 right() const {
    return {_mm256_srli_epi64(v, n)};
  }
  U64 sign() const { return {_mm256_cmpgt_epi64(_mm256_setzero_si256(), v)}; }
  void store(std::uint64_t* x) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), v); }
  __m256i v;
};

struct U32 {
  static U32 all(std::uint32_t a) { return {_mm256_set1_epi32(static_cast<int>(a))}; }
  template <int n>
  U32 left() const {
    return {_mm256_slli_epi32(v, n)};
  }
  template <int n>
  U32 right() const {
    return {_mm256_srli_epi32(v, n)};
  }
  U32 sign() const { return {_mm256_srai_epi32(v, 31)}; }
  void store(std::uint32_t* x) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), v); }
  __m256i v;
};

inline U64 operator^(U64 a, U64 b) { return {_mm256_xor_si256(a.v, b.v)}; }
inline U32 operator^(U32 a, U32 b) { return {_mm256_xor_si256(a.v, b.v)}; }
inline U64 operator&(U64 a, U64 b) { return {_mm256_and_si256(a.v, b.v)}; }
inline U32 operator&(U32 a, U32 b) { return {_mm256_and_si256(a.v, b.v)}; }
inline U64 operator|(U64 a, U64 b) { return {_mm256_or_si256(a.v, b.v)}; }
inline U32 operator|(U32 a, U32 b) { return {_mm256_or_si256(a.v, b.v)}; }
inline U64 operator+(U64 a, U64 b) { return {_mm256_add_epi64(a.v, b.v)}; }
inline U32 operator+(U32 a, U32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline U64 operator-(U64 a, U64 b) { return {_mm256_sub_epi64(a.v, b.v)}; }
inline U32 operator-(U32 a, U32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }

inline U64 multiply_low(U64 a, U64 b) { return {_mm256_mul_epu32(a.v, b.v)}; }
inline U64 merge_low(U64 a, U64 b) {
  return {_mm256_blend_epi32(a.v, _mm256_slli_epi64(b.v, 32), 0xaa)};
}
inline void merge_low(const U64 (&x)[2], U32& merged) { merged.v = merge_low(x[0], x[1]).v; }

// For numbers below 2^63: each half below the digits of a number whose last one is its unit.
inline F64 to_float(U64 a) {
  const __m256i high_one = _mm256_castpd_si256(_mm256_set1_pd(0x1p84));
  const __m256i low_one = _mm256_castpd_si256(_mm256_set1_pd(0x1p52));
  const __m256i high = _mm256_or_si256(_mm256_srli_epi64(a.v, 32), high_one);
  const __m256i low = _mm256_blend_epi32(a.v, low_one, 0xaa);
  const __m256d exact = _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(0x1p84 + 0x1p52));
  return {_mm256_add_pd(exact, _mm256_castsi256_pd(low))};
}
inline F32 to_float(U32 a) { return {_mm256_cvtepi32_ps(a.v)}; }

inline F64 as_float(U64 a) { return {_mm256_castsi256_pd(a.v)}; }
inline F32 as_float(U32 a) { return {_mm256_castsi256_ps(a.v)}; }
inline U64 as_words(F64 a) { return {_mm256_castpd_si256(a.v)}; }
inline U32 as_words(F32 a) { return {_mm256_castps_si256(a.v)}; }

inline F64 select_signed(U64 choice, F64 a, F64 b) {
  return {_mm256_blendv_pd(b.v, a.v, _mm256_castsi256_pd(choice.v))};
}
inline F32 select_signed(U32 choice, F32 a, F32 b) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(choice.v))};
}

inline F64 sqrt(F64 a) { return {_mm256_sqrt_pd(a.v)}; }
inline F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }

inline void zip(F64 a, F64 b, F64& first, F64& second) {
  const __m256d low = _mm256_unpacklo_pd(a.v, b.v), high = _mm256_unpackhi_pd(a.v, b.v);
  first = {_mm256_permute2f128_pd(low, high, 0x20)};
  second = {_mm256_permute2f128_pd(low, high, 0x31)};
}
inline void zip(F32 a, F32 b, F32& first, F32& second) {
  const __m256 low = _mm256_unpacklo_ps(a.v, b.v), high = _mm256_unpackhi_ps(a.v, b.v);
  first = {_mm256_permute2f128_ps(low, high, 0x20)};
  second = {_mm256_permute2f128_ps(low, high, 0x31)};
}

inline void stream(F64 a, double* x) { _mm256_stream_pd(x, a.v); }
inline void stream(F32 a, float* x) { _mm256_stream_ps(x, a.v); }
template <class V>
inline void end_stream(V) {
  _mm_sfence();
}

}  // namespace
}  // namespace logitkit::avx2
