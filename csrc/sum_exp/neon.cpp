// For 64-bit Arm: intrinsics and our own headers only, as in avx2.cpp and avx512.cpp.
#include "simd/neon.h"

#include "sum_exp/make_loops.h"

namespace logitkit::neon {

const AllSumExpLoops sum_exp_loops = make_loops<F32, F64>();

}  // namespace logitkit::neon
