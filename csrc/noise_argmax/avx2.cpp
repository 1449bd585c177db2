// Compiled with -mavx2 -mfma: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx2.h"

#include "noise_argmax/make_loops.h"

namespace logitkit::avx2 {

const NoiseLoops noise_loops = make_loops<F64>();

}  // namespace logitkit::avx2
