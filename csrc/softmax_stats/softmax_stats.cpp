#include "softmax_stats/softmax_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "simd/flush_denormals.h"

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct Stats {
  double logsumexp, entropy, max, sum_of_squares;
};

template <class T>
void write(const Stats& stats, const SoftmaxStats<T>& out, std::size_t i) {
  out.logsumexp[i] = static_cast<T>(stats.logsumexp);
  out.entropy[i] = static_cast<T>(stats.entropy);
  out.max[i] = static_cast<T>(stats.max);
  out.sum_of_squares[i] = static_cast<T>(stats.sum_of_squares);
}

/// Items that the loops have not been made for.
template <class T>
Stats stats_of_item(const Block<T>& block, std::size_t item, double scale) {
  const auto z = [&](std::size_t j) {
    const double x = block.x[item * block.item_step + j * block.term_step];
    return x == -infinity ? x : scale * x;  // 0 * -inf would be NaN
  };
  double max = -infinity, sum = 0.0, mean = 0.0, squares = 0.0;
  for (std::size_t j = 0; j < block.terms; ++j) {
    if (std::isnan(z(j))) return {nan, nan, nan, nan};
    max = std::max(max, z(j));
  }
  if (max == -infinity) return {max, 0.0, max, 0.0};
  if (max == infinity) return {max, nan, max, nan};
  for (std::size_t j = 0; j < block.terms; ++j) {
    const double p = std::exp(z(j) - max);
    sum += p;
    if (p > 0.0) mean += p * (z(j) - max);
    squares += p * p;
  }
  const double log_sum = std::log(sum);
  return {max + log_sum, std::max(0.0, log_sum - mean / sum), max, squares / sum / sum};
}

}  // namespace

template <class T>
void softmax_stats(const T* x, const Layout& layout, T scale, const SoftmaxStats<T>& out,
                   std::size_t threads, Isa isa) {
  const AllSumExpLoops& loops = sum_exp_loops(isa);
  BlockTask<T> task;
  task.sum = [&](const Block<T>& block, const ItemSums& sums) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    loops_for<T>(loops).sum_moments(block, scale, sums.moments());
  };
  task.finish = [&](const Block<T>& block, const ItemSums& sums, std::size_t first) {
    const SumExpMoments moments = sums.moments();
    std::vector<double> log_sums(block.items);
    loops.log.stats(block.items, moments, log_sums.data());
    for (std::size_t i = 0; i < block.items; ++i) {
      // Squares overflow where terms rise to the end of their range: sixty octaves above the first.
      if (!sums.usable(i) || !std::isfinite(moments.sum_of_squares[i])) {
        write(stats_of_item(block, i, double{scale}), out, first + i);
        continue;
      }
      double& max = moments.sums.max[i];
      if (std::abs(max) < double{std::numeric_limits<T>::min()}) {
        loops_for<T>(loops).max(block.part(i, 1), &max);  // it may be denormal, taken for zero
        max *= double{scale};
      }
      const double squares = std::min(1.0, moments.sum_of_squares[i]);
      write({log_sums[i], moments.mean[i], max, squares}, out, first + i);
    }
  };
  for_each_block(x, layout, loops, threads, task);
}

template void softmax_stats(const float*, const Layout&, float, const SoftmaxStats<float>&,
                            std::size_t, Isa);
template void softmax_stats(const double*, const Layout&, double, const SoftmaxStats<double>&,
                            std::size_t, Isa);

}  // namespace logitkit
