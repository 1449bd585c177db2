// Parts of rows, and tiles of short rows that stand on end. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/prefetch.h"
#include "sum_exp/lanes.h"

namespace logitkit {
namespace {

template <class V>
inline V lowest_vector() {
  return V::all(minus_infinity);
}

/// The first n elements of x, or a whole vector if n is larger; -inf in the other lanes.
template <class V, class T>
inline V load_some(const T* x, size_t n) {
  return n >= V::width ? V::load(x) : V::load_first(x, n, lowest_vector<V>());
}
template <class V>
inline void store_some(V v, typename V::Element* x, size_t n) {
  if (n >= V::width)
    v.store(x);
  else
    v.store_first(x, n);
}

/// tile[j][i] = the term j of row i, for the V::width rows from x on; -inf where there is none.
template <class V, class T>
inline void load_tile(const T* x, size_t rows, size_t row_step, size_t terms, V* tile) {
  size_t j = 0;
  for (; rows == V::width && j + V::width <= terms; j += V::width) {
    V block[V::width];
#pragma GCC unroll 16
    for (size_t i = 0; i < V::width; ++i) {
      const T* from = x + i * row_step + j;
      block[i] = V::load(from);
      prefetch(from + 2 * V::width * row_step);  // the tile after the next
    }
    transpose(block);
#pragma GCC unroll 16
    for (size_t k = 0; k < V::width; ++k) tile[j + k] = block[k];
  }
  for (; j < terms; j += V::width) {
    V block[V::width];
    for (size_t i = 0; i < V::width; ++i)
      block[i] = i < rows ? load_some<V>(x + i * row_step + j, terms - j) : lowest_vector<V>();
    transpose(block);
    for (size_t k = 0; k < V::width && j + k < terms; ++k) tile[j + k] = block[k];
  }
}

/// The way back for rows of few terms.
template <class V>
inline void store_tile(const V* tile, size_t rows, size_t row_step, size_t terms,
                       typename V::Element* x) {
  for (size_t j = 0; j < terms; j += V::width) {
    V block[V::width];
#pragma GCC unroll 16
    for (size_t k = 0; k < V::width; ++k)
      block[k] = j + k < terms ? tile[j + k] : lowest_vector<V>();
    transpose(block);
    for (size_t i = 0; i < V::width && i < rows; ++i)
      store_some(block[i], x + i * row_step + j, terms - j);
  }
}

}  // namespace
}  // namespace logitkit
