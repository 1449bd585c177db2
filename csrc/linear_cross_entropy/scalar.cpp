// For any processor.
#include "simd/scalar.h"

#include "linear_cross_entropy/make_loops.h"

namespace logitkit::scalar {

const AllLayerLossLoops layer_loss_loops = make_loops<F32, F64, 4>();

}  // namespace logitkit::scalar
