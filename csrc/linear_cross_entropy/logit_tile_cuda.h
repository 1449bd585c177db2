// Tiles of the logits of a layer.
#pragma once

#include "gemm/tile_cuda.h"
#include "linear_cross_entropy/linear_cross_entropy_cuda.h"

namespace logitkit::cuda {

/// Seldom wanted and long, so that it is not repeated for every element of a tile.
template <class T>
__noinline__ __device__ T capped(T z, T cap, T inverse_cap) {
  return cap * tanh(z * inverse_cap);
}

/// The logits from a row and a class on; -inf for classes that there are not.
template <class Tile, class S>
__device__ void make_logits(Tile& tile, const LayerLossInput<S>& in, std::size_t first_row,
                            std::size_t first_class, unsigned char* shared) {
  using T = Compute<S>;
  make_scores(tile, Factor<S>{in.input, in.rows, in.depth}, first_row,
              Factor<S>{in.weight, in.classes, in.depth}, first_class, in.depth, shared);
  const int end = columns_of_thread<Tile>(first_class, in.classes);
  if (in.bias != nullptr) {
    const S* of_thread = in.bias + first_class + Tile::first_column();
#pragma unroll
    for (unsigned c = 0; c < Tile::column_count; ++c) {
      const T bias =
          static_cast<int>(Tile::offset(c)) < end ? load(of_thread[Tile::offset(c)]) : T(0);
#pragma unroll
      for (unsigned r = 0; r < Tile::row_count; ++r) tile.value(r, c) += bias;
    }
  }
  if (in.softcap > T(0)) {
    const T inverse_cap = T(1) / in.softcap;
    for_elements<Tile>([&](unsigned r, unsigned c) {
      tile.value(r, c) = capped(tile.value(r, c), in.softcap, inverse_cap);
    });
  }
  if (in.classes - first_class < Tile::columns)
    for_elements<Tile>([&](unsigned r, unsigned c) {
      if (static_cast<int>(Tile::offset(c)) >= end) tile.value(r, c) = -infinity<T>();
    });
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
