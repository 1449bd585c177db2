// Vectors of one float or double, for any processor; avx512.h says what the operations are.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace logitkit::scalar {
namespace {

using std::size_t;

template <class Integer, class Float>
inline Integer bits_of(Float a) {
  Integer bits;
  std::memcpy(&bits, &a, sizeof bits);
  return bits;
}
template <class Float, class Integer>
inline Float from_bits(Integer bits) {
  Float a;
  std::memcpy(&a, &bits, sizeof a);
  return a;
}

struct F64 {
  using Element = double;
  using Wide = F64;
  static constexpr size_t width = 1;
  static constexpr int root_bits = 4, coarse_root_bits = 4;
  static F64 look_up(const double (&table)[16], F64 index) {
    return {table[bits_of<std::uint64_t>(index.v) & 15]};
  }
  /// The integer of a, a number of steps of 2^(1 / 2^bits), where the exponent stands.
  template <int bits>
  static F64 steps_to_exponent(F64 a) {
    return {from_bits<double>(bits_of<std::uint64_t>(a.v) << (52 - bits))};
  }
  static F64 all(double a) { return {a}; }
  static F64 load(const double* x) { return {*x}; }
  static F64 load(const float* x) { return {double{*x}}; }
  template <class T>
  static F64 load_first(const T* x, size_t n, F64 rest) {
    return n > 0 ? load(x) : rest;
  }
  static F64 narrow(const F64 (&wide)[1]) { return wide[0]; }
  template <size_t n>
  static F64 repeat(const double* x) {
    return load(x);
  }
  void store(double* x) const { *x = v; }
  void stream(double* x) const { store(x); }
  static void fence() {}
  void store_first(double* x, size_t n) const {
    if (n > 0) *x = v;
  }
  double v;
};

struct F32 {
  using Element = float;
  using Wide = F64;
  static constexpr size_t width = 1;
  static constexpr int root_bits = 4, coarse_root_bits = 4;
  static F32 look_up(const float (&table)[16], F32 index) {
    return {table[bits_of<std::uint32_t>(index.v) & 15]};
  }
  template <int bits>
  static F32 steps_to_exponent(F32 a) {
    return {from_bits<float>(bits_of<std::uint32_t>(a.v) << (23 - bits))};
  }
  static F32 all(float a) { return {a}; }
  static F32 load(const float* x) { return {*x}; }
  static F32 load_first(const float* x, size_t n, F32 rest) { return n > 0 ? load(x) : rest; }
  static F32 narrow(const F64 (&wide)[1]) { return {static_cast<float>(wide[0].v)}; }
  template <size_t n>
  static F32 repeat(const float* x) {
    return load(x);
  }
  void store(float* x) const { *x = v; }
  void stream(float* x) const { store(x); }
  static void fence() {}
  void store_first(float* x, size_t n) const {
    if (n > 0) *x = v;
  }
  float v;
};

inline F64 operator+(F64 a, F64 b) { return {a.v + b.v}; }
inline F64 operator-(F64 a, F64 b) { return {a.v - b.v}; }
inline F64 operator*(F64 a, F64 b) { return {a.v * b.v}; }
inline F64 operator/(F64 a, F64 b) { return {a.v / b.v}; }
inline F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
inline F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
inline F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }

inline F64 fma(F64 a, F64 b, F64 c) { return {std::fma(a.v, b.v, c.v)}; }
inline F64 fms(F64 a, F64 b, F64 c) { return {std::fma(a.v, b.v, -c.v)}; }
inline F64 fnma(F64 a, F64 b, F64 c) { return {std::fma(-a.v, b.v, c.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {std::fma(a.v, b.v, c.v)}; }
inline F32 fms(F32 a, F32 b, F32 c) { return {std::fma(a.v, b.v, -c.v)}; }
inline F32 fnma(F32 a, F32 b, F32 c) { return {std::fma(-a.v, b.v, c.v)}; }

inline F64 max(F64 a, F64 b) { return a.v > b.v ? a : b; }
inline F32 max(F32 a, F32 b) { return a.v > b.v ? a : b; }
inline F64 min(F64 a, F64 b) { return a.v < b.v ? a : b; }
inline F32 min(F32 a, F32 b) { return a.v < b.v ? a : b; }

struct Mask {
  bool m;
};
inline Mask greater(F64 a, F64 b) { return {a.v > b.v}; }
inline Mask greater(F32 a, F32 b) { return {a.v > b.v}; }
inline Mask equal(F64 a, F64 b) { return {a.v == b.v}; }
inline bool any(Mask mask) { return mask.m; }
inline F64 select(Mask mask, F64 a, F64 b) { return mask.m ? a : b; }
inline F32 select(Mask mask, F32 a, F32 b) { return mask.m ? a : b; }

inline F64 add_bits(F64 a, F64 b) {
  return {from_bits<double>(bits_of<std::uint64_t>(a.v) + bits_of<std::uint64_t>(b.v))};
}
inline F64 sub_bits(F64 a, F64 b) {
  return {from_bits<double>(bits_of<std::uint64_t>(a.v) - bits_of<std::uint64_t>(b.v))};
}
inline F32 add_bits(F32 a, F32 b) {
  return {from_bits<float>(bits_of<std::uint32_t>(a.v) + bits_of<std::uint32_t>(b.v))};
}
inline F32 sub_bits(F32 a, F32 b) {
  return {from_bits<float>(bits_of<std::uint32_t>(a.v) - bits_of<std::uint32_t>(b.v))};
}
inline F64 to_exponent(F64 a) { return {from_bits<double>(bits_of<std::uint64_t>(a.v) << 52)}; }
inline F32 to_exponent(F32 a) { return {from_bits<float>(bits_of<std::uint32_t>(a.v) << 23)}; }
inline F64 from_exponent(F64 a) { return {from_bits<double>(bits_of<std::uint64_t>(a.v) >> 52)}; }

inline F64 or_bits(F64 a, F64 b, F64 c) {
  return {from_bits<double>(bits_of<std::uint64_t>(a.v) | bits_of<std::uint64_t>(b.v) |
                            bits_of<std::uint64_t>(c.v))};
}
inline F32 or_bits(F32 a, F32 b, F32 c) {
  return {from_bits<float>(bits_of<std::uint32_t>(a.v) | bits_of<std::uint32_t>(b.v) |
                           bits_of<std::uint32_t>(c.v))};
}
inline bool any_bits_above(F64 a, F64 b) {
  return bits_of<std::int64_t>(a.v) > bits_of<std::int64_t>(b.v);
}
inline bool any_bits_above(F32 a, F32 b) {
  return bits_of<std::int32_t>(a.v) > bits_of<std::int32_t>(b.v);
}

inline void widen(F32 a, F64 (&wide)[1]) { wide[0] = {double{a.v}}; }
inline void widen(F64 a, F64 (&wide)[1]) { wide[0] = a; }

inline float largest_lane(F32 a) { return a.v; }
inline double largest_lane(F64 a) { return a.v; }
inline double sum_of_lanes(F64 a) { return a.v; }

inline void transpose(F32 (&)[1]) {}
inline void transpose(F64 (&)[1]) {}

inline F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
inline F64 multiply_add(F64 a, F64 b, F64 c) { return {a.v * b.v + c.v}; }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }

inline F64 fraction(F64 a) { return {a.v - std::floor(a.v)}; }
inline F32 fraction(F32 a) { return {a.v - std::floor(a.v)}; }
inline F64 times_power(F64 a, F64 b) {
  if (b.v < -1022.0) return {0.0};
  const double n = std::floor(b.v == b.v ? b.v : 0.0) + 1023.0;
  return {a.v * from_bits<double>(static_cast<std::uint64_t>(n) << 52)};
}
inline F32 times_power(F32 a, F32 b) {
  if (b.v < -126.0f) return {0.0f};
  const float n = std::floor(b.v == b.v ? b.v : 0.0f) + 127.0f;
  return {a.v * from_bits<float>(static_cast<std::uint32_t>(n) << 23)};
}

inline F32 sums_of_lanes(F32 (&x)[1]) { return x[0]; }
inline F64 sums_of_lanes(F64 (&x)[1]) { return x[0]; }

inline void load_float16(const std::uint16_t* x, F32& to) {
  const std::uint32_t sign = (*x & 0x8000u) << 16, rest = *x & 0x7fffu;
  // Integers below 2^10 are the denormal numbers, in units of 2^-24.
  const float small = static_cast<float>(rest) * 0x1p-24f;
  const std::uint32_t bias = rest >= 0x7c00u ? 224u : 112u;  // infinities and NaN stay so
  const std::uint32_t size =
      rest < 0x400u ? bits_of<std::uint32_t>(small) : (rest << 13) + (bias << 23);
  to = {from_bits<float>(size | sign)};
}
inline void store_float16(F32 a, std::uint16_t* x) {
  const auto bits = bits_of<std::uint32_t>(a.v);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
  std::uint32_t half = (size - (112u << 23) + 0xfffu + ((size >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 1/2 leaves units of 2^-24 in the low bits.
  if (size < 0x38800000u)
    half = bits_of<std::uint32_t>(from_bits<float>(size) + 0.5f) - 0x3f000000u;
  if (size >= 0x477ff000u) half = 0x7c00u;  // 65520 and above
  if (size > 0x7f800000u) half = 0x7e00u;
  *x = static_cast<std::uint16_t>(half | sign);
}

}  // namespace
}  // namespace logitkit::scalar
