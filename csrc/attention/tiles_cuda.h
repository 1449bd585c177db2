// Tiles of rows in the memory of a block, and their products by tensor cores.
//
// A tile has rows of D elements of S, filled up with zeros. The chunks of 16 bytes of a row are
// permuted by its last bits, so that what a warp reads at once lies in all banks: eight rows of a
// chunk, or, of float32, two chunks of rows 0, 2, 4 and 6.
#pragma once

#include "cuda/async_copy.h"
#include "cuda/memory.h"
#include "cuda/mma.h"
#include "cuda/tf32.h"
#include "cuda/warp.h"

namespace logitkit::cuda {

template <class S, int D>
struct Tile {
  static constexpr int row_bytes = D * static_cast<int>(sizeof(S)), chunks = row_bytes / 16;
  static_assert(chunks % 8 == 0, "permutations of 8 chunks");
  unsigned char* data;

  __device__ unsigned char* chunk(int row, int index) const {
    return data + row * row_bytes + ((index ^ (row & 7)) << 4);
  }
};

/// Whether rows and columns lie so that packs of 16 bytes are aligned.
template <class S, class Steps>
__host__ __device__ inline bool is_aligned(const Steps& x) {
  constexpr std::ptrdiff_t pack = pack_size<S>;
  return reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.batch % pack == 0 &&
         x.head % pack == 0 && x.row % pack == 0;
}

/// Loads rows of `dim` elements; row_at(row) is where one lies, or null for zeros. They are there
/// when all threads have waited for their copies, and for each other.
template <int threads, class S, int D, class RowAt>
__device__ void load_rows(const Tile<S, D>& tile, int rows, int dim, bool aligned,
                          const RowAt& row_at) {
  constexpr int chunks = Tile<S, D>::chunks, pack = pack_size<S>;
#pragma unroll 2
  for (int index = threadIdx.x; index < rows * chunks && aligned; index += threads) {
    const int row = index / chunks, column = index % chunks * pack;
    const S* from = row_at(row);
    const int count = from == nullptr ? 0 : min(pack, max(0, dim - column));
    copy_async(tile.chunk(row, index % chunks), count == 0 ? nullptr : from + column,
               count * static_cast<int>(sizeof(S)));
  }
#pragma unroll 1
  for (int index = threadIdx.x; index < rows * D && !aligned; index += threads) {
    const int row = index / D, column = index % D;
    const S* from = row_at(row);
    reinterpret_cast<S*>(tile.chunk(row, column / pack))[column % pack] =
        from == nullptr || column >= dim ? stored<S>(0.0f) : from[column];
  }
}

__device__ inline bool not_finite(unsigned word, const __half*) {
  return (word & 0x7c00u) == 0x7c00u || (word & 0x7c000000u) == 0x7c000000u;
}
__device__ inline bool not_finite(unsigned word, const __nv_bfloat16*) {
  return (word & 0x7f80u) == 0x7f80u || (word & 0x7f800000u) == 0x7f800000u;
}
__device__ inline bool not_finite(unsigned word, const float*) {
  return (word & 0x7f800000u) == 0x7f800000u;
}

/// Whether this thread's part of the tile has an infinite element or NaN.
template <int threads, class S, int D>
__device__ bool part_not_finite(const Tile<S, D>& tile, int rows) {
  constexpr const S* type = nullptr;
  bool found = false;
  for (int index = threadIdx.x; index < rows * Tile<S, D>::chunks; index += threads) {
    const uint4 words = *reinterpret_cast<const uint4*>(tile.data + 16 * index);
    found |= not_finite(words.x, type) | not_finite(words.y, type) | not_finite(words.z, type) |
             not_finite(words.w, type);
  }
  return found;
}

// Operands of 32 bytes of depth: as they are, or of float32 as a sum of two tf32.
template <class S>
struct Product {
  static constexpr int depth = 16;
  struct Left {
    unsigned word[4];
  };
  struct Right {
    unsigned word[2];
  };
  static __device__ Left left(const unsigned (&a)[4]) { return {{a[0], a[1], a[2], a[3]}}; }
  static __device__ Right right(unsigned b0, unsigned b1) { return {{b0, b1}}; }
  static __device__ void add(float (&c)[4], const Left& a, const Right& b) {
    multiply_add(c, a.word, b.word, static_cast<const S*>(nullptr));
  }
};

template <>
struct Product<float> {
  static constexpr int depth = 8;
  struct Left {
    unsigned high[4], low[4];
  };
  struct Right {
    unsigned high[2], low[2];
  };
  static __device__ Left left(const unsigned (&a)[4]) {
    Left x;
#pragma unroll
    for (int k = 0; k < 4; ++k) split(a[k], x.high[k], x.low[k]);
    return x;
  }
  static __device__ Right right(unsigned b0, unsigned b1) {
    Right x;
    split(b0, x.high[0], x.low[0]);
    split(b1, x.high[1], x.low[1]);
    return x;
  }
  static __device__ void add(float (&c)[4], const Left& a, const Right& b) {
    constexpr const float* type = nullptr;
    multiply_add(c, a.low, b.high, type);
    multiply_add(c, a.high, b.low, type);
    multiply_add(c, a.high, b.high, type);
  }
};

/// c[m][n] += rows 16m + first_row of a times rows 8n of b.
template <class S, int D, int m_tiles, int n_tiles>
__device__ void multiply_rows(const Tile<S, D>& a, int first_row, const Tile<S, D>& b,
                              float (&c)[m_tiles][n_tiles][4]) {
  using P = Product<S>;
  constexpr int step = n_tiles % 2 == 0 ? 2 : 1;  // what one load has of b
  const int lane = threadIdx.x % warp_size;
#pragma unroll 4
  for (int k = 0; k < Tile<S, D>::chunks / 2; ++k) {
    typename P::Left left[m_tiles];
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
      unsigned words[4];
      load_matrices(words, a.chunk(first_row + 16 * m + lane % 16, 2 * k + lane / 16));
      left[m] = P::left(words);
    }
#pragma unroll
    for (int n = 0; n < n_tiles; n += step) {
      unsigned words[4];  // of the last two, a single tile has no use
      load_matrices(words, b.chunk(8 * (n + lane / 16 % step) + lane % 8, 2 * k + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < step; ++i) {
        const auto right = P::right(words[2 * i], words[2 * i + 1]);
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) P::add(c[m][n + i], left[m], right);
      }
    }
  }
}

/// sums[m] += weights[m] times the rows of b, where weights are such results of multiply_rows().
template <class S, int D, int m_tiles, int n_tiles>
__device__ void add_weighted(const float (&weights)[m_tiles][n_tiles][4], const Tile<S, D>& b,
                             float (&sums)[m_tiles][D / 8][4]) {
  using P = Product<S>;
  constexpr const S* type = nullptr;
  const int lane = threadIdx.x % warp_size;
  if constexpr (sizeof(S) == 2) {
#pragma unroll
    for (int k = 0; k < n_tiles / 2; ++k) {
      typename P::Left left[m_tiles];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float (&w)[4] = weights[m][2 * k + i / 2];
          left[m].word[i] = packed(w[2 * (i % 2)], w[2 * (i % 2) + 1], type);
        }
#pragma unroll
      for (int d = 0; d < D / 16; ++d) {
        unsigned words[4];
        load_transposed(words, b.chunk(16 * k + lane % 16, 2 * d + lane / 16));
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int m = 0; m < m_tiles; ++m)
            P::add(sums[m][2 * d + n], left[m], P::right(words[2 * n], words[2 * n + 1]));
      }
    }
  } else {
    // The columns 2t and 2t + 1 of the weights, which a lane holds, are taken for t and t + 4.
    const int row = 2 * (lane % 4), column = lane / 4;
#pragma unroll
    for (int k = 0; k < n_tiles; ++k) {
      typename P::Left left[m_tiles];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        const float (&w)[4] = weights[m][k];
        const unsigned words[4] = {__float_as_uint(w[0]), __float_as_uint(w[2]),
                                   __float_as_uint(w[1]), __float_as_uint(w[3])};
        left[m] = P::left(words);
      }
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        const auto word = [&](int r) {
          return reinterpret_cast<const unsigned*>(
              b.chunk(8 * k + r, 2 * d + column / 4))[column % 4];
        };
        const auto right = P::right(word(row), word(row + 1));
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) P::add(sums[m][d], left[m], right);
      }
    }
  }
}

}  // namespace logitkit::cuda
