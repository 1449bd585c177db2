// exp2() beside tile registers. Include only from amx.cpp files and their like.
#pragma once

#include <cstddef>

#include "simd/amx.h"
#include "simd/exp2.h"

namespace logitkit::amx {
namespace {

/// exp2() of several vectors where denormal results are flushed: these processors are not slow
/// then. The steps of all come in turn, for the processor does not see far enough ahead to find
/// others among those of one.
template <size_t n>
[[gnu::always_inline]] inline void exp2_flushed(F32 (&x)[n]) {
  using C = Exp2Constants<float>;
  F32 r[n], p[n];
#pragma GCC unroll 8
  for (size_t i = 0; i < n; ++i) r[i] = fraction(x[i]), p[i] = F32::all(C::c[5]);
#pragma GCC unroll 5
  for (size_t k = 5; k > 0; --k)
#pragma GCC unroll 8
    for (size_t i = 0; i < n; ++i) p[i] = fma(p[i], r[i], F32::all(C::c[k - 1]));
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
}  // namespace logitkit::amx
