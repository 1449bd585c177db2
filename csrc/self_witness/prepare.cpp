#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "self_witness/self_witness.h"
#include "threads.h"

namespace logitkit {
namespace {

constexpr std::size_t rows_per_task = 256;
constexpr double largest_square = 0x1p125;  // products of two rows stay finite in float32

float round_up(double value) {
  const auto nearest = static_cast<float>(value);
  return double{nearest} >= value ? nearest
                                  : std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

float round_down(double value) { return -round_up(-value); }

}  // namespace

std::size_t prepare_self_witness(const Matrix& z, double error, float* tails, float* squares,
                                 std::size_t threads) {
  const std::size_t steps = witness_tails(z.columns);
  // A float64 sum of squares of floats is right to columns * 2^-53; 2^-30 is far beyond that.
  constexpr double outward = 0x1p-30;
  const double room = error * (1.0 + 0x1p-20) + 0x1p-21;
  // What underflow can take from one product, twice.
  const double underflow = static_cast<double>(z.columns + 1) * 0x1p-147;
  std::atomic<std::size_t> bad{z.rows};

  parallel_for((z.rows + rows_per_task - 1) / rows_per_task, threads, [&](std::size_t task) {
    const std::size_t end = std::min(z.rows, (task + 1) * rows_per_task);
    std::vector<double> sums(steps);
    for (std::size_t j = task * rows_per_task; j < end; ++j) {
      const float* row = z.data + j * z.columns;
      sums[steps - 1] = 0.0;
      for (std::size_t s = steps - 1; s-- > 0;) {
        double sum = 0.0;
        for (std::size_t k = s * witness_step; k < std::min(z.columns, (s + 1) * witness_step); ++k)
          sum += double{row[k]} * double{row[k]};
        sums[s] = sums[s + 1] + sum;
      }
      const double square = sums[0];
      if (!(square <= largest_square)) {
        for (std::size_t seen = bad; j < seen && !bad.compare_exchange_weak(seen, j);) {
        }
        continue;
      }
      squares[j] = round_down(square * (1.0 - outward) - underflow);
      for (std::size_t s = 0; s < steps; ++s)
        tails[s * z.rows + j] = round_up(std::sqrt(sums[s] + room * square) * (1.0 + outward));
    }
  });
  return bad;
}

}  // namespace logitkit
