// Compiled with -mavx2 -mfma: intrinsics and our own headers only (see the note in isa.h).
#include "random/words_avx2.h"

#include "random/make_loops.h"

namespace logitkit::avx2 {

const AllRandomLoops random_loops = make_random_loops<F32, F64>();

}  // namespace logitkit::avx2
