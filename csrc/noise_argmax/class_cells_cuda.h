// The classes of a row, where there are many of them as few points, by a block of threads:
// class_cells.h has the same for processors and says why. Here classes are not sorted: each full
// cell has a warp, which goes over all classes and takes those of the cell, always in one order.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/memory.h"
#include "cuda/warp.h"
#include "noise_argmax/loops.h"

namespace logitkit::cuda {

constexpr unsigned integral_threads = 256;  // of a block, which has a row
constexpr unsigned most_cells = 128;
constexpr unsigned terms = static_cast<unsigned>(cell_terms);

/// What the threads of a block share of the cells of a row.
struct CellMemory {
  double table[terms][terms];  // T_k at the Chebyshev nodes x_c: [k][c]
  unsigned count[most_cells];
  std::uint16_t order[most_cells];    // of a full cell among those that are full
  std::uint16_t cell_of[most_cells];  // the other way
  unsigned full, classes_of_full;
  unsigned of_warp[2][integral_threads / warp_size];
  unsigned queue[integral_threads / warp_size][2 * warp_size];  // of classes, for each warp
};

/// How the logits of a row are cut into cells: of this width from the largest one on, and full at
/// most where all of the cell lies below `smooth_below`.
struct CellLimits {
  double width, smooth_below;
};

/// Points that stand for the classes of a row, in the memory of the block; `shifted(j)` is the
/// logit of class j in units of the scale, the largest being 0.
template <class Shifted>
class ClassCells {
 public:
  /// `memory` is for as many numbers as there are classes.
  __device__ ClassCells(CellMemory& shared, double* memory, std::size_t classes,
                        const CellLimits& limits, const Shifted& shifted)
      : shared_(shared),
        memory_(memory),
        places_(reinterpret_cast<std::uint16_t*>(memory + arrays * most_points(classes))),
        classes_(classes),
        limits_(limits),
        shifted_(shifted) {}

  /// Arrays of one number for each point.
  enum Array { points, weights, spread_factors, integrals, of_ratios, of_factors };
  __device__ double* array(Array which) const {
    return memory_ + static_cast<std::size_t>(which) * most_points(classes_);
  }
  /// How many points there are; 0 if the classes are not replaced.
  __device__ unsigned count() const { return count_; }

  /// Sorts classes into cells and finds the points and weights, unless the points are too many.
  __device__ void divide() {
    if (classes_ < least_classes || classes_ >> 32 != 0) return;
    count_classes();
    const unsigned of_full = shared_.full * terms;
    const std::size_t single = kept_ - shared_.classes_of_full;
    if (shared_.full == 0 || of_full + single > most_points(classes_)) return;
    count_ = of_full + static_cast<unsigned>(single);
    for (unsigned i = threadIdx.x; i < of_full; i += integral_threads)
      array(points)[i] =
          middle(shared_.cell_of[i / terms]) + 0.5 * limits_.width * shared_.table[1][i % terms];
    find_places(of_full);
    spread([](std::size_t) { return 1.0; }, array(weights));
  }

  /// to[c] such that sum_c to[c] g(point c) = sum_j factor(j) g(mu_j).
  template <class Factor>
  __device__ void spread(const Factor& factor, double* to) const {
    for (std::size_t j = threadIdx.x; j < classes_; j += integral_threads)
      if (is_single(places_[j])) to[places_[j]] = factor(j);
    const unsigned lane = threadIdx.x % warp_size;
    for (unsigned i = threadIdx.x / warp_size; i < shared_.full;
         i += integral_threads / warp_size) {
      double moments[terms];
      take_moments(i, factor, moments);
      if (lane >= terms) continue;
      double sum = 0.0;
#pragma unroll
      for (unsigned k = 0; k < terms; ++k)
        sum = fma(term_factor(k) * moments[k], shared_.table[k][lane], sum);
      to[i * terms + lane] = sum;
    }
    __syncthreads();
  }

  /// Calls f(i) for the points of full cells.
  template <class F>
  __device__ void for_expanded(const F& f) const {
    for (unsigned i = threadIdx.x; i < shared_.full * terms; i += integral_threads) f(i);
    __syncthreads();
  }

  /// Makes of values at the points of full cells the coefficients of their expansions.
  __device__ void expand(double* values) const {
    const unsigned lane = threadIdx.x % warp_size;
    for (unsigned i = threadIdx.x / warp_size; i < shared_.full;
         i += integral_threads / warp_size) {
      double sum = 0.0;
      if (lane < terms)
        for (unsigned c = 0; c < terms; ++c)
          sum = fma(values[i * terms + c], shared_.table[lane][c], sum);
      __syncwarp();
      if (lane < terms) values[i * terms + lane] = term_factor(lane) * sum;
    }
    __syncthreads();
  }

  /// Whether class j is left out, or is a point of its own, and which.
  __device__ bool is_out(std::size_t j) const { return places_[j] == nowhere; }
  __device__ bool is_point(std::size_t j) const { return is_single(places_[j]); }
  __device__ unsigned point_of(std::size_t j) const { return places_[j]; }

  /// The value for class j of a full cell, by Clenshaw's recurrence, from expand()ed values.
  __device__ double value(const double* expanded, std::size_t j) const {
    const unsigned i = places_[j] & ~in_cell;
    const double t = position(i, j), twice = t + t;
    const double* c = expanded + i * terms;
    double b1 = 0.0, b2 = 0.0;
#pragma unroll
    for (unsigned k = terms - 1; k > 0; --k) {
      const double b = fma(twice, b1, c[k] - b2);
      b2 = b1;
      b1 = b;
    }
    return fma(t, b1, c[0] - b2);
  }

 private:
  static constexpr unsigned arrays = 6;
  static constexpr std::size_t least_classes = 256;
  static constexpr unsigned in_cell = 0x8000u, nowhere = 0xffffu;  // of places

  /// So few that all fits: six arrays of 8 bytes and one of 2 bytes for each class.
  static __device__ std::size_t most_points(std::size_t classes) {
    const std::size_t most = classes / 8;
    return most < in_cell ? most : in_cell - 1;
  }
  static __device__ bool is_single(unsigned place) { return place < in_cell; }
  static __device__ double term_factor(unsigned k) { return (k == 0 ? 1.0 : 2.0) / double{terms}; }

  __device__ double middle(unsigned cell) const {
    return -limits_.width * (static_cast<double>(cell) + 0.5);
  }
  __device__ double position(unsigned i, std::size_t j) const {
    return (shifted_(j) - middle(shared_.cell_of[i])) / (0.5 * limits_.width);
  }
  /// The cell of a logit, or most_cells.
  __device__ unsigned cell_at(double shifted) const {
    const double cell = -shifted / limits_.width;
    return cell < double{most_cells} ? static_cast<unsigned>(cell) : most_cells;
  }
  __device__ bool is_full(unsigned cell) const {
    return -limits_.width * static_cast<double>(cell) <= limits_.smooth_below &&
           shared_.count[cell] > terms;
  }

  /// Finds which cells are full, and how many classes are kept.
  __device__ void count_classes() {
    for (unsigned i = threadIdx.x; i < most_cells; i += integral_threads) shared_.count[i] = 0;
    for (unsigned i = threadIdx.x; i < terms * terms; i += integral_threads) {
      const unsigned k = i / terms, c = i % terms;
      constexpr double pi = 0x1.921fb54442d18p+1;
      const unsigned turns = k * (2 * c + 1) % (4 * terms);  // of pi / (2 terms)
      shared_.table[k][c] = cos(pi * (static_cast<double>(turns) / double{2 * terms}));
    }
    __syncthreads();
    unsigned kept = 0;
    for (std::size_t j = threadIdx.x; j < classes_; j += integral_threads) {
      const double shifted = shifted_(j);
      if (shifted == -infinity<double>()) continue;
      kept += 1;
      if (const unsigned cell = cell_at(shifted); cell < most_cells)
        atomicAdd(&shared_.count[cell], 1u);
    }
    kept_ = reduce_block<integral_threads>(kept, shared_.of_warp[0],
                                           [](unsigned a, unsigned b) { return a + b; });
    if (threadIdx.x == 0) {
      shared_.full = shared_.classes_of_full = 0;
      for (unsigned cell = 0; cell < most_cells; ++cell) {
        if (!is_full(cell)) continue;
        shared_.order[cell] = static_cast<std::uint16_t>(shared_.full);
        shared_.cell_of[shared_.full] = static_cast<std::uint16_t>(cell);
        shared_.full += 1;
        shared_.classes_of_full += shared_.count[cell];
      }
    }
    __syncthreads();
  }

  /// Writes where each class is, and gives those outside of full cells points of their own, in
  /// their order, from `next` on.
  __device__ void find_places(unsigned next) {
    const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    unsigned turn = 0;
    for (std::size_t begin = 0; begin < classes_; begin += integral_threads, turn ^= 1) {
      const std::size_t j = begin + threadIdx.x;
      const double shifted = j < classes_ ? shifted_(j) : -infinity<double>();
      const bool is_kept = shifted > -infinity<double>();
      const unsigned cell = is_kept ? cell_at(shifted) : most_cells;
      const bool in_full = cell < most_cells && is_full(cell);
      const bool is_alone = is_kept && !in_full;
      const unsigned votes = __ballot_sync(all_lanes, is_alone);
      unsigned* of_warp = shared_.of_warp[turn];  // the other one may still be read
      if (lane == 0) of_warp[warp] = static_cast<unsigned>(__popc(votes));
      __syncthreads();
      unsigned before = next;
      for (unsigned w = 0; w < integral_threads / warp_size; ++w) {
        if (w < warp) before += of_warp[w];
        next += of_warp[w];
      }
      if (j >= classes_) continue;
      const unsigned place = before + static_cast<unsigned>(__popc(votes & ((1u << lane) - 1)));
      if (is_alone) array(points)[place] = shifted;
      places_[j] = static_cast<std::uint16_t>(is_alone  ? place
                                              : in_full ? in_cell | shared_.order[cell]
                                                        : nowhere);
    }
    __syncthreads();
  }

  /// moments[k] = sum over the classes of a full cell of factor(j) T_k(t_j), in all lanes.
  template <class Factor>
  __device__ void take_moments(unsigned i, const Factor& factor, double (&moments)[terms]) const {
#pragma unroll
    for (unsigned k = 0; k < terms; ++k) moments[k] = 0.0;
    const unsigned lane = threadIdx.x % warp_size;
    unsigned* queue = shared_.queue[threadIdx.x / warp_size];
    unsigned held = 0;  // until there is one for each lane
    for (std::size_t begin = 0; begin < classes_; begin += warp_size) {
      const std::size_t j = begin + lane;
      const bool is_in = j < classes_ && places_[j] == (in_cell | i);
      const unsigned votes = __ballot_sync(all_lanes, is_in);
      if (is_in)
        queue[held + static_cast<unsigned>(__popc(votes & ((1u << lane) - 1)))] =
            static_cast<unsigned>(j);
      held += static_cast<unsigned>(__popc(votes));
      if (held < warp_size) continue;
      __syncwarp();
      add_moments(i, queue[lane], factor, moments);
      held -= warp_size;
      const unsigned later = queue[warp_size + lane];
      __syncwarp();
      if (lane < held) queue[lane] = later;
    }
    __syncwarp();
    if (lane < held) add_moments(i, queue[lane], factor, moments);
    __syncwarp();
#pragma unroll
    for (unsigned k = 0; k < terms; ++k)
      moments[k] = reduce_lanes<warp_size>(moments[k], [](double a, double b) { return a + b; });
  }

  template <class Factor>
  __device__ void add_moments(unsigned i, std::size_t j, const Factor& factor,
                              double (&moments)[terms]) const {
    const double t = position(i, j), twice = t + t;
    double before = factor(j), now = before * t;
    moments[0] += before;
#pragma unroll
    for (unsigned k = 1; k < terms; ++k) {
      moments[k] += now;
      const double next = fma(twice, now, -before);
      before = now;
      now = next;
    }
  }

  CellMemory& shared_;
  double* memory_;
  std::uint16_t* places_;
  std::size_t classes_;
  CellLimits limits_;
  const Shifted shifted_;
  std::size_t kept_ = 0;
  unsigned count_ = 0;
};

}  // namespace logitkit::cuda
