// Tiles of a product whose threads multiply and add numbers one by one, in their own precision.
#pragma once

#include "gemm/product_cuda.h"

namespace logitkit::cuda {

/// A tile of 256 threads in 16 rows and 16 columns, T being float or double; see product_cuda.h.
///   Error: |value - exact| <= gamma * sum |left * right| + terms * (the least denormal),
///          gamma = n u / (1 - n u) of n terms   (Higham 2002, section 3.1)
template <class T>
struct ScalarTile {
  using Element = T;
  using Value = T;
  static constexpr unsigned side = 16, threads = side * side, lanes = side;
  static constexpr unsigned pack = 16 / sizeof(T);
  // Columns that a thread reads at once lie beside each other.
  static constexpr unsigned groups = 2, row_count = groups * pack, column_count = groups * pack;
  static constexpr unsigned rows = side * row_count, columns = side * column_count;
  static constexpr unsigned at_once = 2;  // of a multiprocessor, at the least
  static constexpr unsigned step = 16;    // terms in shared memory
  static constexpr unsigned stride = rows + pack;
  static constexpr std::size_t shared_bytes = 4 * step * stride * sizeof(T);
  static_assert(rows == columns, "one stride");

  static __device__ constexpr bool exists() { return true; }
  static __host__ __device__ constexpr unsigned offset(unsigned i) {
    return i / pack * (side * pack) + i % pack;
  }
  static __device__ unsigned row(unsigned r) { return threadIdx.x / side * pack + offset(r); }
  static __device__ unsigned first_column() { return threadIdx.x % side * pack; }
  static __device__ unsigned column(unsigned c) { return first_column() + offset(c); }

  __device__ T& value(unsigned r, unsigned c) { return values[r][c]; }

  template <bool left_by_term, bool right_by_term>
  __device__ void add(const Factor<T>& left, std::size_t first_row, const Factor<T>& right,
                      std::size_t first_column, std::size_t terms, unsigned char* shared) {
    T* buffers = reinterpret_cast<T*>(shared);
    Panel<left_by_term> of_left(left, first_row, terms);
    Panel<right_by_term> of_right(right, first_column, terms);
    of_left.load(0);
    of_right.load(0);
    __syncthreads();  // a tile before this one may still be read
    unsigned parity = 0;
    for (std::size_t k = 0; k < terms; k += step) {
      T* const a = buffers + parity * 2 * step * stride;
      T* const b = a + step * stride;
      of_left.store(a);
      of_right.store(b);
      __syncthreads();
      if (k + step < terms) {
        of_left.load(k + step);
        of_right.load(k + step);
      }
      multiply(a, b, terms - k < step ? static_cast<unsigned>(terms - k) : step);
      parity ^= 1;
    }
  }

  __device__ void repair(const Factor<T>&, std::size_t, const Factor<T>&, std::size_t,
                         std::size_t) {}

 private:
  // A step of a factor on its way to shared memory, where it is [term][row].
  template <bool by_term>
  struct Panel {
    static constexpr unsigned packs = rows * step / pack / threads;
    static constexpr unsigned packs_of_line = (by_term ? step : rows) / pack;
    Factor<T> factor;
    std::size_t first, terms;
    bool is_aligned;
    Pack<T, pack> held[packs];

    __device__ Panel(const Factor<T>& factor, std::size_t first, std::size_t terms)
        : factor(factor), first(first), terms(terms), is_aligned(factor.is_aligned()) {}

    __device__ void load(std::size_t k) {
#pragma unroll
      for (unsigned p = 0; p < packs; ++p) {
        const unsigned index = p * threads + threadIdx.x;
        const std::size_t line = index / packs_of_line, at = index % packs_of_line * pack;
        const std::size_t outer = (by_term ? first : k) + line, inner = (by_term ? k : first) + at;
        const std::size_t there = elements_from<by_term>(factor, terms, outer, inner);
        held[p] = load_pack<pack>(factor.data + (there > 0 ? outer * factor.stride + inner : 0),
                                  there, is_aligned);
      }
    }

    __device__ void store(T* to) const {
#pragma unroll
      for (unsigned p = 0; p < packs; ++p) {
        const unsigned index = p * threads + threadIdx.x;
        const unsigned line = index / packs_of_line, at = index % packs_of_line * pack;
        if constexpr (by_term) {
#pragma unroll
          for (unsigned i = 0; i < pack; ++i) to[(at + i) * stride + line] = held[p].element[i];
        } else {
          *reinterpret_cast<Pack<T, pack>*>(to + line * stride + at) = held[p];
        }
      }
    }
  };

  __device__ void multiply(const T* a, const T* b, unsigned terms) {
    const unsigned x = threadIdx.x % side * pack, y = threadIdx.x / side * pack;
    const auto add_term = [&](unsigned k) {
      Pack<T, pack> left[groups], right[groups];
#pragma unroll
      for (unsigned g = 0; g < groups; ++g) {
        left[g] = *reinterpret_cast<const Pack<T, pack>*>(a + k * stride + g * side * pack + y);
        right[g] = *reinterpret_cast<const Pack<T, pack>*>(b + k * stride + g * side * pack + x);
      }
#pragma unroll
      for (unsigned r = 0; r < row_count; ++r)
#pragma unroll
        for (unsigned c = 0; c < column_count; ++c)
          values[r][c] = fma(left[r / pack].element[r % pack], right[c / pack].element[c % pack],
                             values[r][c]);
    };
    if (terms == step) {
#pragma unroll 4
      for (unsigned k = 0; k < step; ++k) add_term(k);
    } else {  // no terms that are not there: 0 * NaN
      for (unsigned k = 0; k < terms; ++k) add_term(k);
    }
  }

  T values[row_count][column_count];
};

}  // namespace logitkit::cuda
