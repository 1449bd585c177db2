// Tiles of the logits of a layer.
#pragma once

#include "gemm/tile_cuda.h"
#include "linear_cross_entropy/linear_cross_entropy_cuda.h"

namespace logitkit::cuda {

/// The logits from a row and a class on; -inf for classes that there are not.
template <class Tile, class S>
__device__ void make_logits(Tile& tile, const LayerLossInput<S>& in, std::size_t first_row,
                            std::size_t first_class, unsigned char* shared) {
  using T = Compute<S>;
  make_scores(tile, Factor<S>{in.input, in.rows, in.depth}, first_row,
              Factor<S>{in.weight, in.classes, in.depth}, first_class, in.depth, shared);
  const T inverse_cap = in.softcap > T(0) ? T(1) / in.softcap : T(0);
#pragma unroll
  for (unsigned c = 0; c < Tile::column_count; ++c) {
    const std::size_t column = first_class + Tile::column(c);
    const bool is_class = column < in.classes;
    const T bias = in.bias != nullptr && is_class ? load(in.bias[column]) : T(0);
#pragma unroll
    for (unsigned r = 0; r < Tile::row_count; ++r) {
      T& z = tile.value(r, c);
      z += bias;
      if (in.softcap > T(0)) z = in.softcap * tanh(z * inverse_cap);
      if (!is_class) z = -infinity<T>();
    }
  }
}

/// Whether no row of a block takes part. All threads of the block come here.
template <class Tile, class S>
__device__ bool is_idle(const LayerLossInput<S>& in, std::size_t first_row) {
  bool takes_part = false;
  for (std::size_t i = threadIdx.x; i < Tile::rows && first_row + i < in.rows; i += Tile::threads)
    takes_part |= in.labels[first_row + i] >= 0;
  return !__syncthreads_or(takes_part);
}

}  // namespace logitkit::cuda
