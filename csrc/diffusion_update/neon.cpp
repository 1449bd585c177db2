// For 64-bit Arm: intrinsics and our own headers only, as in avx2.cpp and avx512.cpp.
#include "random/words_neon.h"

#include "diffusion_update/make_loops.h"

namespace logitkit::neon {

const AllUpdateLoops update_loops = make_update_loops<F32, F64>();

}  // namespace logitkit::neon
