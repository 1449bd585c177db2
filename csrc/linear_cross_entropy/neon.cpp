// For 64-bit Arm: intrinsics and our own headers only, as in avx2.cpp and avx512.cpp.
#include "simd/neon.h"

#include "linear_cross_entropy/make_loops.h"

namespace logitkit::neon {

const AllLayerLossLoops layer_loss_loops = make_loops<F32, F64, 8>();

}  // namespace logitkit::neon
