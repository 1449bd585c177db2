// For 64-bit Arm: intrinsics and our own headers only, as in avx2.cpp and avx512.cpp.
#include "random/words_neon.h"

#include "random/make_loops.h"

namespace logitkit::neon {

const AllRandomLoops random_loops = make_random_loops<F32, F64>();

}  // namespace logitkit::neon
