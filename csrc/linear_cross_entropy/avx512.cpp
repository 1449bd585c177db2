// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx512.h"

#include "linear_cross_entropy/make_loops.h"

namespace logitkit::avx512 {

const AllLayerLossLoops layer_loss_loops = make_loops<F32, F64, 8>();

}  // namespace logitkit::avx512
