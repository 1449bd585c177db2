// For any processor.
#include "simd/scalar.h"

#include "sum_exp/make_loops.h"

namespace logitkit::scalar {

const AllSumExpLoops sum_exp_loops = make_loops<F32, F64>();

}  // namespace logitkit::scalar
