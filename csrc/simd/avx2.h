// Vectors of floats and doubles for AVX2 with FMA; avx512.h says what the operations are.
// Include only from avx2.cpp files.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace logitkit::avx2 {
namespace {

using std::size_t;

/// Masks of the first n <= 8 and of the first n <= 4 lanes.
inline __m256i first8(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m128i first4(size_t n) {
  return _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(n)), _mm_setr_epi32(0, 1, 2, 3));
}

struct F64 {
  using Element = double;
  using Wide = F64;
  static constexpr size_t width = 4;
  static constexpr int root_bits = 4, coarse_root_bits = 4;
  // By loads: vgatherqpd is slower on many processors, and crashes in an emulator (QEMU 7.2).
  static F64 look_up(const double (&table)[16], F64 index) {
    const __m256i last = _mm256_and_si256(_mm256_castpd_si256(index.v), _mm256_set1_epi64x(15));
    const __m128i low = _mm256_castsi256_si128(last), high = _mm256_extracti128_si256(last, 1);
    return {_mm256_set_pd(table[_mm_extract_epi64(high, 1)], table[_mm_cvtsi128_si64(high)],
                          table[_mm_extract_epi64(low, 1)], table[_mm_cvtsi128_si64(low)])};
  }
  /// The integer of a, a number of steps of 2^(1 / 2^bits), where the exponent stands.
  template <int bits>
  static F64 steps_to_exponent(F64 a) {
    return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a.v), 52 - bits))};
  }
  static F64 all(double a) { return {_mm256_set1_pd(a)}; }
  static F64 load(const double* x) { return {_mm256_loadu_pd(x)}; }
  static F64 load(const float* x) { return {_mm256_cvtps_pd(_mm_loadu_ps(x))}; }
  static F64 load_first(const double* x, size_t n, F64 rest) {
    const __m256i first = _mm256_cvtepi32_epi64(first4(n));
    return {_mm256_blendv_pd(rest.v, _mm256_maskload_pd(x, first), _mm256_castsi256_pd(first))};
  }
  static F64 load_first(const float* x, size_t n, F64 rest) {
    const __m128i first = first4(n);
    const __m256d some = _mm256_cvtps_pd(_mm_maskload_ps(x, first));
    const __m256i wide = _mm256_cvtepi32_epi64(first);
    return {_mm256_blendv_pd(rest.v, some, _mm256_castsi256_pd(wide))};
  }
  static F64 narrow(const F64 (&wide)[1]) { return wide[0]; }
  template <size_t n>
  static F64 repeat(const double* x) {
    if constexpr (n == 1) return all(*x);
    if constexpr (n == 2) return {_mm256_broadcast_pd(reinterpret_cast<const __m128d*>(x))};
    if constexpr (n == 4) return load(x);
  }
  void store(double* x) const { _mm256_storeu_pd(x, v); }
  void stream(double* x) const { _mm256_stream_pd(x, v); }
  static void fence() { _mm_sfence(); }
  void store_first(double* x, size_t n) const {
    _mm256_maskstore_pd(x, _mm256_cvtepi32_epi64(first4(n)), v);
  }
  __m256d v;
};

struct F32 {
  using Element = float;
  using Wide = F64;
  static constexpr size_t width = 8;
  static constexpr int root_bits = 3, coarse_root_bits = 3;
  static F32 look_up(const float (&table)[8], F32 index) {
    return {_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), _mm256_castps_si256(index.v))};
  }
  template <int bits>
  static F32 steps_to_exponent(F32 a) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23 - bits))};
  }
  static F32 all(float a) { return {_mm256_set1_ps(a)}; }
  static F32 load(const float* x) { return {_mm256_loadu_ps(x)}; }
  static F32 load_first(const float* x, size_t n, F32 rest) {
    const __m256i first = first8(n);
    return {_mm256_blendv_ps(rest.v, _mm256_maskload_ps(x, first), _mm256_castsi256_ps(first))};
  }
  static F32 narrow(const F64 (&wide)[2]) {
    return {_mm256_set_m128(_mm256_cvtpd_ps(wide[1].v), _mm256_cvtpd_ps(wide[0].v))};
  }
  template <size_t n>
  static F32 repeat(const float* x) {
    if constexpr (n == 1) return all(*x);
    if constexpr (n == 2) {
      double pair;
      std::memcpy(&pair, x, sizeof pair);
      return {_mm256_castpd_ps(_mm256_set1_pd(pair))};
    }
    if constexpr (n == 4) return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(x))};
    if constexpr (n == 8) return load(x);
  }
  void store(float* x) const { _mm256_storeu_ps(x, v); }
  void stream(float* x) const { _mm256_stream_ps(x, v); }
  static void fence() { _mm_sfence(); }
  void store_first(float* x, size_t n) const { _mm256_maskstore_ps(x, first8(n), v); }
  __m256 v;
};

inline F64 operator+(F64 a, F64 b) { return {_mm256_add_pd(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm256_div_pd(a.v, b.v)}; }
inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }

inline F64 fma(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
inline F64 fms(F64 a, F64 b, F64 c) { return {_mm256_fmsub_pd(a.v, b.v, c.v)}; }
inline F64 fnma(F64 a, F64 b, F64 c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 fms(F32 a, F32 b, F32 c) { return {_mm256_fmsub_ps(a.v, b.v, c.v)}; }
inline F32 fnma(F32 a, F32 b, F32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }

inline F64 max(F64 a, F64 b) { return {_mm256_max_pd(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {_mm256_min_pd(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }

struct Mask64 {
  __m256d m;
};
struct Mask32 {
  __m256 m;
};
inline Mask64 greater(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask32 greater(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask64 equal(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ)}; }
inline bool any(Mask64 mask) { return _mm256_movemask_pd(mask.m) != 0; }
inline bool any(Mask32 mask) { return _mm256_movemask_ps(mask.m) != 0; }
inline F64 select(Mask64 mask, F64 a, F64 b) { return {_mm256_blendv_pd(b.v, a.v, mask.m)}; }
inline F32 select(Mask32 mask, F32 a, F32 b) { return {_mm256_blendv_ps(b.v, a.v, mask.m)}; }

inline F64 add_bits(F64 a, F64 b) {
  return {
      _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(a.v), _mm256_castpd_si256(b.v)))};
}
inline F64 sub_bits(F64 a, F64 b) {
  return {
      _mm256_castsi256_pd(_mm256_sub_epi64(_mm256_castpd_si256(a.v), _mm256_castpd_si256(b.v)))};
}
inline F32 add_bits(F32 a, F32 b) {
  return {
      _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))};
}
inline F32 sub_bits(F32 a, F32 b) {
  return {
      _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))};
}
inline F64 to_exponent(F64 a) {
  return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a.v), 52))};
}
inline F32 to_exponent(F32 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
}
inline F64 from_exponent(F64 a) {
  return {_mm256_castsi256_pd(_mm256_srli_epi64(_mm256_castpd_si256(a.v), 52))};
}

inline F64 or_bits(F64 a, F64 b, F64 c) { return {_mm256_or_pd(a.v, _mm256_or_pd(b.v, c.v))}; }
inline F32 or_bits(F32 a, F32 b, F32 c) { return {_mm256_or_ps(a.v, _mm256_or_ps(b.v, c.v))}; }
inline bool any_bits_above(F64 a, F64 b) {
  const __m256i above = _mm256_cmpgt_epi64(_mm256_castpd_si256(a.v), _mm256_castpd_si256(b.v));
  return _mm256_movemask_epi8(above) != 0;
}
inline bool any_bits_above(F32 a, F32 b) {
  const __m256i above = _mm256_cmpgt_epi32(_mm256_castps_si256(a.v), _mm256_castps_si256(b.v));
  return _mm256_movemask_epi8(above) != 0;
}

inline void widen(F32 a, F64 (&wide)[2]) {
  wide[0] = {_mm256_cvtps_pd(_mm256_castps256_ps128(a.v))};
  wide[1] = {_mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1))};
}
inline void widen(F64 a, F64 (&wide)[1]) { wide[0] = a; }

inline double largest_lane(F64 a) {
  const __m128d pair = _mm_max_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(pair, _mm_unpackhi_pd(pair, pair)));
}
inline float largest_lane(F32 a) {
  __m128 lanes = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  lanes = _mm_max_ps(lanes, _mm_movehl_ps(lanes, lanes));
  return _mm_cvtss_f32(_mm_max_ss(lanes, _mm_movehdup_ps(lanes)));
}
inline double sum_of_lanes(F64 a) {
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

inline void transpose(F32 (&x)[8]) {
  __m256 y[8];
#pragma GCC unroll 4
  for (size_t i = 0; i < 8; i += 2) {
    y[i] = _mm256_unpacklo_ps(x[i].v, x[i + 1].v);
    y[i + 1] = _mm256_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  __m256 z[8];
#pragma GCC unroll 2
  for (size_t i = 0; i < 8; i += 4) {
    z[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
    z[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
    z[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    z[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) {
    x[i].v = _mm256_permute2f128_ps(z[i], z[i + 4], 0x20);
    x[i + 4].v = _mm256_permute2f128_ps(z[i], z[i + 4], 0x31);
  }
}
inline void transpose(F64 (&x)[4]) {
  const __m256d a = _mm256_unpacklo_pd(x[0].v, x[1].v), b = _mm256_unpackhi_pd(x[0].v, x[1].v);
  const __m256d c = _mm256_unpacklo_pd(x[2].v, x[3].v), d = _mm256_unpackhi_pd(x[2].v, x[3].v);
  x[0].v = _mm256_permute2f128_pd(a, c, 0x20);
  x[1].v = _mm256_permute2f128_pd(b, d, 0x20);
  x[2].v = _mm256_permute2f128_pd(a, c, 0x31);
  x[3].v = _mm256_permute2f128_pd(b, d, 0x31);
}

inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F64 multiply_add(F64 a, F64 b, F64 c) { return fma(a, b, c); }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }

inline F64 fraction(F64 a) { return {_mm256_sub_pd(a.v, _mm256_floor_pd(a.v))}; }
inline F32 fraction(F32 a) { return {_mm256_sub_ps(a.v, _mm256_floor_ps(a.v))}; }
inline F64 times_power(F64 a, F64 b) {
  const __m256d least = _mm256_set1_pd(-1022.0);
  const __m256d n = _mm256_floor_pd(_mm256_max_pd(b.v, least));
  // Adding 2^52 + 2^51 + 1023 leaves n + 1023 in the low bits, which the shift makes a power.
  const __m256i bits = _mm256_castpd_si256(_mm256_add_pd(n, _mm256_set1_pd(0x1.8p52 + 1023)));
  const __m256d power = _mm256_castsi256_pd(_mm256_slli_epi64(bits, 52));
  const __m256d small = _mm256_cmp_pd(b.v, least, _CMP_LT_OQ);
  return {_mm256_andnot_pd(small, _mm256_mul_pd(a.v, power))};
}
inline F32 times_power(F32 a, F32 b) {
  const __m256 least = _mm256_set1_ps(-126.0f);
  const __m256 n = _mm256_floor_ps(_mm256_max_ps(b.v, least));
  const __m256i bits = _mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(0x1.8p23f + 127)));
  const __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23));
  const __m256 small = _mm256_cmp_ps(b.v, least, _CMP_LT_OQ);
  return {_mm256_andnot_ps(small, _mm256_mul_ps(a.v, power))};
}

inline F32 sums_of_lanes(F32 (&x)[8]) {
  transpose(x);
#pragma GCC unroll 3
  for (size_t half = 4; half > 0; half /= 2)
#pragma GCC unroll 4
    for (size_t i = 0; i < half; ++i) x[i] = x[i] + x[i + half];
  return x[0];
}
inline F64 sums_of_lanes(F64 (&x)[4]) {
  transpose(x);
  return (x[0] + x[2]) + (x[1] + x[3]);
}

inline F32 sums_of_pairs(F32 a, F32 b) {
  const __m256d pairs = _mm256_castps_pd(_mm256_hadd_ps(a.v, b.v));  // of halves of a, b, a, b
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xd8))};
}
inline F64 sums_of_pairs(F64 a, F64 b) {
  return {_mm256_permute4x64_pd(_mm256_hadd_pd(a.v, b.v), 0xd8)};
}

// By their bits, for AVX2 does not bring the conversion of F16C along.
inline void load_float16(const std::uint16_t* x, F32& to) {
  const __m256i half = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  const __m256i rest = _mm256_and_si256(half, _mm256_set1_epi32(0x7fff));
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(half, rest), 16);
  const __m256i bias = _mm256_set1_epi32(112 << 23);
  const __m256i infinite = _mm256_cmpgt_epi32(rest, _mm256_set1_epi32(0x7bff));
  __m256i size = _mm256_add_epi32(_mm256_slli_epi32(rest, 13), bias);
  size = _mm256_add_epi32(size, _mm256_and_si256(infinite, bias));
  // Integers below 2^10 are the denormal numbers, in units of 2^-24.
  const __m256 small = _mm256_mul_ps(_mm256_cvtepi32_ps(rest), _mm256_set1_ps(0x1p-24f));
  const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x400), rest);
  size = _mm256_blendv_epi8(size, _mm256_castps_si256(small), is_small);
  to = {_mm256_castsi256_ps(_mm256_or_si256(size, sign))};
}
inline void store_float16(F32 a, std::uint16_t* x) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i sign = _mm256_srli_epi32(_mm256_xor_si256(bits, size), 16);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(size, 13), _mm256_set1_epi32(1));
  __m256i half = _mm256_add_epi32(size, _mm256_set1_epi32(0xfff - (112 << 23)));
  half = _mm256_srli_epi32(_mm256_add_epi32(half, odd), 13);
  // Below 2^-14: adding 1/2 leaves units of 2^-24 in the low bits.
  const __m256 shifted = _mm256_add_ps(_mm256_castsi256_ps(size), _mm256_set1_ps(0.5f));
  const __m256i small =
      _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x3f000000));
  const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x38800000), size);
  half = _mm256_blendv_epi8(half, small, is_small);
  const __m256i is_large = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x477fefff));
  half = _mm256_blendv_epi8(half, _mm256_set1_epi32(0x7c00), is_large);
  const __m256i is_nan = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7f800000));
  half = _mm256_or_si256(half, _mm256_and_si256(is_nan, _mm256_set1_epi32(0x0200)));
  half = _mm256_or_si256(half, sign);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(x),
      _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

}  // namespace
}  // namespace logitkit::avx2
