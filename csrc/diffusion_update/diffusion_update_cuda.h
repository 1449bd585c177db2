// The update of a diffusion sampler on a GPU, bit by bit that of diffusion_update.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/element.h"
#include "random/random_cuda.h"

namespace logitkit::cuda {

/// A number for each row, or one for all if `of_row` is null.
template <class T>
struct ByRow {
  const T* of_row;
  T of_all;
};

/// Arrays (rows, count) of S, which is float, double, __half or __nv_bfloat16, and the
/// coefficients of their rows; arrays are on the device.
template <class S>
struct DiffusionUpdate {
  const S* x;
  const S* y;  // null: none
  ByRow<Compute<S>> a, b, c;
  Compute<S> lower, upper;
};

/// out = min(max(a x + b y + c z, lower), upper), where z is the normal noise that
/// random_numbers<Compute<S>>() draws for these rows; rows.row_ids is not read without noise, nor
/// is noise drawn for a row with c = 0. `out` may be x or y.
///   Error:     the bits of logitkit::diffusion_update() for float and double; for half ones,
///              those of floats, rounded
///   Specials:  those of arithmetic; NaN passes the bounds
///   Traffic:   one read of x and y, one write of `out`
template <class S>
cudaError_t diffusion_update(const DiffusionUpdate<S>& update, const Rows& rows, std::size_t count,
                             S* out, cudaStream_t stream);

}  // namespace logitkit::cuda
