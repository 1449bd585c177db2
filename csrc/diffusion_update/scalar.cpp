// For any processor.
#include "random/words_scalar.h"

#include "diffusion_update/make_loops.h"

namespace logitkit::scalar {

const AllUpdateLoops update_loops = make_update_loops<F32, F64>();

}  // namespace logitkit::scalar
