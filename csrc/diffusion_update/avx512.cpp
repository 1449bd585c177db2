// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include "random/words_avx512.h"

#include "diffusion_update/make_loops.h"

namespace logitkit::avx512 {

const AllUpdateLoops update_loops = make_update_loops<F32, F64>();

}  // namespace logitkit::avx512
