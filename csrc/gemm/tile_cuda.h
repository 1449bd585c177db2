// Which tiles make the products of a type of elements.
#pragma once

#include "gemm/arithmetic_cuda.h"
#include "gemm/scalar_tile_cuda.h"
#include "gemm/tensor_tile_cuda.h"

namespace logitkit::cuda {

template <class T>
struct TypeOfTile {
  using Tile = T;
};

/// Calls f(tile), a TypeOfTile, with the tile of an arithmetic. All tiles of a type are of one
/// size.
template <class S, class F>
cudaError_t with_tile(Arithmetic arithmetic, const F& f) {
  if constexpr (sizeof(S) == 2) {
    return f(TypeOfTile<TensorTile<S>>());
  } else if constexpr (sizeof(S) == 4) {
    if (arithmetic == Arithmetic::tensor) return f(TypeOfTile<TensorTile<S>>());
    return f(TypeOfTile<ScalarTile<S>>());
  } else {
    return f(TypeOfTile<ScalarTile<S>>());
  }
}

/// Rows and columns of the tiles of a type.
template <class S>
constexpr unsigned tile_side = sizeof(S) == 8 ? 64 : 128;

}  // namespace logitkit::cuda
