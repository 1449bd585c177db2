// Tiles of a product by tensor cores, of half types and of float as the sum of two shorter floats.
#pragma once

#include "cuda/copy_groups.h"
#include "cuda/mma.h"
#include "cuda/tf32.h"
#include "gemm/product_cuda.h"

namespace logitkit::cuda {

/// A tile of 4 warps with 32 rows each; see product_cuda.h. S is __half, __nv_bfloat16 or float,
/// of which an element is the sum h + l of two of 11 significant bits, and h h' + h l' + l h' is
/// added for a product.
///   Error: |value - exact| <= c (n + 16) 2^-23 sum |left * right| of n terms, c = 1.1 for half
///          types and 3.5 for float: tensor cores cut off what does not fit the largest term of
///          an addition (Fasi, Higham, Mikaitis, Pranesh 2021, "Numerical behavior of NVIDIA
///          tensor cores", PeerJ CS 7:e330). Elements of float are below 2^127 or not finite.
template <class S>
struct TensorTile {
  using Element = S;
  using Value = float;
  static constexpr unsigned threads = 128, lanes = 4;
  static constexpr unsigned at_once = 2;  // of a multiprocessor, at the least
  static constexpr unsigned rows = 128, columns = 128, rows_of_warp = 32;
  static constexpr unsigned blocks_down = rows_of_warp / 16, blocks_across = columns / 8;
  static constexpr unsigned row_count = 2 * blocks_down, column_count = 2 * blocks_across;
  static constexpr unsigned pack = 16 / sizeof(S);
  static constexpr unsigned step = 64 / sizeof(S);  // terms of a stage, two of mma
  static constexpr unsigned panel_bytes = rows * 64;
  static constexpr unsigned stages = 3;
  static constexpr std::size_t shared_bytes = stages * 2 * panel_bytes;
  static_assert(rows == columns, "one size of panels");

  static __device__ constexpr bool exists() { return has_products<S>(); }
  static __device__ unsigned group() { return threadIdx.x % warp_size / 4; }
  static __device__ unsigned row(unsigned r) {
    return threadIdx.x / warp_size * rows_of_warp + r / 2 * 16 + r % 2 * 8 + group();
  }
  static __host__ __device__ constexpr unsigned offset(unsigned c) { return c / 2 * 8 + c % 2; }
  static __device__ unsigned first_column() { return threadIdx.x % lanes * 2; }
  static __device__ unsigned column(unsigned c) { return first_column() + offset(c); }

  __device__ float& value(unsigned r, unsigned c) {
    return blocks[r / 2][c / 2][r % 2 * 2 + c % 2];
  }

  template <bool left_by_term, bool right_by_term>
  __device__ void add(const Factor<S>& left, std::size_t first_row, const Factor<S>& right,
                      std::size_t first_column, std::size_t terms, unsigned char* shared) {
    const auto start_stage = [&](std::size_t stage) {
      const std::size_t k = stage * step;
      if (k < terms) {
        unsigned char* to = shared + stage % stages * (2 * panel_bytes);
        Panel<left_by_term>::copy(left, first_row, k, terms, to);
        Panel<right_by_term>::copy(right, first_column, k, terms, to + panel_bytes);
      }
      end_copy_group();
    };
    __syncthreads();  // a tile before this one may still be read
    for (unsigned stage = 0; stage + 1 < stages; ++stage) start_stage(stage);
    for (std::size_t stage = 0; stage * step < terms; ++stage) {
      wait_for_groups<stages - 2>();
      __syncthreads();
      start_stage(stage + stages - 1);
      const unsigned char* from = shared + stage % stages * (2 * panel_bytes);
      multiply<left_by_term, right_by_term>(from, from + panel_bytes);
    }
    wait_for_groups<0>();
  }

  /// Sets right what add() made of infinite elements of float, whose two parts may cancel, in a
  /// product of factors stored by terms that began with 0.
  __device__ void repair(const Factor<S>& left, std::size_t first_row, const Factor<S>& right,
                         std::size_t first_column, std::size_t terms) {
    if constexpr (sizeof(S) == 4) {
      bool is_nan = false;
      for_elements<TensorTile>([&](unsigned r, unsigned c) { is_nan |= isnan(value(r, c)); });
      if (!is_nan) return;
      for_elements<TensorTile>([&](unsigned r, unsigned c) {
        const std::size_t of_row = first_row + row(r), of_column = first_column + column(c);
        if (isnan(value(r, c)) && of_row < left.rows && of_column < right.rows)
          value(r, c) = product_of_lines(left.data + of_row * left.stride,
                                         right.data + of_column * right.stride, terms);
      });
    }
  }

 private:
  __noinline__ static __device__ float product_of_lines(const S* x, const S* y, std::size_t terms) {
    float sum = 0.0f;
    for (std::size_t k = 0; k < terms; ++k) sum = fma(load(x[k]), load(y[k]), sum);
    return sum;
  }

  /// A stage of a factor: 512 chunks of 16 bytes, in an order by which both copies and the reads
  /// of a warp meet each bank once.
  template <bool by_term>
  struct Panel {
    static constexpr unsigned chunks_of_line = by_term ? 4 : rows / pack;

    static __device__ unsigned place(unsigned line, unsigned chunk) {
      const unsigned turn = by_term ? line / 2 % 4 : sizeof(S) == 2 ? line % 8 : line % 4 * 2;
      return (line * chunks_of_line + (chunk ^ turn)) * 16;
    }

    static __device__ void copy(const Factor<S>& factor, std::size_t first, std::size_t k,
                                std::size_t terms, unsigned char* to) {
      const bool is_aligned = factor.is_aligned();
#pragma unroll
      for (unsigned p = 0; p < panel_bytes / 16 / threads; ++p) {
        const unsigned index = p * threads + threadIdx.x;
        const unsigned line = index / chunks_of_line, chunk = index % chunks_of_line;
        const std::size_t outer = (by_term ? first : k) + line;
        const std::size_t inner = (by_term ? k : first) + chunk * pack;
        const std::size_t there = elements_from<by_term>(factor, terms, outer, inner);
        const S* from = factor.data + (there > 0 ? outer * factor.stride + inner : 0);
        unsigned char* place_of = to + place(line, chunk);
        if (is_aligned)
          copy_async(place_of, from, there < pack ? static_cast<int>(there * sizeof(S)) : 16);
        else
          *reinterpret_cast<Pack<S, pack>*>(place_of) = load_pack<pack>(from, there, false);
      }
    }
  };

  // Words of 16 rows from `first` of a panel, of the terms of one mma.
  template <bool by_term>
  static __device__ void load_left(unsigned (&a)[4], const unsigned char* panel, unsigned first,
                                   unsigned half) {
    const unsigned lane = threadIdx.x % warp_size;
    if constexpr (by_term) {
      load_matrices(a, panel + Panel<true>::place(first + lane % 16, half * 2 + lane / 16));
    } else if constexpr (sizeof(S) == 2) {
      const unsigned term = half * 16 + lane % 8 + lane / 16 * 8;
      load_transposed(a, panel + Panel<false>::place(term, first / pack + lane / 8 % 2));
    } else {
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
        a[i] = word(panel, half * 8 + lane % 4 + i / 2 * 4, first + lane / 4 + i % 2 * 8);
    }
  }

  // The same of 16 columns, for two mma.
  template <bool by_term>
  static __device__ void load_right(unsigned (&b)[2][2], const unsigned char* panel, unsigned first,
                                    unsigned half) {
    const unsigned lane = threadIdx.x % warp_size;
    unsigned words[4];
    if constexpr (by_term) {
      const unsigned line = first + lane % 8 + lane / 16 * 8;
      load_matrices(words, panel + Panel<true>::place(line, half * 2 + lane / 8 % 2));
    } else if constexpr (sizeof(S) == 2) {
      const unsigned term = half * 16 + lane % 16;
      load_transposed(words, panel + Panel<false>::place(term, first / pack + lane / 16));
    } else {
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
        words[i] = word(panel, half * 8 + lane % 4 + i % 2 * 4, first + lane / 4 + i / 2 * 8);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) b[i / 2][i % 2] = words[i];
  }

  static __device__ unsigned word(const unsigned char* panel, unsigned line, unsigned at) {
    return *reinterpret_cast<const unsigned*>(panel + Panel<false>::place(line, at / pack) +
                                              at % pack * sizeof(S));
  }

  template <bool left_by_term, bool right_by_term>
  __device__ void multiply(const unsigned char* left, const unsigned char* right) {
    const unsigned first_row = threadIdx.x / warp_size * rows_of_warp;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      Left a[blocks_down];
#pragma unroll
      for (unsigned m = 0; m < blocks_down; ++m) {
        unsigned words[4];
        load_left<left_by_term>(words, left, first_row + m * 16, half);
        a[m].set(words);
      }
#pragma unroll
      for (unsigned n = 0; n < blocks_across; n += 2) {
        unsigned words[2][2];
        load_right<right_by_term>(words, right, n * 8, half);
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
          Right b;
          b.set(words[i]);
#pragma unroll
          for (unsigned m = 0; m < blocks_down; ++m) add_block(m, n + i, a[m], b);
        }
      }
    }
  }

  template <unsigned count>
  struct Words {
    static constexpr bool is_split = sizeof(S) == 4;
    unsigned high[count], low[is_split ? count : 1];

    __device__ void set(const unsigned (&words)[count]) {
#pragma unroll
      for (unsigned i = 0; i < count; ++i) {
        if constexpr (is_split) {
          split(words[i], high[i], low[i]);
          if (fabsf(__uint_as_float(words[i])) == infinity<float>()) low[i] = 0u;
        } else {
          high[i] = words[i];
        }
      }
    }
  };
  using Left = Words<4>;
  using Right = Words<2>;

  __device__ void add_block(unsigned m, unsigned n, const Left& a, const Right& b) {
    const S* type = nullptr;
    float (&block)[4] = blocks[m][n];
    if constexpr (sizeof(S) == 4) {
      multiply_add(block, a.low, b.high, type);
      multiply_add(block, a.high, b.low, type);
    }
    multiply_add(block, a.high, b.high, type);
  }

  float blocks[blocks_down][blocks_across][4];  // see cuda/mma.h
};

}  // namespace logitkit::cuda
