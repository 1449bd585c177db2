// Vectors of integers for 64-bit NEON: what random numbers need beside simd/neon.h;
// words_avx512.h says what the operations are. Include only from neon.cpp files.
#pragma once

#include <cstdint>

#include "simd/neon.h"

namespace logitkit::neon {
namespace {

struct U64 {
  static U64 all(std::uint64_t a) { return {vdupq_n_u64(a)}; }
  static U64 counting(std::uint64_t first, std::uint64_t step) {
    return {vcombine_u64(vcreate_u64(first), vcreate_u64(first + step))};
  }
  template <int n>
  U64 left() const {
    return {vshlq_n_u64(v, n)};
  }
  template <int n>
  U64 right() const {
    return {vshrq_n_u64(v, n)};
  }
  U64 sign() const { return {vreinterpretq_u64_s64(vshrq_n_s64(vreinterpretq_s64_u64(v), 63))}; }
  void store(std::uint64_t* x) const { vst1q_u64(x, v); }
  uint64x2_t v;
};

struct U32 {
  static U32 all(std::uint32_t a) { return {vdupq_n_u32(a)}; }
  template <int n>
  U32 left() const {
    return {vshlq_n_u32(v, n)};
  }
  template <int n>
  U32 right() const {
    return {vshrq_n_u32(v, n)};
  }
  U32 sign() const { return {vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(v), 31))}; }
  void store(std::uint32_t* x) const { vst1q_u32(x, v); }
  uint32x4_t v;
};

inline U64 operator^(U64 a, U64 b) { return {veorq_u64(a.v, b.v)}; }
inline U32 operator^(U32 a, U32 b) { return {veorq_u32(a.v, b.v)}; }
inline U64 operator&(U64 a, U64 b) { return {vandq_u64(a.v, b.v)}; }
inline U32 operator&(U32 a, U32 b) { return {vandq_u32(a.v, b.v)}; }
inline U64 operator|(U64 a, U64 b) { return {vorrq_u64(a.v, b.v)}; }
inline U32 operator|(U32 a, U32 b) { return {vorrq_u32(a.v, b.v)}; }
inline U64 operator+(U64 a, U64 b) { return {vaddq_u64(a.v, b.v)}; }
inline U32 operator+(U32 a, U32 b) { return {vaddq_u32(a.v, b.v)}; }
inline U64 operator-(U64 a, U64 b) { return {vsubq_u64(a.v, b.v)}; }
inline U32 operator-(U32 a, U32 b) { return {vsubq_u32(a.v, b.v)}; }

inline U64 multiply_low(U64 a, U64 b) { return {vmull_u32(vmovn_u64(a.v), vmovn_u64(b.v))}; }
inline U64 merge_low(U64 a, U64 b) { return {vsliq_n_u64(a.v, b.v, 32)}; }
inline void merge_low(const U64 (&x)[2], U32& merged) {
  merged.v = vreinterpretq_u32_u64(merge_low(x[0], x[1]).v);
}

inline F64 to_float(U64 a) { return {vcvtq_f64_s64(vreinterpretq_s64_u64(a.v))}; }
inline F32 to_float(U32 a) { return {vcvtq_f32_s32(vreinterpretq_s32_u32(a.v))}; }

inline F64 as_float(U64 a) { return {vreinterpretq_f64_u64(a.v)}; }
inline F32 as_float(U32 a) { return {vreinterpretq_f32_u32(a.v)}; }
inline U64 as_words(F64 a) { return {vreinterpretq_u64_f64(a.v)}; }
inline U32 as_words(F32 a) { return {vreinterpretq_u32_f32(a.v)}; }

inline F64 select_signed(U64 choice, F64 a, F64 b) {
  return {vbslq_f64(choice.sign().v, a.v, b.v)};
}
inline F32 select_signed(U32 choice, F32 a, F32 b) {
  return {vbslq_f32(choice.sign().v, a.v, b.v)};
}

inline F64 sqrt(F64 a) { return {vsqrtq_f64(a.v)}; }
inline F32 sqrt(F32 a) { return {vsqrtq_f32(a.v)}; }

inline void zip(F64 a, F64 b, F64& first, F64& second) {
  first = {vzip1q_f64(a.v, b.v)};
  second = {vzip2q_f64(a.v, b.v)};
}
inline void zip(F32 a, F32 b, F32& first, F32& second) {
  first = {vzip1q_f32(a.v, b.v)};
  second = {vzip2q_f32(a.v, b.v)};
}

// Plain: there is no intrinsic for stores around the caches.
inline void stream(F64 a, double* x) { a.store(x); }
inline void stream(F32 a, float* x) { a.store(x); }
template <class V>
inline void end_stream(V) {}

}  // namespace
}  // namespace logitkit::neon
