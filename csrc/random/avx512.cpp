// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include "random/words_avx512.h"

#include "random/make_loops.h"

namespace logitkit::avx512 {

const AllRandomLoops random_loops = make_random_loops<F32, F64>();

}  // namespace logitkit::avx512
