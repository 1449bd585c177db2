// Panels of Gauss-Legendre nodes for one class, for laws with heavy tails.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "noise_argmax/gauss_legendre.h"
#include "noise_argmax/quadrature.h"

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// An end of an interval: the integrand there is e^(log_rivals + log_density).
struct End {
  double at, u;  // the coordinate, and what it stands for
  double log_rivals, log_density;
};

/// An interval, and bounds of the logarithm of the integral over it.
struct Interval {
  End low, high;
  double lower, upper;
};

/// Finds the intervals in which the integrand of a class counts, by halving them. What lies in one
/// is bounded by its ends, so that no peak is overlooked, however narrow and however far it is.
class IntervalSearch {
 public:
  /// The density has its only peak at the logit of the class; singularities of log F and log f
  /// are as far as `singularity` from each of the sorted points.
  IntervalSearch(const std::vector<double>& points, double singularity, double peak,
                 double log_peak_density)
      : points_(points),
        singularity_(singularity),
        peak_(peak),
        log_peak_density_(log_peak_density) {}

  /// The distribution functions of the rivals increase with u, and the density decreases on both
  /// sides of its peak.
  void add(const End& low, const End& high) {
    const auto [least, most] = std::minmax(low.log_density, high.log_density);
    const bool around = low.u < peak_ && peak_ < high.u;
    const double log_width = std::log(high.u - low.u);
    const double lower = low.log_rivals + least + log_width;
    const double upper = high.log_rivals + (around ? log_peak_density_ : most) + log_width;
    open_.push_back({low, high, lower, upper});
    least_ = std::max(least_, lower);
  }

  /// Keeps what panels of 16 nodes are enough for; returns the middles of intervals to be halved.
  std::vector<double> middles() {
    std::vector<double> at;
    halved_.clear();
    for (const Interval& x : open_) {
      if (!counts(x)) continue;
      const double middle = 0.5 * (x.low.at + x.high.at);
      const bool is_least = !(x.low.at < middle && middle < x.high.at);
      if (is_smooth(x) || is_least) {
        kept_.push_back(x);
      } else {
        halved_.push_back(x);
        at.push_back(middle);
      }
    }
    open_.clear();
    return at;
  }
  void halve(const std::vector<End>& middles) {
    for (std::size_t k = 0; k < halved_.size(); ++k) {
      add(halved_[k].low, middles[k]);
      add(middles[k], halved_[k].high);
    }
  }

  template <class F>
  void for_kept(const F& f) const {
    for (const Interval& x : kept_)
      if (counts(x)) f(x.low.u, x.high.u);
  }

 private:
  bool counts(const Interval& x) const {
    constexpr double drop = 46.0;  // what is less than e^-drop of the whole does not matter
    return x.upper > least_ - drop;
  }
  /// The integrand changes by a factor of e^10 at most, and its singularities are far.
  bool is_smooth(const Interval& x) const {
    const auto next = std::lower_bound(points_.begin(), points_.end(), x.low.u);
    double distance = infinity;
    if (next != points_.end()) distance = std::max(0.0, *next - x.high.u);
    if (next != points_.begin()) distance = std::min(distance, x.low.u - *(next - 1));
    return x.upper - x.lower <= 10.0 && x.high.u - x.low.u <= 0.5 * singularity_ + 2.0 * distance;
  }

  const std::vector<double>& points_;
  double singularity_, peak_, log_peak_density_;
  double least_ = -infinity;  // the logarithm of an integral that is no larger than the whole
  std::vector<Interval> open_, halved_, kept_;
};

}  // namespace

/// The integrand of a class may have a peak at each of the others, where a density like u^-a
/// decreases less than their distribution functions increase, and another one at its own logit.
void RowQuadrature::panels_of_class(double logit) {
  const bool is_table = law_ == NoiseLaw::tabulated;
  const double furthest = is_table ? noise_.table->width * std::sinh(-noise_.table->low) : 1e300;
  const double singularity = is_table ? std::min(1.0, noise_.table->width) : 1.0;
  std::vector<double> log_rivals, log_densities;
  const auto ends_at = [&](const std::vector<double>& at) {
    added_.resize(at.size());
    for (std::size_t k = 0; k < at.size(); ++k) added_[k] = node_at(at[k]);
    log_factors(added_, logit, log_rivals, log_densities);
    std::vector<End> ends(at.size());
    for (std::size_t k = 0; k < at.size(); ++k)
      ends[k] = {at[k], added_[k], log_rivals[k], log_densities[k]};
    return ends;
  };
  collect_breaks({});
  log_factors({logit}, logit, log_rivals, log_densities);
  IntervalSearch search(breaks_, singularity, logit, log_densities[0]);
  std::vector<double> at(samples + 1);
  for (std::size_t k = 0; k <= samples; ++k)
    at[k] = coordinate_of(furthest) * (static_cast<double>(2 * k) / double{samples} - 1.0);
  const std::vector<End> first = ends_at(at);
  for (std::size_t k = 0; k < samples; ++k) search.add(first[k], first[k + 1]);
  while (!(at = search.middles()).empty()) search.halve(ends_at(at));
  all_nodes_.clear();
  all_masses_.clear();
  search.for_kept(
      [&](double low, double high) { add_gauss_legendre(16, low, high, all_nodes_, all_masses_); });
  cut_into_parts();
}

}  // namespace logitkit
