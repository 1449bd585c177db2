// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx512.h"

#include "sum_exp/make_loops.h"

namespace logitkit::avx512 {

const AllSumExpLoops sum_exp_loops = make_loops<F32, F64>();

}  // namespace logitkit::avx512
