// How rows are laid out over blocks of threads: each thread has packs of elements of one row.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "cuda/packs.h"

namespace logitkit::cuda {

constexpr unsigned pack_threads = 256;

/// Rows of `count` elements in packs of `pack`: long rows are cut into chunks, one for each
/// block; of short ones, a block has several.
struct RowPacks {
  std::size_t rows, count;
  unsigned chunks, threads_of_row;

  RowPacks(std::size_t rows, std::size_t count, unsigned pack) : rows(rows), count(count) {
    const std::size_t packs = (count + pack - 1) / pack;
    chunks = static_cast<unsigned>((packs + pack_threads - 1) / pack_threads);
    threads_of_row = packs < pack_threads ? static_cast<unsigned>(packs) : pack_threads;
  }
  std::size_t blocks() const {
    if (threads_of_row == 0) return 0;
    const std::size_t rows_of_block = pack_threads / threads_of_row;
    return (rows + rows_of_block - 1) / rows_of_block * chunks;
  }
};

/// Where the pack of this thread begins.
struct PackPlace {
  std::size_t row, first;
  bool is_inside;

  __device__ PackPlace(const RowPacks& packs, unsigned pack) {
    const unsigned rows_of_block = pack_threads / packs.threads_of_row;
    const unsigned group = threadIdx.x / packs.threads_of_row;
    const unsigned rank = threadIdx.x - group * packs.threads_of_row;
    const unsigned chunk = blockIdx.x % packs.chunks;
    row = std::size_t{blockIdx.x / packs.chunks} * rows_of_block + group;
    first = (std::size_t{chunk} * pack_threads + rank) * pack;
    is_inside = group < rows_of_block && row < packs.rows && first < packs.count;
  }
};

}  // namespace logitkit::cuda
