// Compiled with -mavx2 -mfma: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx2.h"

#include "cross_entropy/make_loops.h"

namespace logitkit::avx2 {

const AllCrossEntropyLoops cross_entropy_loops = make_loops<F32, F64>();

}  // namespace logitkit::avx2
