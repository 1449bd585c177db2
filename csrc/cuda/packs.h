// Rows of elements that are read and written in packs, as their memory allows.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/memory.h"

namespace logitkit::cuda {

/// Whether all packs of rows that begin at `x` lie on multiples of their size.
template <class S>
bool has_aligned_packs(const S* x, std::size_t count, unsigned pack) {
  return count % pack == 0 && reinterpret_cast<std::uintptr_t>(x) % (pack * sizeof(S)) == 0;
}

/// The elements of a pack, of which the first n are there; `rest` stands for the others.
template <int pack, class S>
__device__ void load_pack(const S* x, std::size_t n, bool aligned, Compute<S> rest,
                          Compute<S> (&to)[pack]) {
  Pack<S, pack> elements;
  if (aligned) elements = *reinterpret_cast<const Pack<S, pack>*>(x);
#pragma unroll
  for (unsigned k = 0; k < pack; ++k) {
    if (aligned)
      to[k] = load(elements.element[k]);
    else
      to[k] = k < n ? load(x[k]) : rest;
  }
}

template <int pack, class S>
__device__ void store_pack(const S (&from)[pack], S* x, std::size_t n, bool aligned) {
  if (aligned) {
    Pack<S, pack> elements;
#pragma unroll
    for (unsigned k = 0; k < pack; ++k) elements.element[k] = from[k];
    *reinterpret_cast<Pack<S, pack>*>(x) = elements;
    return;
  }
#pragma unroll
  for (unsigned k = 0; k < pack; ++k)
    if (k < n) x[k] = from[k];
}

}  // namespace logitkit::cuda
