#include "noise_argmax/quadrature.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t first_nodes = 20;  // of the coarsest trapezoidal rule
constexpr std::size_t most_nodes = 1 << 17;

bool is_smooth(NoiseLaw law) { return law == NoiseLaw::normal || law == NoiseLaw::logistic; }

/// Whether sums over the coarse and the fine half of the nodes agree so well that the error of
/// both together is below `error`. That of the trapezoidal rule for an analytic integrand
/// decreases like exp(-c / step) or faster: with half the step it is at most the square.
bool agree(double coarse, double fine, double error) {
  return std::abs(coarse - fine) <= std::sqrt(error) * (coarse + fine);
}

/// Sums may agree by chance where steps are wider than the integrand's details: between two logits
/// far from each other, that of logistic noise is as good as constant. Its singularities are at a
/// distance of pi, so that the error is exp(-2 pi^2 / step); that of normal noise has none.
double widest_step(double error) {
  constexpr double pi = 3.141592653589793;
  return 2.0 * pi * pi / -std::log(error);
}

}  // namespace

void RowQuadrature::sum_log_cdfs(const std::vector<double>& nodes,
                                 std::vector<double>& sums) const {
  if (sweeping_ && &nodes == &nodes_) return sweep_.log_cdf_sums(cells_.weights(), sums);
  sums.resize(nodes.size());
  loops_.log_cdf_sums(noise_, cells_.points().data(), cells_.weights().data(),
                      cells_.points().size(), nodes.data(), nodes.size(), sums.data());
}

void RowQuadrature::sum_ratios(const std::vector<double>& weights,
                               std::vector<double>& sums) const {
  if (sweeping_) return sweep_.ratio_sums(weights, sums);
  sums.resize(nodes_.size());
  loops_.ratio_sums(noise_, cells_.points().data(), weights.data(), cells_.points().size(),
                    nodes_.data(), nodes_.size(), sums.data());
}

void RowQuadrature::integrate(const std::vector<double>& factors,
                              std::vector<double>& integrals) const {
  if (sweeping_) return sweep_.ratio_integrals(factors, integrals);
  integrals.resize(cells_.points().size());
  loops_.ratio_integrals(noise_, nodes_.data(), factors.data(), nodes_.size(),
                         cells_.points().data(), cells_.points().size(), integrals.data());
}

template <class T>
void RowQuadrature::place(const T* logits, std::size_t n, double scale,
                          const NoiseAccuracy& accuracy) {
  sweeping_ = false;
  cells_.take(logits, n, scale, farthest());
  cells_.divide(limits(infinity, 0.0));
  const Range range = range_of_max(accuracy);
  if (is_smooth(law_)) return trapezoids(range, accuracy);
  panels(range, 0.0);
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    select_nodes(part);
    sum_log_cdfs(nodes_, sums_);
    for (std::size_t k = 0; k < nodes_.size(); ++k)
      all_masses_[parts_[part].begin + k] *= std::exp(sums_[k]);
  }
}

/// One part holds all nodes unless noise is uniform: then classes are smooth, as far as they are
/// seen from nodes between u and v, whose logits are above v - 1. Those below u - 1 are certain
/// to lose, and those between stay points of their own.
void RowQuadrature::cut_into_parts() {
  constexpr std::size_t nodes_of_part = 512;
  sweeping_ = law_ == NoiseLaw::uniform && all_nodes_.size() > nodes_of_part &&
              UniformSweep::suits(all_nodes_.front());
  const bool whole = law_ != NoiseLaw::uniform || sweeping_;
  const std::size_t size = whole ? all_nodes_.size() : nodes_of_part;
  parts_.clear();
  for (std::size_t begin = 0; begin < all_nodes_.size(); begin += size) {
    const std::size_t end = std::min(begin + size, all_nodes_.size());
    parts_.push_back({begin, end, all_nodes_[begin], all_nodes_[end - 1]});
  }
}

void RowQuadrature::select_nodes(std::size_t index) {
  const Part& part = parts_[index];
  const auto begin = static_cast<std::ptrdiff_t>(part.begin);
  const auto end = static_cast<std::ptrdiff_t>(part.end);
  nodes_.assign(all_nodes_.begin() + begin, all_nodes_.begin() + end);
  masses_.assign(all_masses_.begin() + begin, all_masses_.begin() + end);
  if (law_ != NoiseLaw::uniform) return;
  if (sweeping_) {
    cells_.divide({1.0, infinity, infinity, std::max(above_minus_one, part.low - 1.0)});
    return sweep_.take(cells_.points(), nodes_);
  }
  // Cells that are small beside their distance from u, where log F is singular, and that end
  // at v - 1.
  const double depth = std::max(0.0, 1.0 - part.high);
  const double count = std::ceil(depth / (0.5 * part.low));
  const bool wide = count < static_cast<double>(cells_.classes());
  const double width = wide && count > 0.0 ? depth / count : 1.0;
  const double smooth_above = wide && count > 0.0 ? -depth : infinity;
  cells_.divide({width, smooth_above, infinity, std::max(above_minus_one, part.low - 1.0)});
}

void RowQuadrature::select(std::size_t part) {
  if (parts_.size() == 1 && nodes_.size() == all_nodes_.size() && !probabilities_.empty()) return;
  if (sweeping_)
    masses_ = all_masses_;  // the nodes were selected for the integrands
  else
    select_nodes(part);
  integrate(masses_, probabilities_);
}

/// Halves the step until the old and the new half of the nodes agree for every class.
void RowQuadrature::trapezoids(Range range, const NoiseAccuracy& accuracy) {
  double step = (range.high - range.low) / double{first_nodes};
  const double least = std::exp(accuracy.floor);
  nodes_.clear();
  masses_.clear();
  std::vector<double> masses, integrals;
  probabilities_.assign(cells_.points().size(), 0.0);
  double offset = 0.0;  // of the new nodes, in steps
  for (std::size_t count = first_nodes;; count *= 2) {
    added_.resize(count);
    for (std::size_t k = 0; k < count; ++k)
      added_[k] = range.low + step * (static_cast<double>(k) + offset);
    sum_log_cdfs(added_, sums_);
    masses.resize(count);
    for (std::size_t k = 0; k < count; ++k) masses[k] = std::exp(sums_[k]);
    integrals.resize(probabilities_.size());
    loops_.ratio_integrals(noise_, added_.data(), masses.data(), count, cells_.points().data(),
                           cells_.points().size(), integrals.data());
    bool enough = offset > 0.0 && 0.5 * step <= widest_step(accuracy.error);
    for (std::size_t c = 0; c < integrals.size(); ++c) {
      const double coarse = probabilities_[c], fine = integrals[c];
      if (step * (coarse + fine) > least) enough = enough && agree(coarse, fine, accuracy.error);
      probabilities_[c] = coarse + fine;
    }
    nodes_.insert(nodes_.end(), added_.begin(), added_.end());
    masses_.insert(masses_.end(), masses.begin(), masses.end());
    if (offset > 0.0) step *= 0.5;
    if (enough || nodes_.size() >= most_nodes) break;
    if (offset == 0.0) count /= 2;  // the first refinement adds as many nodes as there are
    offset = 0.5;
  }
  for (double& mass : masses_) mass *= step;
  for (double& probability : probabilities_) probability *= step;
  all_nodes_ = nodes_;
  all_masses_ = masses_;
  cut_into_parts();
}

/// Scales masses, which are weights, by integrands; returns the logarithm of their sum.
double RowQuadrature::normalize(const std::vector<double>& logs) {
  const double top = *std::max_element(logs.begin(), logs.end());
  double sum = 0.0;
  for (std::size_t k = 0; k < logs.size(); ++k) {
    all_masses_[k] *= std::exp(logs[k] - top);
    sum += all_masses_[k];
  }
  for (double& mass : all_masses_) mass /= sum;
  return top + std::log(sum);
}

double RowQuadrature::trapezoids_of_class(Range range, double logit) {
  double step = (range.high - range.low) / double{first_nodes};
  double top = -infinity, total = 0.0;
  nodes_.clear();
  logs_.clear();
  double offset = 0.0;
  std::vector<double> logs;
  for (std::size_t count = first_nodes;; count *= 2) {
    added_.resize(count);
    for (std::size_t k = 0; k < count; ++k)
      added_[k] = range.low + step * (static_cast<double>(k) + offset);
    log_integrands(added_, logit, logs);
    if (offset == 0.0) top = *std::max_element(logs.begin(), logs.end());
    double sum = 0.0;
    for (const double log : logs) sum += std::exp(log - top);
    nodes_.insert(nodes_.end(), added_.begin(), added_.end());
    logs_.insert(logs_.end(), logs.begin(), logs.end());
    constexpr double error = 1e-15;
    const bool is_fine = offset > 0.0 && 0.5 * step <= widest_step(error);
    const bool enough = is_fine && agree(total, sum, error);
    total += sum;
    if (offset > 0.0) step *= 0.5;
    if (enough || nodes_.size() >= most_nodes) break;
    if (offset == 0.0) count /= 2;
    offset = 0.5;
  }
  all_nodes_ = nodes_;
  all_masses_.assign(nodes_.size(), step);
  cut_into_parts();
  return normalize(logs_);
}

template <class T>
double RowQuadrature::log_prob(const T* logits, std::size_t n, double scale, std::size_t index) {
  probabilities_.clear();
  sweeping_ = false;
  cells_.take(logits, n, scale, farthest());
  double logit = (static_cast<double>(logits[index]) - cells_.max()) / scale;
  if (static_cast<double>(logits[index]) != -infinity) logit = std::max(logit, -farthest());
  if (logit == -infinity || (law_ == NoiseLaw::uniform && logit <= -1.0)) {
    parts_.clear();
    return -infinity;
  }
  if (has_heavy_tails()) {  // whose integrands have several maxima
    cells_.divide(limits(infinity, 0.0));
    panels_of_class(logit);
    log_integrands(all_nodes_, logit, logs_);
    return normalize(logs_);
  }
  cells_.divide(limits(infinity, logit));
  const Range range = range_of_class(logit);
  if (is_smooth(law_)) return trapezoids_of_class(range, logit);
  panels(range, logit);
  std::vector<double> logs(all_nodes_.size());
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    select_nodes(part);
    log_integrands(nodes_, logit, logs_);
    std::copy(logs_.begin(), logs_.end(),
              logs.begin() + static_cast<std::ptrdiff_t>(parts_[part].begin));
  }
  return normalize(logs);
}

template void RowQuadrature::place(const float*, std::size_t, double, const NoiseAccuracy&);
template void RowQuadrature::place(const double*, std::size_t, double, const NoiseAccuracy&);
template double RowQuadrature::log_prob(const float*, std::size_t, double, std::size_t);
template double RowQuadrature::log_prob(const double*, std::size_t, double, std::size_t);

}  // namespace logitkit
