// For any processor.
#include "random/words_scalar.h"

#include "random/make_loops.h"

namespace logitkit::scalar {

const AllRandomLoops random_loops = make_random_loops<F32, F64>();

}  // namespace logitkit::scalar
