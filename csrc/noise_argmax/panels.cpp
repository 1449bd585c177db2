// Panels of Gauss-Legendre nodes, for laws whose densities have breaks or heavy tails.
#include "noise_argmax/quadrature.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "noise_argmax/gauss_legendre.h"

namespace logitkit {
namespace { constexpr double infinity = std::numeric_limits<double>::infinity(); }  // namespace

/// Where the integrands are not smooth.
void RowQuadrature::collect_breaks(Range range) {
  breaks_.clear();
  if (law_ == NoiseLaw::laplace || law_ == NoiseLaw::uniform) {
    const double shift = law_ == NoiseLaw::uniform ? 1.0 : 0.0;
    const double low = node_at(range.low), high = node_at(range.high);
    for (const double point : cells_.points())
      if (point + shift > low && point + shift < high) breaks_.push_back(point + shift);
  } else if (has_heavy_tails()) {
    breaks_ = cells_.points();  // no breaks, but each density has its peak there
  }
  std::sort(breaks_.begin(), breaks_.end());
  breaks_.erase(std::unique(breaks_.begin(), breaks_.end()), breaks_.end());
}

/// The width of a panel from u on such that 16 nodes are enough: the integrand changes by a
/// factor of e^10 at most, and its singularities are far in comparison. `below` and `above` are
/// the distances to the next break points.
double RowQuadrature::panel_width(double u, double rate, double below, double above) const {
  const double width = 10.0 / (1.0 + rate);
  switch (law_) {
    case NoiseLaw::laplace:  // F has its zeros at mu - log 2, beside the break point mu
      return std::min({width, 0.69 + std::max(0.0, std::min(below, u + 40.0)), above});
    case NoiseLaw::uniform: return std::min({10.0 / rate, 2.0 * u, above});
    case NoiseLaw::exponential: return std::min(width, u);
    case NoiseLaw::cauchy: return std::min(10.0 / rate, 0.5 * (1.0 + std::min(below, above)));
    case NoiseLaw::tabulated: {
      const double singularity = std::min(1.0, noise_.table->width);
      return std::min(10.0 / rate, 0.5 * (singularity + std::min(below, above)));
    }
    default: return width;
  }
}

/// The same for Laplace noise far above a break point, where the logarithm of the integrand of one
/// class is a line up to the next one: level, if but one rival is above it.
double RowQuadrature::width_of_line(double u, double logit, double below, double above) const {
  if (law_ != NoiseLaw::laplace || logit == 0.0 || std::max(below, above) == infinity) return 0.0;
  if (below < 40.0) return 0.0;
  std::vector<double> log_rivals, log_densities;
  log_factors({u, u + above}, logit, log_rivals, log_densities);
  const double rise = log_rivals[1] - log_rivals[0] + log_densities[1] - log_densities[0];
  return std::min(above, 10.0 * above / std::abs(rise));
}

/// Gauss-Legendre rules on panels between the break points, for the class with this logit, or all
/// if it is 0.
void RowQuadrature::panels(Range range, double logit) {
  // Where u runs over classes, their log F(u - mu) are not smooth in mu.
  if (law_ == NoiseLaw::laplace) cells_.divide(limits(node_at(range.low), logit));
  sample(range, 2 * samples);
  collect_breaks(range);
  all_nodes_.clear();
  all_masses_.clear();
  probabilities_.clear();
  const double high = node_at(range.high);
  double u = node_at(range.low);
  std::size_t next_break = 0, k = 0;
  while (u < high) {
    while (next_break < breaks_.size() && breaks_[next_break] <= u) ++next_break;
    while (k + 2 < at_.size() && node_at(at_[k + 1]) <= u) ++k;
    // log G is concave, or nearly so for heavy tails: its slope before u bounds what follows.
    double rate = 0.0;
    for (std::size_t i = k < 1 ? 0 : k - 1; i <= k; ++i)
      rate = std::max(rate, (log_max_cdfs_[i + 1] - log_max_cdfs_[i]) /
                                (node_at(at_[i + 1]) - node_at(at_[i])));
    if (k == 0) rate *= 4.0;
    const double below = next_break > 0 ? u - breaks_[next_break - 1] : infinity;
    const double above = next_break < breaks_.size() ? breaks_[next_break] - u : infinity;
    double width =
        std::max(panel_width(u, rate, below, above), width_of_line(u, logit, below, above));
    if (above < 1.25 * width && !has_heavy_tails()) width = above;
    const double end = std::min(high, width == above ? breaks_[next_break] : u + width);
    if (!(end > u)) break;
    const double change = (end - u) * (rate + 1.0);
    const bool flat = breaks_.size() > 1 && !has_heavy_tails() && change < 0.5;
    add_gauss_legendre(flat ? change < 0.1 ? 4 : 8 : 16, u, end, all_nodes_, all_masses_);
    u = end;
  }
  if (all_nodes_.empty()) {  // so far out numbers lie farther apart than the range is wide
    all_nodes_.push_back(u);
    all_masses_.push_back(1.0);
  }
  lower_end_ = node_at(range.low);
  upper_end_ = high;
  cut_into_parts();
}

/// 1 - G(v) decreases like v^-a, so that int_u^inf v G'(v) dv = u (1 - G(u)) a / (a - 1); and
/// G(v) like |v|^(-a n) on the other side.
double RowQuadrature::mean_of_tails() const {
  if (law_ != NoiseLaw::tabulated) return 0.0;
  std::vector<double> sums;
  sum_log_cdfs({lower_end_, upper_end_}, sums);
  const double a = noise_.table->tail_index;
  const double b = a * static_cast<double>(cells_.classes());
  return lower_end_ * std::exp(sums[0]) * b / (b - 1.0) -
         upper_end_ * std::expm1(sums[1]) * a / (a - 1.0);
}

}  // namespace logitkit
