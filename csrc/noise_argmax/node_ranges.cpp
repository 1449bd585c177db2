// Where the nodes of one row lie: the ends of its integrals.
#include "noise_argmax/quadrature.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double cell_width = 0.5;
// Of an integrand what is e^-drop below its maximum does not matter.
constexpr double drop = 46.0;

}  // namespace

ClassCells::Limits RowQuadrature::limits(double smooth_below, double lowest) const {
  switch (law_) {
    case NoiseLaw::normal: return {cell_width, -infinity, infinity, std::min(-64.0, lowest - 50.0)};
    case NoiseLaw::cauchy: return {cell_width, -infinity, infinity, -infinity};
    case NoiseLaw::tabulated:
      return {cell_width * std::min(1.0, noise_.table->width), -infinity, infinity, -infinity};
    case NoiseLaw::uniform: return {cell_width, infinity, -infinity, above_minus_one};
    // log F is singular at u = mu, and u > 0.
    case NoiseLaw::exponential: smooth_below = -1.5; break;
    default: break;
  }
  return {cell_width, -infinity, smooth_below, std::min(-1600.0, lowest - 800.0)};
}

bool RowQuadrature::has_heavy_tails() const {
  return law_ == NoiseLaw::cauchy || law_ == NoiseLaw::tabulated;
}

/// Where tails are heavy, nodes lie around every class, and have to tell widths of its noise apart;
/// squares of numbers must not overflow.
double RowQuadrature::farthest() const {
  if (has_heavy_tails()) return 0x1p50;
  return law_ == NoiseLaw::normal ? 1e154 : infinity;
}

/// Some u with log F(u) <= log_floor.
double RowQuadrature::lower_bound(double log_floor) const {
  switch (law_) {
    case NoiseLaw::normal: return -std::sqrt(-2.0 * log_floor);
    case NoiseLaw::cauchy: return -std::exp(std::min(700.0, -log_floor));
    case NoiseLaw::tabulated: {
      double low = noise_.table->low, high = 0.0;  // of s
      const double zero = 0.0, one = 1.0;
      for (int step = 0; step < 40; ++step) {
        const double middle = 0.5 * (low + high), u = noise_.table->width * std::sinh(middle);
        double log_cdf;
        loops_.log_cdf_sums(noise_, &zero, &one, 1, &u, 1, &log_cdf);
        (log_cdf <= log_floor ? low : high) = middle;
      }
      return noise_.table->width * std::sinh(low);
    }
    case NoiseLaw::uniform:
    case NoiseLaw::exponential: return std::exp(std::max(log_floor, -600.0));
    default: return log_floor;
  }
}

/// Some u with 1 - F(u) <= mass.
double RowQuadrature::upper_bound(double mass) const {
  switch (law_) {
    case NoiseLaw::normal: return std::sqrt(-2.0 * std::log(mass));
    case NoiseLaw::cauchy: return 1.0 / mass;
    case NoiseLaw::tabulated: return -lower_bound(std::log(mass));
    case NoiseLaw::uniform: return 1.0;
    default: return -std::log(mass);
  }
}

/// Nodes are looked for at equal distances of a coordinate in which G varies evenly.
double RowQuadrature::coordinate_of(double u) const {
  switch (law_) {
    case NoiseLaw::cauchy:
    case NoiseLaw::tabulated: return std::asinh(u);
    case NoiseLaw::uniform:
    case NoiseLaw::exponential: return std::log(u);
    default: return u;
  }
}
double RowQuadrature::node_at(double coordinate) const {
  switch (law_) {
    case NoiseLaw::cauchy:
    case NoiseLaw::tabulated: return std::sinh(coordinate);
    case NoiseLaw::uniform:
    case NoiseLaw::exponential: return std::exp(coordinate);
    default: return coordinate;
  }
}

void RowQuadrature::sample(Range range, std::size_t count) {
  at_.resize(count);
  added_.resize(count);
  const double step = (range.high - range.low) / static_cast<double>(count - 1);
  for (std::size_t k = 0; k < count; ++k) {
    at_[k] = range.low + step * static_cast<double>(k);
    added_[k] = node_at(at_[k]);
  }
  sum_log_cdfs(added_, log_max_cdfs_);
}

/// How small G may be where it still matters: the smallest probability is at least
/// G(u) P(mu_min + noise > u), for every u; the noise is symmetric.
double RowQuadrature::needed_floor(const NoiseAccuracy& accuracy) const {
  const double margin = std::log(accuracy.error);
  if (law_ == NoiseLaw::exponential) return margin - 20.0;  // all classes want the same u
  std::vector<double> mirrored(at_.size()), log_tails(at_.size());
  const double centre = law_ == NoiseLaw::uniform ? 0.5 : 0.0;
  for (std::size_t k = 0; k < at_.size(); ++k)
    mirrored[k] = 2.0 * centre + cells_.least() - node_at(at_[k]);
  const double zero = 0.0, one = 1.0;
  loops_.log_cdf_sums(noise_, &zero, &one, 1, mirrored.data(), mirrored.size(), log_tails.data());
  double least = accuracy.floor;
  for (std::size_t k = 0; k < at_.size(); ++k)
    least = std::max(least, log_max_cdfs_[k] + log_tails[k]);
  return std::min(least, 0.0) + margin;
}

/// The quantiles of G between which the integrals run.
RowQuadrature::Range RowQuadrature::range_of_max(const NoiseAccuracy& accuracy) {
  double mass = accuracy.error / static_cast<double>(cells_.classes());
  // Where tails are heavy, those of classes far below the largest reach as far above it.
  if (law_ == NoiseLaw::cauchy) mass /= 1.0 + std::min(-cells_.least(), 1e100);
  const double lowest = lower_bound(accuracy.floor + std::log(accuracy.error));
  const double highest = upper_bound(law_ == NoiseLaw::tabulated ? 1e-60 : mass);
  Range range = {coordinate_of(lowest), coordinate_of(highest)};
  sample(range, samples);
  const double floor = needed_floor(accuracy);
  if (law_ == NoiseLaw::tabulated) mass = std::max(1e-60, std::exp(floor) * mass / accuracy.error);
  const auto find = [&](double level) {  // the last sample that is not above the level
    std::size_t k = 0;
    while (k + 2 < at_.size() && log_max_cdfs_[k + 1] <= level) ++k;
    return k;
  };
  const std::size_t low = find(floor), high = find(-mass);
  Range lows = {at_[low], at_[low + 1]};
  const Range highs = {at_[high], at_[high + 1]};
  // Once more, within the two intervals. With many classes and uniform noise G rises so late that
  // one more time pays.
  const int passes = law_ == NoiseLaw::uniform && cells_.classes() > 4 * samples ? 3 : 1;
  for (int pass = 0; pass < passes; ++pass) {
    sample(lows, samples / 2);
    const std::size_t k = find(floor);
    lows = {at_[k], at_[k + 1]};
  }
  range.low = lows.low;
  sample(highs, samples / 2);
  range.high = at_[find(-mass) + 1];
  return range;
}

/// log f.
double RowQuadrature::log_density(double x) const {
  constexpr double log_2 = 0.6931471805599453, log_root_2_pi = 0.9189385332046727;
  constexpr double log_pi = 1.1447298858494002;
  switch (law_) {
    case NoiseLaw::normal: return -0.5 * x * x - log_root_2_pi;
    case NoiseLaw::logistic: return -std::abs(x) - 2.0 * std::log1p(std::exp(-std::abs(x)));
    case NoiseLaw::laplace: return -std::abs(x) - log_2;
    case NoiseLaw::cauchy: return -log_pi - 2.0 * std::log(std::hypot(1.0, x));
    case NoiseLaw::uniform: return 0.0 <= x && x <= 1.0 ? 0.0 : -infinity;
    case NoiseLaw::exponential: return x >= 0.0 ? -x : -infinity;
    case NoiseLaw::tabulated: break;  // log_factors() has it of the table
  }
  return 0.0;
}

void RowQuadrature::log_factors(const std::vector<double>& nodes, double logit,
                                std::vector<double>& log_rivals,
                                std::vector<double>& log_densities) const {
  sum_log_cdfs(nodes, log_rivals);
  const double one = 1.0;
  const auto of_class = [&](const Noise& noise, std::vector<double>& values) {
    values.resize(nodes.size());
    loops_.log_cdf_sums(noise, &logit, &one, 1, nodes.data(), nodes.size(), values.data());
  };
  std::vector<double> own;
  of_class(noise_, own);
  for (std::size_t k = 0; k < nodes.size(); ++k) log_rivals[k] -= own[k];
  if (law_ == NoiseLaw::tabulated) {
    // log f = log (f / F) + log F, where f / F itself may be no number of double precision: the
    // loops read the one table in the place of the other.
    NoiseTable table = *noise_.table;
    table.log_cdf = table.log_ratio;
    of_class({law_, &table}, log_densities);
    for (std::size_t k = 0; k < nodes.size(); ++k) log_densities[k] += own[k];
    return;
  }
  log_densities.resize(nodes.size());
  for (std::size_t k = 0; k < nodes.size(); ++k) log_densities[k] = log_density(nodes[k] - logit);
}

/// log (r_i G) of the class with this logit.
void RowQuadrature::log_integrands(const std::vector<double>& nodes, double logit,
                                   std::vector<double>& logs) const {
  std::vector<double> log_densities;
  log_factors(nodes, logit, logs, log_densities);
  for (std::size_t k = 0; k < nodes.size(); ++k)
    logs[k] = log_densities[k] == -infinity ? -infinity : logs[k] + log_densities[k];
}

/// Where the integrand of one class is above e^-drop of its maximum. It is log-concave, so that
/// the samples beside the highest enclose the maximum.
RowQuadrature::Range RowQuadrature::range_of_class(double logit) {
  const double count = static_cast<double>(cells_.classes());
  const double high = upper_bound(std::exp(-drop) / count);
  double low = logit + lower_bound(-drop);
  if (law_ == NoiseLaw::exponential || law_ == NoiseLaw::uniform) low = lower_bound(-600.0);
  Range range = {coordinate_of(low),
                 coordinate_of(law_ == NoiseLaw::uniform ? std::min(high, logit + 1.0) : high)};
  for (int pass = 0; pass < 60; ++pass) {
    sample(range, samples);
    log_integrands(added_, logit, logs_);
    if (law_ == NoiseLaw::uniform || law_ == NoiseLaw::exponential)
      for (std::size_t k = 0; k < samples; ++k) logs_[k] += at_[k];  // du = u d log u
    const double top = *std::max_element(logs_.begin(), logs_.end());
    std::size_t first = 0, last = samples - 1;
    while (first + 1 < samples && logs_[first + 1] < top - drop) ++first;
    while (last > first + 1 && logs_[last - 1] < top - drop && logs_[last] < top - drop) --last;
    range = {at_[first], at_[last]};
    if (last - first >= samples / 3 || !(range.high - range.low > 0.0)) break;
  }
  return range;
}

}  // namespace logitkit
