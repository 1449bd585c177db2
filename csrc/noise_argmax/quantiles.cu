#include "noise_argmax/quantiles_cuda.h"

#include "cuda/launch.h"

namespace logitkit::cuda {
namespace {

constexpr unsigned quantile_threads = 256;

/// The polynomial of log F in a cell, which rises with t from -1 to 1, and its slope.
struct CellPolynomial {
  double c[NoiseTable::terms];

  __device__ CellPolynomial(const NoiseTable& table, std::size_t cell) {
#pragma unroll
    for (std::size_t k = 0; k < NoiseTable::terms; ++k)
      c[k] = table.log_cdf[cell * NoiseTable::terms + k];
  }
  __device__ double value(double t, double& slope) const {
    double sum = c[NoiseTable::terms - 1];
    slope = 0.0;
#pragma unroll
    for (int k = static_cast<int>(NoiseTable::terms) - 2; k >= 0; --k) {
      slope = fma(slope, t, sum);
      sum = fma(sum, t, c[k]);
    }
    return sum;
  }
  /// Where it is `level`, by Newton's method: cells are so short that a line is near.
  __device__ double place_of(double level) const {
    double t = 0.0;
#pragma unroll 1
    for (int step = 0; step < 5; ++step) {
      double slope;
      const double over = value(t, slope) - level;
      t = fmin(fmax(t - over / slope, -1.0), 1.0);
    }
    return t;
  }
};

/// log F where a cell begins.
__device__ double log_cdf_of_begin(const NoiseTable& table, std::size_t cell) {
  double slope;
  return CellPolynomial(table, cell).value(-1.0, slope);
}

/// The x <= 0 with log F(x) = level <= -log 2.
__device__ double lower_quantile(const NoiseTable& table, double level) {
  const double lowest = log_cdf_of_begin(table, 0);
  if (level < lowest)
    return table.width * sinh(table.low) * exp((lowest - level) / table.tail_index);
  std::size_t cell = 0, end = table.cells / 2;  // where x is 0
  while (end - cell > 1) {
    const std::size_t middle = (cell + end) / 2;
    (log_cdf_of_begin(table, middle) <= level ? cell : end) = middle;
  }
  const double t = CellPolynomial(table, cell).place_of(level);
  return table.width * sinh(table.low + table.step * (static_cast<double>(cell) + 0.5 * (1.0 + t)));
}

__global__ void __launch_bounds__(quantile_threads)
    find_quantiles(const __grid_constant__ NoiseTable table, double* numbers, std::size_t count) {
  const std::size_t i = std::size_t{blockIdx.x} * quantile_threads + threadIdx.x;
  if (i >= count) return;
  const double q = numbers[i];
  const double x = lower_quantile(table, log(fmin(q, 1.0 - q)));
  numbers[i] = q > 0.5 ? -x : x;  // the law is symmetric
}

}  // namespace

cudaError_t tabulated_quantiles(const NoiseTable& table, double* numbers, std::size_t count,
                                cudaStream_t stream) {
  const Blocks blocks = {groups_of(count, quantile_threads)};
  return launch(&find_quantiles, {blocks, dim3(quantile_threads), 0, stream}, table, numbers,
                count);
}

}  // namespace logitkit::cuda
