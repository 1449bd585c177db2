// Vectors of floats and doubles for AVX-512. Include only from avx512.cpp files.
//
// All four headers of this kind define the same two types, F32 and F64, with the same
// operations, so that a loop is written once, as a template over them. Everything is in an
// anonymous namespace: no linker can lend it to a file for another instruction set.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace logitkit::avx512 {
namespace {

using std::size_t;

struct F64 {
  using Element = double;
  using Wide = F64;
  static constexpr size_t width = 8;
  // Of an index for look_up(), and of one where few digits are needed.
  static constexpr int root_bits = 4, coarse_root_bits = 4;
  /// table[i] for the last bits i of the index.
  static F64 look_up(const double (&table)[16], F64 index) {
    return {_mm512_permutex2var_pd(_mm512_loadu_pd(table), _mm512_castpd_si512(index.v),
                                   _mm512_loadu_pd(table + 8))};
  }
  /// The integer of a, a number of steps of 2^(1 / 2^bits), where the exponent stands.
  template <int bits>
  static F64 steps_to_exponent(F64 a) {
    return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a.v), 52 - bits))};
  }
  static F64 all(double a) { return {_mm512_set1_pd(a)}; }
  static F64 load(const double* x) { return {_mm512_loadu_pd(x)}; }
  static F64 load(const float* x) { return {_mm512_cvtps_pd(_mm256_loadu_ps(x))}; }
  /// The first n <= width elements of x, and `rest` in the other lanes.
  static F64 load_first(const double* x, size_t n, F64 rest) {
    return {_mm512_mask_loadu_pd(rest.v, static_cast<__mmask8>((1u << n) - 1), x)};
  }
  static F64 load_first(const float* x, size_t n, F64 rest) {
    const auto first = static_cast<__mmask8>((1u << n) - 1);
    return {_mm512_mask_cvtps_pd(rest.v, first, _mm256_maskz_loadu_ps(first, x))};
  }
  /// Rounds doubles to the elements of this type.
  static F64 narrow(const F64 (&wide)[1]) { return wide[0]; }
  /// The first n elements of x, a power of two of them, over and over.
  template <size_t n>
  static F64 repeat(const double* x) {
    if constexpr (n == 1) return all(*x);
    if constexpr (n == 2)
      return {_mm512_castps_pd(_mm512_broadcast_f32x4(_mm_castpd_ps(_mm_loadu_pd(x))))};
    if constexpr (n == 4) return {_mm512_broadcast_f64x4(_mm256_loadu_pd(x))};
    if constexpr (n == 8) return load(x);
  }
  void store(double* x) const { _mm512_storeu_pd(x, v); }
  /// Writes past the caches, to where a vector is aligned; what others read comes before a fence.
  void stream(double* x) const { _mm512_stream_pd(x, v); }
  static void fence() { _mm_sfence(); }
  void store_first(double* x, size_t n) const {
    _mm512_mask_storeu_pd(x, static_cast<__mmask8>((1u << n) - 1), v);
  }
  __m512d v;
};

struct F32 {
  using Element = float;
  using Wide = F64;
  static constexpr size_t width = 16;
  static constexpr int root_bits = 4, coarse_root_bits = 5;
  static F32 look_up(const float (&table)[16], F32 index) {
    return {_mm512_permutexvar_ps(_mm512_castps_si512(index.v), _mm512_loadu_ps(table))};
  }
  static F32 look_up(const float (&table)[32], F32 index) {
    return {_mm512_permutex2var_ps(_mm512_loadu_ps(table), _mm512_castps_si512(index.v),
                                   _mm512_loadu_ps(table + 16))};
  }
  template <int bits>
  static F32 steps_to_exponent(F32 a) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23 - bits))};
  }
  static F32 all(float a) { return {_mm512_set1_ps(a)}; }
  static F32 load(const float* x) { return {_mm512_loadu_ps(x)}; }
  static F32 load_first(const float* x, size_t n, F32 rest) {
    return {_mm512_mask_loadu_ps(rest.v, static_cast<__mmask16>((1u << n) - 1), x)};
  }
  static F32 narrow(const F64 (&wide)[2]) {
    return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(wide[0].v)),
                               _mm512_cvtpd_ps(wide[1].v), 1)};
  }
  template <size_t n>
  static F32 repeat(const float* x) {
    if constexpr (n == 1) return all(*x);
    if constexpr (n == 2) {
      double pair;
      std::memcpy(&pair, x, sizeof pair);
      return {_mm512_castpd_ps(_mm512_set1_pd(pair))};
    }
    if constexpr (n == 4) return {_mm512_broadcast_f32x4(_mm_loadu_ps(x))};
    if constexpr (n == 8)
      return {_mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_loadu_ps(x))))};
    if constexpr (n == 16) return load(x);
  }
  void store(float* x) const { _mm512_storeu_ps(x, v); }
  void stream(float* x) const { _mm512_stream_ps(x, v); }
  static void fence() { _mm_sfence(); }
  void store_first(float* x, size_t n) const {
    _mm512_mask_storeu_ps(x, static_cast<__mmask16>((1u << n) - 1), v);
  }
  __m512 v;
};

inline F64 operator+(F64 a, F64 b) { return {_mm512_add_pd(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm512_div_pd(a.v, b.v)}; }
inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }

/// a * b + c, a * b - c and c - a * b, each rounded once.
inline F64 fma(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F64 fms(F64 a, F64 b, F64 c) { return {_mm512_fmsub_pd(a.v, b.v, c.v)}; }
inline F64 fnma(F64 a, F64 b, F64 c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
inline F32 fms(F32 a, F32 b, F32 c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }
inline F32 fnma(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }

/// The larger one; b if either is a NaN.
inline F64 max(F64 a, F64 b) { return {_mm512_max_pd(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {_mm512_min_pd(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }

struct Mask64 {
  __mmask8 m;
};
struct Mask32 {
  __mmask16 m;
};
inline Mask64 greater(F64 a, F64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask32 greater(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask64 equal(F64 a, F64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ)}; }
inline bool any(Mask64 mask) { return mask.m != 0; }
inline bool any(Mask32 mask) { return mask.m != 0; }
/// a where the mask is set, else b.
inline F64 select(Mask64 mask, F64 a, F64 b) { return {_mm512_mask_blend_pd(mask.m, b.v, a.v)}; }
inline F32 select(Mask32 mask, F32 a, F32 b) { return {_mm512_mask_blend_ps(mask.m, b.v, a.v)}; }

/// Sum and difference of the bits as integers.
inline F64 add_bits(F64 a, F64 b) {
  return {
      _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(a.v), _mm512_castpd_si512(b.v)))};
}
inline F64 sub_bits(F64 a, F64 b) {
  return {
      _mm512_castsi512_pd(_mm512_sub_epi64(_mm512_castpd_si512(a.v), _mm512_castpd_si512(b.v)))};
}
inline F32 add_bits(F32 a, F32 b) {
  return {
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
inline F32 sub_bits(F32 a, F32 b) {
  return {
      _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
/// The low bits of a, shifted to where the exponent stands; and back.
inline F64 to_exponent(F64 a) {
  return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a.v), 52))};
}
inline F32 to_exponent(F32 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
}
inline F64 from_exponent(F64 a) {
  return {_mm512_castsi512_pd(_mm512_srli_epi64(_mm512_castpd_si512(a.v), 52))};
}

/// The bits that are set in a, b or c.
inline F64 or_bits(F64 a, F64 b, F64 c) {
  return {_mm512_castsi512_pd(_mm512_ternarylogic_epi64(
      _mm512_castpd_si512(a.v), _mm512_castpd_si512(b.v), _mm512_castpd_si512(c.v), 0xfe))};
}
inline F32 or_bits(F32 a, F32 b, F32 c) {
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(
      _mm512_castps_si512(a.v), _mm512_castps_si512(b.v), _mm512_castps_si512(c.v), 0xfe))};
}
/// Whether the bits of a, as integers, exceed those of b in any lane.
inline bool any_bits_above(F64 a, F64 b) {
  return _mm512_cmpgt_epi64_mask(_mm512_castpd_si512(a.v), _mm512_castpd_si512(b.v)) != 0;
}
inline bool any_bits_above(F32 a, F32 b) {
  return _mm512_cmpgt_epi32_mask(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)) != 0;
}

/// The lanes of a as doubles, in width / F64::width vectors.
inline void widen(F32 a, F64 (&wide)[2]) {
  wide[0] = {_mm512_cvtps_pd(_mm512_castps512_ps256(a.v))};
  wide[1] = {_mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))};
}
inline void widen(F64 a, F64 (&wide)[1]) { wide[0] = a; }
inline float largest_lane(F32 a) { return _mm512_reduce_max_ps(a.v); }
inline double largest_lane(F64 a) { return _mm512_reduce_max_pd(a.v); }

/// x[i] of lane j becomes x[j] of lane i: pairs, then quadruples of vectors are interleaved
/// within 128 bits, then the groups of 128 bits are exchanged.
inline void transpose(F32 (&x)[16]) {
  __m512 y[16];
#pragma GCC unroll 8
  for (size_t i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    y[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < 16; i += 4) {
    x[i].v = _mm512_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1].v = _mm512_shuffle_ps(y[i], y[i + 2], 0xee);
    x[i + 2].v = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3].v = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) {
    const __m512 even_low = _mm512_shuffle_f32x4(x[i].v, x[i + 4].v, 0x88);
    const __m512 even_high = _mm512_shuffle_f32x4(x[i + 8].v, x[i + 12].v, 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(x[i].v, x[i + 4].v, 0xdd);
    const __m512 odd_high = _mm512_shuffle_f32x4(x[i + 8].v, x[i + 12].v, 0xdd);
    y[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    y[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    y[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    y[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) x[i].v = y[i];
}

inline void transpose(F64 (&x)[8]) {
  __m512d y[8];
#pragma GCC unroll 4
  for (size_t i = 0; i < 8; i += 2) {
    y[i] = _mm512_unpacklo_pd(x[i].v, x[i + 1].v);
    y[i + 1] = _mm512_unpackhi_pd(x[i].v, x[i + 1].v);
  }
#pragma GCC unroll 2
  for (size_t i = 0; i < 2; ++i) {
    const __m512d even_low = _mm512_shuffle_f64x2(y[i], y[i + 2], 0x88);
    const __m512d even_high = _mm512_shuffle_f64x2(y[i + 4], y[i + 6], 0x88);
    const __m512d odd_low = _mm512_shuffle_f64x2(y[i], y[i + 2], 0xdd);
    const __m512d odd_high = _mm512_shuffle_f64x2(y[i + 4], y[i + 6], 0xdd);
    x[i].v = _mm512_shuffle_f64x2(even_low, even_high, 0x88);
    x[i + 2].v = _mm512_shuffle_f64x2(odd_low, odd_high, 0x88);
    x[i + 4].v = _mm512_shuffle_f64x2(even_low, even_high, 0xdd);
    x[i + 6].v = _mm512_shuffle_f64x2(odd_low, odd_high, 0xdd);
  }
}

/// The sum of all lanes, in a fixed order.
inline double sum_of_lanes(F64 a) { return _mm512_reduce_add_pd(a.v); }

inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }

/// a * b + c, rounded once where the processor does that at no cost.
inline F64 multiply_add(F64 a, F64 b, F64 c) { return fma(a, b, c); }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }

/// a - floor(a).
inline F64 fraction(F64 a) { return {_mm512_reduce_pd(a.v, 0x09)}; }
inline F32 fraction(F32 a) { return {_mm512_reduce_ps(a.v, 0x09)}; }
/// a * 2^floor(b) for b <= 0, where a is from 1 to 2; 0 where that is no normal number, and
/// NaN if b is a NaN.
inline F64 times_power(F64 a, F64 b) {
  const __mmask8 normal = _mm512_cmp_pd_mask(b.v, _mm512_set1_pd(-1022.0), _CMP_NLT_UQ);
  return {_mm512_maskz_scalef_pd(normal, a.v, b.v)};
}
inline F32 times_power(F32 a, F32 b) {
  const __mmask16 normal = _mm512_cmp_ps_mask(b.v, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  return {_mm512_maskz_scalef_ps(normal, a.v, b.v)};
}

/// The sum of all lanes of every x[i], in lane i; the order of the terms is fixed.
inline F32 sums_of_lanes(F32 (&x)[16]) {
  transpose(x);
#pragma GCC unroll 4
  for (size_t half = 8; half > 0; half /= 2)
#pragma GCC unroll 8
    for (size_t i = 0; i < half; ++i) x[i] = x[i] + x[i + half];
  return x[0];
}
inline F64 sums_of_lanes(F64 (&x)[8]) {
  transpose(x);
#pragma GCC unroll 3
  for (size_t half = 4; half > 0; half /= 2)
#pragma GCC unroll 4
    for (size_t i = 0; i < half; ++i) x[i] = x[i] + x[i + half];
  return x[0];
}

/// The sums of lanes 0 and 1, 2 and 3, and so on of a, then those of b.
inline F32 sums_of_pairs(F32 a, F32 b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return {
      _mm512_add_ps(_mm512_permutex2var_ps(a.v, even, b.v), _mm512_permutex2var_ps(a.v, odd, b.v))};
}
inline F64 sums_of_pairs(F64 a, F64 b) {
  const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i odd = _mm512_add_epi64(even, _mm512_set1_epi64(1));
  return {
      _mm512_add_pd(_mm512_permutex2var_pd(a.v, even, b.v), _mm512_permutex2var_pd(a.v, odd, b.v))};
}

/// Numbers stored as float16; storing rounds to nearest, ties to even.
inline void load_float16(const std::uint16_t* x, F32& to) {
  to = {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)))};
}
inline void store_float16(F32 a, std::uint16_t* x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), _mm512_cvtps_ph(a.v, 0x08));
}

}  // namespace
}  // namespace logitkit::avx512
