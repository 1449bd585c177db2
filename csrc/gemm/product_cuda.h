// Products of matrices on a GPU: the tiles under every op that reduces scores x @ weight.T
// without storing them, and under the gradients of such ops.
//
// A block of threads computes a tile, whose elements stay in registers:
//
//   struct Tile {
//     using Element = ...;  // of the factors
//     using Value = ...;    // of the product
//     static constexpr unsigned rows, columns;          // of the tile
//     static constexpr unsigned row_count, column_count;  // of a thread
//     static constexpr unsigned lanes;    // that have the elements of a row, one beside the other
//     static constexpr unsigned threads, at_once;  // blocks of a multiprocessor
//     static constexpr std::size_t shared_bytes;        // that add() uses
//     static constexpr bool exists();                   // else kernels of it are left empty
//     Value& value(unsigned r, unsigned c);             // an element of a thread
//     static unsigned row(unsigned r), column(unsigned c);  // of a thread, in the tile
//     static unsigned first_column(), offset(unsigned c);   // column(c), whose sum it is
//     template <bool left_by_term, bool right_by_term>
//     void add(const Factor<Element>& left, first row, const Factor<Element>& right, first column,
//              terms, shared memory);
//     void repair(...);                                 // see make_scores()
//   };
//
// A row of a tile belongs to one warp, so that reductions along rows need no barrier. An element
// is a sum whose terms are added in the order of k, in runs whose length is that of the tile
// alone: its bits depend on its row and its column, not on where a tile begins, nor on whether
// sums begin with 0 or go on with those of the terms before.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/launch.h"
#include "cuda/memory.h"
#include "cuda/warp.h"

namespace logitkit::cuda {

/// A factor of a product, a matrix (rows, terms): element (i, k) lies at data[i * stride + k] if
/// it is stored by terms, else at data[k * stride + i].
template <class S>
struct Factor {
  const S* data;
  std::size_t rows, stride;
  /// Of a factor that is not stored by terms: those of a negative label are not read, and are 0.
  const std::int64_t* labels = nullptr;

  /// Whether every run of whole packs along the stored rows is aligned to 16 bytes.
  __host__ __device__ bool is_aligned() const {
    return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride * sizeof(S) % 16 == 0;
  }
};

/// How many elements there are from (line, at) on, in the order in which a factor is stored.
template <bool by_term, class S>
__device__ std::size_t elements_from(const Factor<S>& factor, std::size_t terms, std::size_t line,
                                     std::size_t at) {
  if (line >= (by_term ? factor.rows : terms)) return 0;
  if (!by_term && factor.labels != nullptr && factor.labels[line] < 0) return 0;
  const std::size_t end = by_term ? terms : factor.rows;
  return at < end ? end - at : 0;
}

/// Reads `count` elements that lie one beside the other, of which the first `there` exist; the
/// others are 0.
template <int count, class S>
__device__ Pack<S, count> load_pack(const S* from, std::size_t there, bool is_aligned) {
  Pack<S, count> pack;
  if (is_aligned && there >= count) return *reinterpret_cast<const Pack<S, count>*>(from);
#pragma unroll
  for (int i = 0; i < count; ++i)
    pack.element[i] = static_cast<std::size_t>(i) < there ? from[i] : stored<S>(0);
  return pack;
}

/// Calls f(r, c) for the elements of a thread.
template <class Tile, class F>
__device__ void for_elements(const F& f) {
#pragma unroll
  for (unsigned r = 0; r < Tile::row_count; ++r)
#pragma unroll
    for (unsigned c = 0; c < Tile::column_count; ++c) f(r, c);
}

template <class Tile>
__device__ void clear(Tile& tile) {
  for_elements<Tile>([&](unsigned r, unsigned c) { tile.value(r, c) = 0; });
}

/// The columns of a thread that exist: c is one if Tile::offset(c) is below.
template <class Tile>
__device__ int columns_of_thread(std::size_t first_column, std::size_t columns) {
  const std::size_t begin = first_column + Tile::first_column();
  return begin >= columns                   ? 0
         : columns - begin >= Tile::columns ? static_cast<int>(Tile::columns)
                                            : static_cast<int>(columns - begin);
}

/// Calls f(r, c, row) for the elements of a thread's tile that lie in the product, with the place
/// of the row's first element in a matrix of row stride `stride`; add Tile::offset(c).
template <class Tile, class F>
__device__ void for_places(std::size_t first_row, std::size_t rows, std::size_t first_column,
                           std::size_t columns, std::size_t stride, const F& f) {
  const int end = columns_of_thread<Tile>(first_column, columns);
#pragma unroll
  for (unsigned r = 0; r < Tile::row_count; ++r) {
    const std::size_t row = first_row + Tile::row(r);
    if (row >= rows) continue;
    const std::size_t begin = row * stride + first_column + Tile::first_column();
#pragma unroll
    for (unsigned c = 0; c < Tile::column_count; ++c)
      if (static_cast<int>(Tile::offset(c)) < end) f(r, c, row, begin);
  }
}

/// The tile of left right^T from a row and a column on, both factors being stored by terms.
template <class Tile, class S>
__device__ void make_scores(Tile& tile, const Factor<S>& left, std::size_t first_row,
                            const Factor<S>& right, std::size_t first_column, std::size_t terms,
                            unsigned char* shared) {
  clear(tile);
  tile.template add<true, true>(left, first_row, right, first_column, terms, shared);
  tile.repair(left, first_row, right, first_column, terms);
}

/// How the columns of scores are cut, which depends on nothing but their number: a block goes
/// over the tiles of a part one after the other.
struct ColumnParts {
  static constexpr unsigned most = 32;

  ColumnParts(std::size_t all_columns, unsigned tile_columns)
      : columns(all_columns), tiles((all_columns + tile_columns - 1) / tile_columns) {
    tiles_of_part = (tiles + most - 1) / most;
    if (tiles_of_part == 0) tiles_of_part = 1;
    count = static_cast<unsigned>((tiles + tiles_of_part - 1) / tiles_of_part);
  }
  /// For reductions to which the cut makes no difference: enough blocks for any GPU.
  ColumnParts(std::size_t all_columns, unsigned tile_columns, std::size_t row_blocks)
      : columns(all_columns), tiles((all_columns + tile_columns - 1) / tile_columns) {
    constexpr std::size_t enough = 1024;
    std::size_t wanted = row_blocks == 0 ? 1 : enough / row_blocks;
    if (wanted == 0) wanted = 1;
    if (wanted > tiles) wanted = tiles;
    tiles_of_part = (tiles + wanted - 1) / wanted;
    count = static_cast<unsigned>((tiles + tiles_of_part - 1) / tiles_of_part);
  }

  std::size_t columns, tiles, tiles_of_part;
  unsigned count;
};

}  // namespace logitkit::cuda
