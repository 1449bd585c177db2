// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx512.h"

#include "noise_argmax/make_loops.h"

namespace logitkit::avx512 {

const NoiseLoops noise_loops = make_loops<F64>();

}  // namespace logitkit::avx512
