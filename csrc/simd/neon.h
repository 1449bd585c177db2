// Vectors of floats and doubles for 64-bit NEON; avx512.h says what the operations are.
// Include only from neon.cpp files.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace logitkit::neon {
namespace {

using std::size_t;

struct F64 {
  using Element = double;
  using Wide = F64;
  static constexpr size_t width = 2;
  static constexpr int root_bits = 4, coarse_root_bits = 4;
  static F64 look_up(const double (&table)[16], F64 index) {
    const uint64x2_t i = vandq_u64(vreinterpretq_u64_f64(index.v), vdupq_n_u64(15));
    const float64x2_t low = vld1q_dup_f64(table + vgetq_lane_u64(i, 0));
    return {vld1q_lane_f64(table + vgetq_lane_u64(i, 1), low, 1)};
  }
  /// The integer of a, a number of steps of 2^(1 / 2^bits), where the exponent stands.
  template <int bits>
  static F64 steps_to_exponent(F64 a) {
    return {vreinterpretq_f64_s64(vshlq_n_s64(vreinterpretq_s64_f64(a.v), 52 - bits))};
  }
  static F64 all(double a) { return {vdupq_n_f64(a)}; }
  static F64 load(const double* x) { return {vld1q_f64(x)}; }
  static F64 load(const float* x) { return {vcvt_f64_f32(vld1_f32(x))}; }
  // NEON has no masked load.
  template <class T>
  static F64 load_first(const T* x, size_t n, F64 rest) {
    double lanes[2];
    vst1q_f64(lanes, rest.v);
    for (size_t i = 0; i < n; ++i) lanes[i] = double{x[i]};
    return {vld1q_f64(lanes)};
  }
  static F64 narrow(const F64 (&wide)[1]) { return wide[0]; }
  template <size_t n>
  static F64 repeat(const double* x) {
    if constexpr (n == 1) return all(*x);
    if constexpr (n == 2) return load(x);
  }
  void store(double* x) const { vst1q_f64(x, v); }
  void stream(double* x) const { store(x); }
  static void fence() {}
  void store_first(double* x, size_t n) const {
    double lanes[2];
    vst1q_f64(lanes, v);
    for (size_t i = 0; i < n; ++i) x[i] = lanes[i];
  }
  float64x2_t v;
};

struct F32 {
  using Element = float;
  using Wide = F64;
  static constexpr size_t width = 4;
  static constexpr int root_bits = 4, coarse_root_bits = 4;
  static F32 look_up(const float (&table)[16], F32 index) {
    // By bytes: element i has the bytes 4 i, 4 i + 1, 4 i + 2, 4 i + 3.
    const uint32x4_t i = vandq_u32(vreinterpretq_u32_f32(index.v), vdupq_n_u32(15));
    const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100), i, 0x04040404);
    const uint8x16x4_t of_table = {
        {bytes_of(table), bytes_of(table + 4), bytes_of(table + 8), bytes_of(table + 12)}};
    return {vreinterpretq_f32_u8(vqtbl4q_u8(of_table, vreinterpretq_u8_u32(bytes)))};
  }
  static uint8x16_t bytes_of(const float* x) { return vreinterpretq_u8_f32(vld1q_f32(x)); }
  template <int bits>
  static F32 steps_to_exponent(F32 a) {
    return {vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(a.v), 23 - bits))};
  }
  static F32 all(float a) { return {vdupq_n_f32(a)}; }
  static F32 load(const float* x) { return {vld1q_f32(x)}; }
  static F32 load_first(const float* x, size_t n, F32 rest) {
    float lanes[4];
    vst1q_f32(lanes, rest.v);
    for (size_t i = 0; i < n; ++i) lanes[i] = x[i];
    return {vld1q_f32(lanes)};
  }
  static F32 narrow(const F64 (&wide)[2]) {
    return {vcvt_high_f32_f64(vcvt_f32_f64(wide[0].v), wide[1].v)};
  }
  template <size_t n>
  static F32 repeat(const float* x) {
    if constexpr (n == 1) return all(*x);
    if constexpr (n == 2) {
      const float32x2_t pair = vld1_f32(x);
      return {vcombine_f32(pair, pair)};
    }
    if constexpr (n == 4) return load(x);
  }
  void store(float* x) const { vst1q_f32(x, v); }
  void stream(float* x) const { store(x); }
  static void fence() {}
  void store_first(float* x, size_t n) const {
    float lanes[4];
    vst1q_f32(lanes, v);
    for (size_t i = 0; i < n; ++i) x[i] = lanes[i];
  }
  float32x4_t v;
};

inline F64 operator+(F64 a, F64 b) { return {vaddq_f64(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {vsubq_f64(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {vmulq_f64(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {vdivq_f64(a.v, b.v)}; }
inline F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }

inline F64 fma(F64 a, F64 b, F64 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
inline F64 fms(F64 a, F64 b, F64 c) { return {vnegq_f64(vfmsq_f64(c.v, a.v, b.v))}; }
inline F64 fnma(F64 a, F64 b, F64 c) { return {vfmsq_f64(c.v, a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline F32 fms(F32 a, F32 b, F32 c) { return {vnegq_f32(vfmsq_f32(c.v, a.v, b.v))}; }
inline F32 fnma(F32 a, F32 b, F32 c) { return {vfmsq_f32(c.v, a.v, b.v)}; }

// A NaN here if either is one.
inline F64 max(F64 a, F64 b) { return {vmaxq_f64(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {vmaxq_f32(a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {vminq_f64(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {vminq_f32(a.v, b.v)}; }

struct Mask64 {
  uint64x2_t m;
};
struct Mask32 {
  uint32x4_t m;
};
inline Mask64 greater(F64 a, F64 b) { return {vcgtq_f64(a.v, b.v)}; }
inline Mask32 greater(F32 a, F32 b) { return {vcgtq_f32(a.v, b.v)}; }
inline Mask64 equal(F64 a, F64 b) { return {vceqq_f64(a.v, b.v)}; }
inline bool any(Mask64 mask) { return vmaxvq_u32(vreinterpretq_u32_u64(mask.m)) != 0; }
inline bool any(Mask32 mask) { return vmaxvq_u32(mask.m) != 0; }
inline F64 select(Mask64 mask, F64 a, F64 b) { return {vbslq_f64(mask.m, a.v, b.v)}; }
inline F32 select(Mask32 mask, F32 a, F32 b) { return {vbslq_f32(mask.m, a.v, b.v)}; }

inline F64 add_bits(F64 a, F64 b) {
  return {vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(a.v), vreinterpretq_s64_f64(b.v)))};
}
inline F64 sub_bits(F64 a, F64 b) {
  return {vreinterpretq_f64_s64(vsubq_s64(vreinterpretq_s64_f64(a.v), vreinterpretq_s64_f64(b.v)))};
}
inline F32 add_bits(F32 a, F32 b) {
  return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.v), vreinterpretq_s32_f32(b.v)))};
}
inline F32 sub_bits(F32 a, F32 b) {
  return {vreinterpretq_f32_s32(vsubq_s32(vreinterpretq_s32_f32(a.v), vreinterpretq_s32_f32(b.v)))};
}
inline F64 to_exponent(F64 a) {
  return {vreinterpretq_f64_s64(vshlq_n_s64(vreinterpretq_s64_f64(a.v), 52))};
}
inline F32 to_exponent(F32 a) {
  return {vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(a.v), 23))};
}
inline F64 from_exponent(F64 a) {
  return {vreinterpretq_f64_u64(vshrq_n_u64(vreinterpretq_u64_f64(a.v), 52))};
}

inline F64 or_bits(F64 a, F64 b, F64 c) {
  return {vreinterpretq_f64_u64(
      vorrq_u64(vreinterpretq_u64_f64(a.v),
                vorrq_u64(vreinterpretq_u64_f64(b.v), vreinterpretq_u64_f64(c.v))))};
}
inline F32 or_bits(F32 a, F32 b, F32 c) {
  return {vreinterpretq_f32_u32(
      vorrq_u32(vreinterpretq_u32_f32(a.v),
                vorrq_u32(vreinterpretq_u32_f32(b.v), vreinterpretq_u32_f32(c.v))))};
}
inline bool any_bits_above(F64 a, F64 b) {
  return any(Mask64{vcgtq_s64(vreinterpretq_s64_f64(a.v), vreinterpretq_s64_f64(b.v))});
}
inline bool any_bits_above(F32 a, F32 b) {
  return any(Mask32{vcgtq_s32(vreinterpretq_s32_f32(a.v), vreinterpretq_s32_f32(b.v))});
}

inline void widen(F32 a, F64 (&wide)[2]) {
  wide[0] = {vcvt_f64_f32(vget_low_f32(a.v))};
  wide[1] = {vcvt_high_f64_f32(a.v)};
}
inline void widen(F64 a, F64 (&wide)[1]) { wide[0] = a; }

inline float largest_lane(F32 a) { return vmaxvq_f32(a.v); }
inline double largest_lane(F64 a) { return vmaxvq_f64(a.v); }
inline double sum_of_lanes(F64 a) { return vaddvq_f64(a.v); }

inline void transpose(F32 (&x)[4]) {
  const float32x4_t a = vzip1q_f32(x[0].v, x[2].v), b = vzip2q_f32(x[0].v, x[2].v);
  const float32x4_t c = vzip1q_f32(x[1].v, x[3].v), d = vzip2q_f32(x[1].v, x[3].v);
  x[0].v = vzip1q_f32(a, c);
  x[1].v = vzip2q_f32(a, c);
  x[2].v = vzip1q_f32(b, d);
  x[3].v = vzip2q_f32(b, d);
}
inline void transpose(F64 (&x)[2]) {
  const float64x2_t first = vzip1q_f64(x[0].v, x[1].v);
  x[1].v = vzip2q_f64(x[0].v, x[1].v);
  x[0].v = first;
}

inline F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
inline F64 multiply_add(F64 a, F64 b, F64 c) { return fma(a, b, c); }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }

inline F64 fraction(F64 a) { return {vsubq_f64(a.v, vrndmq_f64(a.v))}; }
inline F32 fraction(F32 a) { return {vsubq_f32(a.v, vrndmq_f32(a.v))}; }
inline F64 times_power(F64 a, F64 b) {
  const float64x2_t least = vdupq_n_f64(-1022.0);
  const int64x2_t n = vcvtmq_s64_f64(vmaxq_f64(b.v, least));
  const int64x2_t bits = vshlq_n_s64(vaddq_s64(n, vdupq_n_s64(1023)), 52);
  const uint64x2_t small = vcltq_f64(b.v, least);
  const float64x2_t product = vmulq_f64(a.v, vreinterpretq_f64_s64(bits));
  return {vbslq_f64(small, vdupq_n_f64(0.0), product)};
}
inline F32 times_power(F32 a, F32 b) {
  const float32x4_t least = vdupq_n_f32(-126.0f);
  const int32x4_t n = vcvtmq_s32_f32(vmaxq_f32(b.v, least));
  const int32x4_t bits = vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23);
  const uint32x4_t small = vcltq_f32(b.v, least);
  const float32x4_t product = vmulq_f32(a.v, vreinterpretq_f32_s32(bits));
  return {vbslq_f32(small, vdupq_n_f32(0.0f), product)};
}

inline F32 sums_of_lanes(F32 (&x)[4]) {
  transpose(x);
  return (x[0] + x[2]) + (x[1] + x[3]);
}
inline F64 sums_of_lanes(F64 (&x)[2]) {
  transpose(x);
  return x[0] + x[1];
}

inline F32 sums_of_pairs(F32 a, F32 b) { return {vpaddq_f32(a.v, b.v)}; }
inline F64 sums_of_pairs(F64 a, F64 b) { return {vpaddq_f64(a.v, b.v)}; }

inline void load_float16(const std::uint16_t* x, F32& to) {
  to = {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x)))};
}
inline void store_float16(F32 a, std::uint16_t* x) {
  vst1_u16(x, vreinterpret_u16_f16(vcvt_f16_f32(a.v)));
}

}  // namespace
}  // namespace logitkit::neon
