// Sums and integrals over the classes of one row by a block of threads, which has a tile of nodes
// at a time in its memory; few points with weights may stand for the classes:
//   G(u) = prod_j F(u - mu_j), r_i(u) = f(u - mu_i) / F(u - mu_i).
// row_integrals_cuda.h says where the nodes lie.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/warp.h"
#include "noise_argmax/class_cells_cuda.h"
#include "noise_argmax/laws_cuda.h"

namespace logitkit::cuda {

constexpr unsigned tile_nodes = 128;
constexpr unsigned samples = 48;  // with which the ends of the integrals are found

/// Elements of a type that is known when the kernel runs.
enum class ElementType { f32, f64, f16, bf16 };
struct Elements {
  void* data;
  ElementType type;

  /// Those from one on, if there are any.
  __device__ Elements from(std::size_t first) const {
    if (data == nullptr) return *this;
    const std::size_t size = type == ElementType::f64 ? 8 : type == ElementType::f32 ? 4 : 2;
    return {static_cast<unsigned char*>(data) + first * size, type};
  }
  __device__ double operator[](std::size_t j) const {
    switch (type) {
      case ElementType::f32: return static_cast<const float*>(data)[j];
      case ElementType::f64: return static_cast<const double*>(data)[j];
      case ElementType::f16: return load(static_cast<const __half*>(data)[j]);
      default: return load(static_cast<const __nv_bfloat16*>(data)[j]);
    }
  }
  __device__ void set(std::size_t j, double x) const {
    switch (type) {
      case ElementType::f32: static_cast<float*>(data)[j] = static_cast<float>(x); break;
      case ElementType::f64: static_cast<double*>(data)[j] = x; break;
      case ElementType::f16:
        static_cast<__half*>(data)[j] = stored<__half>(static_cast<float>(x));
        break;
      default: static_cast<__nv_bfloat16*>(data)[j] = stored<__nv_bfloat16>(static_cast<float>(x));
    }
  }
};

/// What the threads of a block share.
struct IntegralMemory {
  double points[integral_threads], counts[integral_threads];  // of a tile of points
  double weights[integral_threads];
  double partial[2][integral_threads];
  double nodes[tile_nodes], masses[tile_nodes];
  double sums[tile_nodes], weighted[tile_nodes];
  double by_cotangent[tile_nodes], alone[tile_nodes];  // for integrate()
  double at[2 * samples], sample_nodes[2 * samples], log_max_cdfs[2 * samples];
  double logs[samples];
  double of_warp[2][integral_threads / warp_size];
  CellMemory cells;
};

template <class Law>
class RowSums {
 public:
  __device__ RowSums(IntegralMemory& memory, const Elements& logits, std::size_t first,
                     std::size_t classes, double scale, const Law& law)
      : law_(law),
        memory_(memory),
        logits_(logits),
        first_(first),
        classes_(classes),
        point_count_(classes),
        scale_(scale) {}

  /// From now on these points stand for the classes, each for as many as its weight says.
  __device__ void use_points(const double* points, const double* weights, std::size_t count) {
    points_ = points;
    weights_ = weights;
    point_count_ = count;
  }

  /// Finds the largest and the least logit that count. Returns whether the row has a meaning.
  __device__ bool take() {
    double max = -infinity<double>(), good = 1.0;
    for (std::size_t j = threadIdx.x; j < classes_; j += integral_threads) {
      const double logit = logits_[first_ + j];
      if (!(logit < infinity<double>())) good = 0.0;
      max = fmax(max, logit);
    }
    max_ = largest(max);
    good = smallest(good);
    double least = 0.0, kept = 0.0;
    for (std::size_t j = threadIdx.x; j < classes_; j += integral_threads) {
      const double point = shifted(j);
      if (!(point >= Law::lowest && point > -infinity<double>())) continue;
      least = fmin(least, point);
      kept += 1.0;
    }
    least_ = smallest(least);
    if (Law::is_tabulated) kept_ = total(kept);
    return good == 1.0 && max_ > -infinity<double>();
  }
  __device__ double max() const { return max_; }
  __device__ const Law& law() const { return law_; }
  /// A logit in units of the scale, the largest being 0 and none but -inf beyond the farthest.
  __device__ double shifted(std::size_t j) const {
    const double logit = logits_[first_ + j];
    return logit == -infinity<double>() ? logit : fmax((logit - max_) / scale_, -Law::farthest);
  }

  /// memory.sums[k] = log G of the first nodes.
  __device__ void sum_log_cdfs(unsigned count) { log_cdf_sums(memory_.nodes, count, memory_.sums); }

  /// memory.sums[k] = sum_j r_j, memory.weighted[k] = sum_j factors[j] r_j at the first nodes, over
  /// the points; null factors are not read, and the second sums are zero.
  [[gnu::noinline]] __device__ void sum_ratios(unsigned count, const Elements& factors) {
    const Slices slices(count, tile_nodes);
    double sum = 0.0, weighted = 0.0;
    const double u = memory_.nodes[slices.lane < count ? slices.lane : 0];
    for (std::size_t begin = 0; begin < point_count_; begin += integral_threads) {
      const unsigned size = load_points(begin);
      if (factors.data != nullptr && threadIdx.x < size)
        memory_.weights[threadIdx.x] = factors[begin + threadIdx.x];
      __syncthreads();
      for (unsigned j = slices.slice; slices.lane < count && j < size; j += slices.count) {
        const double r = law_.ratio(u - memory_.points[j]);
        sum = fma(memory_.counts[j], r, sum);
        if (factors.data != nullptr) weighted = fma(memory_.weights[j], r, weighted);
      }
    }
    add_slices(slices, 0, sum);
    add_slices(slices, 1, weighted);
    __syncthreads();
    if (threadIdx.x < count) {
      memory_.sums[threadIdx.x] = sum_of_slices(slices, 0, threadIdx.x);
      memory_.weighted[threadIdx.x] = sum_of_slices(slices, 1, threadIdx.x);
    }
    __syncthreads();
  }

  /// integrals[i] += sum_k (factors[i] by_factor[k] + alone[k]) r_i(nodes[k]) of all points; null
  /// factors are zeros.
  [[gnu::noinline]] __device__ void integrate(unsigned count, const Elements& factors,
                                              const double* by_factor, const double* alone,
                                              double* integrals) {
    const Slices slices(point_count_, integral_threads);
    for (std::size_t begin = 0; begin < point_count_; begin += slices.width) {
      const std::size_t i = begin + slices.lane;
      double sum = 0.0;
      if (i < point_count_) {
        const double at = point(i), factor = factors.data != nullptr ? factors[i] : 0.0;
        for (unsigned k = slices.slice; k < count; k += slices.count)
          sum = fma(fma(factor, by_factor[k], alone[k]), law_.ratio(memory_.nodes[k] - at), sum);
      }
      if (slices.count > 1) {  // and there is but one round
        add_slices(slices, 0, sum);
        __syncthreads();
        if (slices.slice == 0) sum = sum_of_slices(slices, 0, slices.lane);
      }
      if (slices.slice == 0 && i < point_count_) integrals[i] += sum;
    }
    __syncthreads();
  }

  /// log (r_i G) of the class with this logit, from log G.
  __device__ double log_integrand(double u, double logit, double log_max_cdf) const {
    if constexpr (Law::is_tabulated) {
      return log_max_cdf + law_.log_ratio(u - logit);
    } else {
      const double density = law_.log_density(u - logit);
      return density == -infinity<double>() ? density
                                            : log_max_cdf - law_.log_cdf(u - logit) + density;
    }
  }

  // Of a number that each thread has, in all threads.
  __device__ double largest(double x) {
    return reduce(x, [](double a, double b) { return fmax(a, b); });
  }
  __device__ double smallest(double x) {
    return reduce(x, [](double a, double b) { return fmin(a, b); });
  }
  __device__ double total(double x) {
    return reduce(x, [](double a, double b) { return a + b; });
  }

 protected:
  /// sums[k] = log G(nodes[k]).
  [[gnu::noinline]] __device__ void log_cdf_sums(const double* nodes, unsigned count,
                                                 double* sums) {
    __syncthreads();
    const Slices slices(count, tile_nodes);
    double sum = 0.0;
    const double u = nodes[slices.lane < count ? slices.lane : 0];
    for (std::size_t begin = 0; begin < point_count_; begin += integral_threads) {
      const unsigned size = load_points(begin);
      __syncthreads();
      for (unsigned j = slices.slice; slices.lane < count && j < size; j += slices.count)
        sum = fma(memory_.counts[j], law_.log_cdf(u - memory_.points[j]), sum);
    }
    add_slices(slices, 0, sum);
    __syncthreads();
    if (threadIdx.x < count) sums[threadIdx.x] = sum_of_slices(slices, 0, threadIdx.x);
    __syncthreads();
  }

  /// Where a point lies that stands for classes, or is one.
  __device__ double point(std::size_t i) const {
    return points_ != nullptr ? points_[i] : shifted(i);
  }

  Law law_;
  IntegralMemory& memory_;
  const Elements& logits_;
  std::size_t first_, classes_, point_count_;
  double scale_, max_ = 0.0, least_ = 0.0;
  double kept_ = 0.0;  // how many classes count, of a law in a table

 private:
  template <class Merge>
  __device__ double reduce(double x, const Merge& merge) {
    turn_ ^= 1;  // memory that is not read any more, as a barrier has passed since
    return reduce_block<integral_threads>(x, memory_.of_warp[turn_], merge);
  }

  /// Threads as `width` lanes, one for each of `items` if they are so few, times slices.
  struct Slices {
    unsigned width, count, lane, slice;
    __device__ Slices(std::size_t items, unsigned most) : width(warp_size) {
      while (width < most && width < items) width *= 2;
      count = integral_threads / width;
      lane = threadIdx.x % width;
      slice = threadIdx.x / width;
    }
  };
  __device__ void add_slices(const Slices& slices, unsigned which, double sum) {
    memory_.partial[which][slices.slice * slices.width + slices.lane] = sum;
  }
  __device__ double sum_of_slices(const Slices& slices, unsigned which, unsigned lane) const {
    double sum = 0.0;
    for (unsigned s = 0; s < slices.count; ++s)
      sum += memory_.partial[which][s * slices.width + lane];
    return sum;
  }

  /// Puts the points from `begin` on into memory; the next barrier makes them visible.
  __device__ unsigned load_points(std::size_t begin) {
    const std::size_t rest = point_count_ - begin;
    const unsigned size = rest < integral_threads ? static_cast<unsigned>(rest) : integral_threads;
    __syncthreads();
    if (threadIdx.x < size) {
      memory_.points[threadIdx.x] = point(begin + threadIdx.x);
      memory_.counts[threadIdx.x] = weights_ != nullptr ? weights_[begin + threadIdx.x] : 1.0;
    }
    return size;
  }

  const double *points_ = nullptr, *weights_ = nullptr;  // null: the classes themselves
  unsigned turn_ = 0;
};

}  // namespace logitkit::cuda
