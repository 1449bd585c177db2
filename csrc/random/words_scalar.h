// One integer, for any processor: what random numbers need beside simd/scalar.h;
// words_avx512.h says what the operations are.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd/scalar.h"

namespace logitkit::scalar {
namespace {

template <class Integer>
struct Word {
  static Word all(Integer a) { return {a}; }
  static Word counting(Integer first, Integer) { return {first}; }
  template <int n>
  Word left() const {
    return {v << n};
  }
  template <int n>
  Word right() const {
    return {v >> n};
  }
  Word sign() const { return {v >> (8 * sizeof v - 1) != 0 ? ~Integer{0} : Integer{0}}; }
  void store(Integer* x) const { *x = v; }
  friend Word operator^(Word a, Word b) { return {a.v ^ b.v}; }
  friend Word operator&(Word a, Word b) { return {a.v & b.v}; }
  friend Word operator|(Word a, Word b) { return {a.v | b.v}; }
  friend Word operator+(Word a, Word b) { return {a.v + b.v}; }
  friend Word operator-(Word a, Word b) { return {a.v - b.v}; }
  Integer v;
};
using U64 = Word<std::uint64_t>;
using U32 = Word<std::uint32_t>;

inline U64 multiply_low(U64 a, U64 b) { return {(a.v & 0xffffffffu) * (b.v & 0xffffffffu)}; }
inline U64 merge_low(U64 a, U64 b) { return {(a.v & 0xffffffffu) | b.v << 32}; }
inline void merge_low(const U64 (&x)[1], U32& merged) {
  merged.v = static_cast<std::uint32_t>(x[0].v);
}

inline F64 to_float(U64 a) { return {static_cast<double>(static_cast<std::int64_t>(a.v))}; }
inline F32 to_float(U32 a) { return {static_cast<float>(static_cast<std::int32_t>(a.v))}; }

inline F64 as_float(U64 a) { return {from_bits<double>(a.v)}; }
inline F32 as_float(U32 a) { return {from_bits<float>(a.v)}; }
inline U64 as_words(F64 a) { return {bits_of<std::uint64_t>(a.v)}; }
inline U32 as_words(F32 a) { return {bits_of<std::uint32_t>(a.v)}; }

inline F64 select_signed(U64 choice, F64 a, F64 b) { return choice.v >> 63 != 0 ? a : b; }
inline F32 select_signed(U32 choice, F32 a, F32 b) { return choice.v >> 31 != 0 ? a : b; }

inline F64 sqrt(F64 a) { return {std::sqrt(a.v)}; }
inline F32 sqrt(F32 a) { return {std::sqrt(a.v)}; }

inline void zip(F64 a, F64 b, F64& first, F64& second) {
  first = a;
  second = b;
}
inline void zip(F32 a, F32 b, F32& first, F32& second) {
  first = a;
  second = b;
}

inline void stream(F64 a, double* x) { *x = a.v; }
inline void stream(F32 a, float* x) { *x = a.v; }
template <class V>
inline void end_stream(V) {}

}  // namespace
}  // namespace logitkit::scalar
