// For any processor.
#include "simd/scalar.h"

#include "noise_argmax/make_loops.h"

namespace logitkit::scalar {

const NoiseLoops noise_loops = make_loops<F64>();

}  // namespace logitkit::scalar
