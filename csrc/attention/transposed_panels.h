// Panels of rows, packed so that lanes are rows, and unpacked. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/lanes.h"

namespace logitkit {
namespace {

template <class V>
void pack(const typename V::Element* const* rows, const typename V::Element* factors, size_t count,
          size_t depth, typename V::Element* panel) {
  for (size_t i = 0; i < count; i += V::width)
    for (size_t d = 0; d < depth; d += V::width) {
      V block[V::width];
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k)
        block[k] = i + k < count
                       ? load_columns<V>(rows[i + k] + d, depth - d) * V::all(factors[i + k])
                       : V::all(0);
      transpose(block);
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k)
        if (d + k < depth) block[k].store(panel + (d + k) * lanes_of<V> + i);
    }
}

template <class V>
void unpack(const typename V::Element* panel, const typename V::Element* factors, size_t count,
            size_t depth, typename V::Element* const* rows) {
  for (size_t i = 0; i < count; i += V::width) {
    const V factor = V::load(factors + i);
    for (size_t d = 0; d < depth; d += V::width) {
      V block[V::width];
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k)
        block[k] = d + k < depth ? V::load(panel + (d + k) * lanes_of<V> + i) * factor : V::all(0);
      transpose(block);
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k) {
        if (i + k >= count) continue;
        if (depth - d >= V::width)
          block[k].store(rows[i + k] + d);
        else
          block[k].store_first(rows[i + k] + d, depth - d);
      }
    }
  }
}

}  // namespace
}  // namespace logitkit
