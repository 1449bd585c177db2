// exp2() beside products of bfloat16. Include only from files with such.
#pragma once

#include <cstddef>

#include "simd/avx512.h"
#include "simd/exp2.h"

namespace logitkit::avx512 {
namespace {

/// The same as Exp2Constants with a term less: powers are within 2.4 instead of 1.1 times 2^-24,
/// and each multiply-add costs where tile registers leave one port for them.
struct ShortExp2Constants {
  static constexpr float c[5] = {0x1.62e4bap-1f, 0x1.ebdb5ap-3f, 0x1.c91ce4p-5f, 0x1.277856p-7f,
                                 0x1.e974fap-10f};
};

/// exp2() of several vectors where denormal results are flushed: these processors are not slow
/// then. The steps of all come in turn, for the processor does not see far enough ahead to find
/// others among those of one.
template <class Constants = Exp2Constants<float>, size_t n>
[[gnu::always_inline]] inline void exp2_flushed(F32 (&x)[n]) {
  constexpr size_t terms = sizeof(Constants::c) / sizeof(Constants::c[0]);
  F32 r[n], p[n];
#pragma GCC unroll 8
  for (size_t i = 0; i < n; ++i) r[i] = fraction(x[i]), p[i] = F32::all(Constants::c[terms - 1]);
#pragma GCC unroll 5
  for (size_t k = terms - 1; k > 0; --k)
#pragma GCC unroll 8
    for (size_t i = 0; i < n; ++i) p[i] = fma(p[i], r[i], F32::all(Constants::c[k - 1]));
#pragma GCC unroll 8
  for (size_t i = 0; i < n; ++i) {
    p[i] = fma(p[i], r[i], F32::all(1));
    x[i].v = _mm512_scalef_ps(p[i].v, x[i].v);
  }
}

inline F32 exp2_flushed(F32 x) {
  F32 one[1] = {x};
  exp2_flushed(one);
  return one[0];
}

}  // namespace
}  // namespace logitkit::avx512
