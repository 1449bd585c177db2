// float as the sum of two tf32, floats of 11 significant bits, which tensor cores multiply.
#pragma once

#include <cuda_runtime.h>

namespace logitkit::cuda {

/// The bits of x as those of high + low: high is the nearest tf32, and of low, which is exact, the
/// tensor cores do not read the last bits. Of NaN and of an infinite number low is NaN; x is below
/// 2^127 otherwise.
__device__ inline void split(unsigned x, unsigned& high, unsigned& low) {
  high = (x + 0x1000u) & ~0x1fffu;
  low = __float_as_uint(__uint_as_float(x) - __uint_as_float(high));
}

}  // namespace logitkit::cuda
