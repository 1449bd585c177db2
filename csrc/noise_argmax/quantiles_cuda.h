// Quantiles of noise that is known by its table, for draws on a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "noise_argmax/loops.h"

namespace logitkit::cuda {

/// Numbers q between 0 and 1 become the x with F(x) = q. The polynomials of the table lie on the
/// device, as do the numbers; the work is queued on the stream.
///   Error:   log F of the result is within 1e-13 max(1, |log q|) of log q for q <= 1/2, and of the
///            others the same of 1 - q. Beyond the table tails are powers of |x|; quantiles beyond
///            1e308 are infinite.
cudaError_t tabulated_quantiles(const NoiseTable& table, double* numbers, std::size_t count,
                                cudaStream_t stream);

}  // namespace logitkit::cuda
