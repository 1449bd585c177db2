// For any processor.
#include "simd/scalar.h"

#include "cross_entropy/make_loops.h"

namespace logitkit::scalar {

const AllCrossEntropyLoops cross_entropy_loops = make_loops<F32, F64>();

}  // namespace logitkit::scalar
