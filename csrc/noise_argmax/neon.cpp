// For 64-bit Arm: intrinsics and our own headers only, as in avx2.cpp and avx512.cpp.
#include "simd/neon.h"

#include "noise_argmax/make_loops.h"

namespace logitkit::neon {

const NoiseLoops noise_loops = make_loops<F64>();

}  // namespace logitkit::neon
