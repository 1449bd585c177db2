// Compiled with -mavx2 -mfma: intrinsics and our own headers only (see the note in isa.h).
#include "random/words_avx2.h"

#include "diffusion_update/make_loops.h"

namespace logitkit::avx2 {

const AllUpdateLoops update_loops = make_update_loops<F32, F64>();

}  // namespace logitkit::avx2
