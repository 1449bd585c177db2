// The integrals over u of one row by a block of threads:
//   P(class i is the largest) = int r_i(u) G(u) du, G(u) = prod_j F(u - mu_j),
//   r_i(u) = f(u - mu_i) / F(u - mu_i),
// by Gauss-Legendre rules on panels, a tile of nodes at a time. All threads compute what decides
// where nodes lie, from the same numbers; quadrature.h says why they lie there.
#pragma once

#include "noise_argmax/row_sums_cuda.h"

namespace logitkit::cuda {

/// The Gauss-Legendre rules with 4, 8 and 16 nodes from -1 to 1, one after the other.
struct PanelRules {
  double nodes[28], weights[28];
};

/// How exact the integrals are to be, and down to which probabilities.
struct NoiseAccuracy {
  double error;  // relative
  double floor;  // the logarithm of the least probability that matters
};

template <class Law>
class RowIntegrals : public RowSums<Law> {
 public:
  struct Range {
    double low, high;  // coordinates
  };
  using RowSums<Law>::largest, RowSums<Law>::smallest, RowSums<Law>::shifted;
  using RowSums<Law>::log_integrand;

  __device__ RowIntegrals(IntegralMemory& memory, const PanelRules& rules, const Elements& logits,
                          std::size_t first, std::size_t classes, double scale, const Law& law)
      : RowSums<Law>(memory, logits, first, classes, scale, law), rules_(rules) {}

  /// Panels that suit all classes with a probability above exp(accuracy.floor).
  __device__ void place(const NoiseAccuracy& accuracy) {
    const Range range = range_of_max(accuracy);
    begin_panels(range);
  }
  /// Panels for the class with this shifted logit; returns the logarithm of its integrand at
  /// the highest sample.
  __device__ double place_for_class(double logit) {
    if constexpr (Law::is_heavy) {  // whose integrands have several maxima
      Range range = range_of_max({1e-14, Law::least_log_prob});
      range.high = fmax(range.high, law_.coordinate_of(law_.reach(-logit)));
      begin_panels(range);
      double log = -infinity<double>();
      if (threadIdx.x < 2 * samples) {
        const unsigned k = threadIdx.x;
        log = log_integrand(memory_.sample_nodes[k], logit, memory_.log_max_cdfs[k]);
      }
      return largest(log);
    } else {
      double top;
      const Range range = range_of_class(logit, top);
      begin_panels(range);
      of_low_class_ = logit < 0.0;
      // Over a smooth integrand from e^-46 of its maximum to e^-46; that of logistic noise is as
      // good as constant between logits far from each other, but for its ends, which are exact down
      // to -1e4. Farther out the work must not grow.
      constexpr double most_panels = 4096.0;
      const double length = high_ - u_;
      if constexpr (Law::is_smooth)
        fixed_width_ = fmin(length / 32.0, fmax(Law::widest_panel, length / most_panels));
      return top;
    }
  }

  /// What the integral of u G'(u) lacks beyond the nodes: 1 - G(v) decreases like v^-a, so that
  /// int_u^inf v G'(v) dv = u (1 - G(u)) a / (a - 1), and G(v) like |v|^(-a n) on the other side.
  __device__ double mean_of_tails() const {
    if constexpr (Law::is_tabulated) {
      constexpr unsigned last = 2 * samples - 1;
      const double a = law_.table.tail_index, b = a * kept_;
      return memory_.sample_nodes[0] * exp(memory_.log_max_cdfs[0]) * b / (b - 1.0) -
             memory_.sample_nodes[last] * expm1(memory_.log_max_cdfs[last]) * a / (a - 1.0);
    } else {
      return 0.0;
    }
  }

  /// Fills the nodes of the next tile, with weights as masses; returns how many there are.
  __device__ unsigned next_tile() {
    __syncthreads();
    unsigned count = 0;
    while (u_ < high_ && count + 16 <= tile_nodes) {
      double change;
      const double end = end_of_panel(change);
      if (!(end > u_)) {
        u_ = high_;
        break;
      }
      const bool flat = Law::has_breaks && !Law::is_heavy && change < 0.5;
      const unsigned size = flat ? change < 0.1 ? 4 : 8 : 16;
      if (threadIdx.x < size) {
        const double half = 0.5 * (end - u_);
        const unsigned k = size - 4 + threadIdx.x;  // 4 + 8 = 16 - 4
        memory_.nodes[count + threadIdx.x] = u_ + half * (1.0 + rules_.nodes[k]);
        memory_.masses[count + threadIdx.x] = half * rules_.weights[k];
      }
      count += size;
      u_ = end;
    }
    if (count == 0 && !has_nodes_) {  // so far out numbers lie farther apart than the range is wide
      if (threadIdx.x == 0) {
        memory_.nodes[0] = u_;
        memory_.masses[0] = 1.0;
      }
      count = 1;
    }
    has_nodes_ = true;
    __syncthreads();
    return count;
  }

 private:
  using RowSums<Law>::law_, RowSums<Law>::memory_, RowSums<Law>::classes_, RowSums<Law>::least_;
  using RowSums<Law>::kept_, RowSums<Law>::log_cdf_sums, RowSums<Law>::point;
  using RowSums<Law>::point_count_;

  /// Coordinates of equal distance from `begin` on, whose log G evaluate() gives.
  __device__ void sample(unsigned begin, Range range, unsigned count) {
    const double step = (range.high - range.low) / static_cast<double>(count - 1);
    __syncthreads();
    if (threadIdx.x < count) {
      const double at = range.low + step * static_cast<double>(threadIdx.x);
      memory_.at[begin + threadIdx.x] = at;
      memory_.sample_nodes[begin + threadIdx.x] = law_.node_at(at);
    }
  }
  __device__ void evaluate(unsigned count) {
    log_cdf_sums(memory_.sample_nodes, count, memory_.log_max_cdfs);
  }

  /// The last of the samples [begin, end) that is not above the level, but the very last.
  __device__ unsigned find(unsigned begin, unsigned end, double level) const {
    unsigned k = begin;
    while (k + 2 < end && memory_.log_max_cdfs[k + 1] <= level) ++k;
    return k;
  }

  /// How small G may be where it still matters: the smallest probability is at least
  /// G(u) P(mu_min + noise > u), for every u; the noise is symmetric.
  __device__ double needed_floor(const NoiseAccuracy& accuracy) {
    const double margin = log(accuracy.error);
    if (Law::begins_at_zero && !Law::has_breaks) return margin - 20.0;  // exponential noise
    double least = accuracy.floor;
    if (threadIdx.x < samples) {
      const double middle = Law::begins_at_zero ? 1.0 : 0.0;  // twice the median
      const double tail = law_.log_cdf(middle + least_ - memory_.sample_nodes[threadIdx.x]);
      least = fmax(least, memory_.log_max_cdfs[threadIdx.x] + tail);
    }
    return fmin(largest(least), 0.0) + margin;
  }

  /// The quantiles of G between which the integrals run.
  __device__ Range range_of_max(const NoiseAccuracy& accuracy) {
    double mass = accuracy.error / static_cast<double>(classes_);
    constexpr double least_mass = 1e-60;
    // Where tails are heavy, those of classes far below the largest reach as far above it.
    if (Law::is_heavy && !Law::is_tabulated) mass /= 1.0 + fmin(-least_, 1e100);
    const double lowest = law_.lower_bound(accuracy.floor + log(accuracy.error));
    const double highest = law_.upper_bound(Law::is_tabulated ? least_mass : mass);
    sample(0, {law_.coordinate_of(lowest), law_.coordinate_of(highest)}, samples);
    evaluate(samples);
    const double floor = needed_floor(accuracy);
    // The same of any tail: e^floor / error is the least probability.
    if (Law::is_tabulated) mass = fmax(least_mass, exp(floor) * mass / accuracy.error);
    const unsigned low = find(0, samples, floor), high = find(0, samples, -mass);
    const Range lows = {memory_.at[low], memory_.at[low + 1]};
    const Range highs = {memory_.at[high], memory_.at[high + 1]};
    constexpr unsigned half = samples / 2;
    sample(0, lows, half);  // once more, within the two intervals
    sample(half, highs, half);
    evaluate(samples);
    return {memory_.at[find(0, half, floor)], memory_.at[find(half, samples, -mass) + 1]};
  }

  /// Where the integrand of one class is above e^-drop of its maximum. It is log-concave, so that
  /// the samples beside the highest enclose the maximum.
  __device__ Range range_of_class(double logit, double& top) {
    constexpr double drop = 46.0;
    double high = law_.upper_bound(exp(-drop) / static_cast<double>(classes_));
    if (Law::has_breaks && Law::begins_at_zero) high = fmin(high, logit + 1.0);
    const double low =
        Law::begins_at_zero ? law_.lower_bound(-600.0) : logit + law_.lower_bound(-drop);
    Range range = {law_.coordinate_of(low), law_.coordinate_of(high)};
    for (int pass = 0; pass < 60; ++pass) {
      sample(0, range, samples);
      evaluate(samples);
      double log = -infinity<double>();
      if (threadIdx.x < samples) {
        const unsigned k = threadIdx.x;
        log = log_integrand(memory_.sample_nodes[k], logit, memory_.log_max_cdfs[k]);
        if (Law::begins_at_zero) log += memory_.at[k];  // du = u d log u
        memory_.logs[k] = log;
      }
      top = largest(log);  // and a barrier
      unsigned first = 0, last = samples - 1;
      while (first + 1 < samples && memory_.logs[first + 1] < top - drop) ++first;
      while (last > first + 1 && memory_.logs[last - 1] < top - drop &&
             memory_.logs[last] < top - drop)
        --last;
      range = {memory_.at[first], memory_.at[last]};
      if (last - first >= samples / 3 || !(range.high - range.low > 0.0)) break;
    }
    return range;
  }

  __device__ void begin_panels(Range range) {
    sample(0, range, 2 * samples);
    evaluate(2 * samples);
    low_ = u_ = law_.node_at(range.low);
    high_ = law_.node_at(range.high);
    fixed_width_ = 0.0;
    of_low_class_ = false;
    sample_ = 0;
    has_nodes_ = false;
  }

  /// The next break points on both sides of u_, or peaks of densities where tails are heavy, and
  /// how many are above.
  __device__ void find_breaks(double& before, double& after, double& higher) {
    before = -infinity<double>();
    after = infinity<double>();
    higher = 0.0;
    for (std::size_t j = threadIdx.x; j < point_count_; j += integral_threads) {
      const double at = point(j) + Law::break_shift;
      if (!Law::is_heavy && !(at > low_ && at < high_)) continue;
      if (at <= u_) {
        before = fmax(before, at);
      } else {
        after = fmin(after, at);
        higher += 1.0;
      }
    }
    before = largest(before);
    after = smallest(after);
    if (Law::has_lines) higher = this->total(higher);
  }

  /// Where the panel from u_ on ends, and how much the integrands change in it.
  __device__ double end_of_panel(double& change) {
    // log G is concave, or nearly so for heavy tails: its slope before u bounds what follows.
    const double *log_g = memory_.log_max_cdfs, *at = memory_.sample_nodes;
    while (sample_ + 2 < 2 * samples && at[sample_ + 1] <= u_) ++sample_;
    double rate = 0.0;
    for (unsigned i = sample_ < 1 ? 0 : sample_ - 1; i <= sample_; ++i) {
      const double slope = (log_g[i + 1] - log_g[i]) / (at[i + 1] - at[i]);
      rate = slope > rate ? slope : rate;
    }
    if (sample_ == 0) rate *= 4.0;
    double before = -infinity<double>(), after = infinity<double>(), higher = 0.0;
    if (Law::has_breaks) find_breaks(before, after, higher);
    const double above = after - u_;
    double width =
        fixed_width_ > 0.0 ? fixed_width_ : law_.panel_width(u_, rate, {u_ - before, above});
    const double below = u_ - before;
    if (Law::has_lines && of_low_class_ && below >= 40.0 && fmax(below, above) < infinity<double>())
      width = fmax(width, fmin(above, 10.0 / (higher - 1.0)));
    if (above < 1.25 * width && !Law::is_heavy) width = above;
    const double end = fmin(high_, width == above ? after : u_ + width);
    change = (end - u_) * (rate + 1.0);
    return end;
  }

  const PanelRules& rules_;
  double low_ = 0.0, high_ = 0.0, u_ = 0.0, fixed_width_ = 0.0;
  unsigned sample_ = 0;
  bool has_nodes_ = false;     // since begin_panels()
  bool of_low_class_ = false;  // whether panels are for one class, which is not the largest
};

}  // namespace logitkit::cuda
