#include "noise_argmax/quadrature.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "noise_argmax/gauss_legendre.h"

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double cell_width = 0.5;
constexpr std::size_t samples = 48;      // with which the ends of the integrals are looked for
constexpr std::size_t first_nodes = 20;  // of the coarsest trapezoidal rule
constexpr std::size_t most_nodes = 1 << 17;
// Of an integrand what is e^-drop below its maximum does not matter.
constexpr double drop = 46.0;
// With uniform noise a class that is one below the largest cannot win.
constexpr double above_minus_one = -1.0 + 0x1p-53;

bool is_smooth(NoiseLaw law) { return law == NoiseLaw::normal || law == NoiseLaw::logistic; }

/// Whether sums over the coarse and the fine half of the nodes agree so well that the error of
/// both together is below `error`. That of the trapezoidal rule for an analytic integrand
/// decreases like exp(-c / step) or faster: with half the step it is at most the square.
bool agree(double coarse, double fine, double error) {
  return std::abs(coarse - fine) <= std::sqrt(error) * (coarse + fine);
}

}  // namespace

ClassCells::Limits RowQuadrature::limits(double smooth_below, double lowest) const {
  switch (law_) {
    case NoiseLaw::normal: return {cell_width, -infinity, infinity, std::min(-64.0, lowest - 50.0)};
    case NoiseLaw::cauchy: return {cell_width, -infinity, infinity, -infinity};
    case NoiseLaw::uniform: return {cell_width, infinity, -infinity, above_minus_one};
    // log F is singular at u = mu, and u > 0.
    case NoiseLaw::exponential: smooth_below = -1.5; break;
    default: break;
  }
  return {cell_width, -infinity, smooth_below, std::min(-1600.0, lowest - 800.0)};
}

/// Some u with log F(u) <= log_floor.
double RowQuadrature::lower_bound(double log_floor) const {
  switch (law_) {
    case NoiseLaw::normal: return -std::sqrt(-2.0 * log_floor);
    case NoiseLaw::cauchy: return -std::exp(std::min(700.0, -log_floor));
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
    case NoiseLaw::uniform: return 1.0;
    default: return -std::log(mass);
  }
}

/// Nodes are looked for at equal distances of a coordinate in which G varies evenly.
double RowQuadrature::coordinate_of(double u) const {
  switch (law_) {
    case NoiseLaw::cauchy: return std::asinh(u);
    case NoiseLaw::uniform:
    case NoiseLaw::exponential: return std::log(u);
    default: return u;
  }
}
double RowQuadrature::node_at(double coordinate) const {
  switch (law_) {
    case NoiseLaw::cauchy: return std::sinh(coordinate);
    case NoiseLaw::uniform:
    case NoiseLaw::exponential: return std::exp(coordinate);
    default: return coordinate;
  }
}

void RowQuadrature::sum_log_cdfs(const std::vector<double>& nodes,
                                 std::vector<double>& sums) const {
  sums.resize(nodes.size());
  loops_.log_cdf_sums(law_, cells_.points().data(), cells_.weights().data(), cells_.points().size(),
                      nodes.data(), nodes.size(), sums.data());
}

void RowQuadrature::sum_ratios(const std::vector<double>& weights,
                               std::vector<double>& sums) const {
  sums.resize(nodes_.size());
  loops_.ratio_sums(law_, cells_.points().data(), weights.data(), cells_.points().size(),
                    nodes_.data(), nodes_.size(), sums.data());
}

void RowQuadrature::integrate(const std::vector<double>& factors,
                              std::vector<double>& integrals) const {
  integrals.resize(cells_.points().size());
  loops_.ratio_integrals(law_, nodes_.data(), factors.data(), nodes_.size(), cells_.points().data(),
                         cells_.points().size(), integrals.data());
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
  loops_.log_cdf_sums(law_, &zero, &one, 1, mirrored.data(), mirrored.size(), log_tails.data());
  double least = accuracy.floor;
  for (std::size_t k = 0; k < at_.size(); ++k)
    least = std::max(least, log_max_cdfs_[k] + log_tails[k]);
  return std::min(least, 0.0) + margin;
}

/// The quantiles of G between which the integrals run.
RowQuadrature::Range RowQuadrature::range_of_max(const NoiseAccuracy& accuracy) {
  // Where tails are heavy, those of classes far below the largest reach as far above it.
  const double depth = law_ == NoiseLaw::cauchy ? std::min(-cells_.least(), 1e100) : 0.0;
  const double mass = accuracy.error / (static_cast<double>(cells_.classes()) + depth);
  const double lowest = lower_bound(accuracy.floor + std::log(accuracy.error));
  Range range = {coordinate_of(lowest), coordinate_of(upper_bound(mass))};
  sample(range, samples);
  const double floor = needed_floor(accuracy);
  const auto find = [&](double level) {  // the last sample that is not above the level
    std::size_t k = 0;
    while (k + 2 < at_.size() && log_max_cdfs_[k + 1] <= level) ++k;
    return k;
  };
  const std::size_t low = find(floor), high = find(-mass);
  const Range lows = {at_[low], at_[low + 1]}, highs = {at_[high], at_[high + 1]};
  sample(lows, samples / 2);  // once more, within the two intervals
  range.low = at_[find(floor)];
  sample(highs, samples / 2);
  range.high = at_[find(-mass) + 1];
  return range;
}

template <class T>
void RowQuadrature::place(const T* logits, std::size_t n, double scale,
                          const NoiseAccuracy& accuracy) {
  cells_.take(logits, n, scale);
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
  const std::size_t size = law_ == NoiseLaw::uniform ? nodes_of_part : all_nodes_.size();
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
    loops_.ratio_integrals(law_, added_.data(), masses.data(), count, cells_.points().data(),
                           cells_.points().size(), integrals.data());
    bool enough = offset > 0.0;
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

/// log f.
double RowQuadrature::log_density(double x) const {
  constexpr double log_2 = 0.6931471805599453, log_root_2_pi = 0.9189385332046727;
  switch (law_) {
    case NoiseLaw::normal: return -0.5 * x * x - log_root_2_pi;
    case NoiseLaw::logistic: return -std::abs(x) - 2.0 * std::log1p(std::exp(-std::abs(x)));
    case NoiseLaw::laplace: return -std::abs(x) - log_2;
    case NoiseLaw::cauchy: return -std::log(3.141592653589793 * (1.0 + x * x));
    case NoiseLaw::uniform: return 0.0 <= x && x <= 1.0 ? 0.0 : -infinity;
    case NoiseLaw::exponential: return x >= 0.0 ? -x : -infinity;
  }
  return 0.0;
}

/// log (r_i G) of the class with this logit.
void RowQuadrature::log_integrands(const std::vector<double>& nodes, double logit,
                                   std::vector<double>& logs) {
  sum_log_cdfs(nodes, logs);
  std::vector<double> own(nodes.size());
  const double one = 1.0;
  loops_.log_cdf_sums(law_, &logit, &one, 1, nodes.data(), nodes.size(), own.data());
  for (std::size_t k = 0; k < nodes.size(); ++k) {
    const double density = log_density(nodes[k] - logit);
    logs[k] = density == -infinity ? density : logs[k] - own[k] + density;
  }
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
    const bool enough = offset > 0.0 && agree(total, sum, 1e-15);
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
  cells_.take(logits, n, scale);
  const double logit = (static_cast<double>(logits[index]) - cells_.max()) / scale;
  if (logit == -infinity || (law_ == NoiseLaw::uniform && logit <= -1.0)) {
    parts_.clear();
    return -infinity;
  }
  if (law_ == NoiseLaw::cauchy) {  // whose integrands have several maxima
    place(logits, n, scale, {1e-14, -600.0});
    const double one = 1.0;
    logs_.resize(all_nodes_.size());
    loops_.ratio_sums(law_, &logit, &one, 1, all_nodes_.data(), all_nodes_.size(), logs_.data());
    for (double& log : logs_) log = std::log(log);
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

/// Where the integrands are not smooth.
void RowQuadrature::collect_breaks(Range range) {
  breaks_.clear();
  if (law_ == NoiseLaw::laplace || law_ == NoiseLaw::uniform) {
    const double shift = law_ == NoiseLaw::uniform ? 1.0 : 0.0;
    const double low = node_at(range.low), high = node_at(range.high);
    for (const double point : cells_.points())
      if (point + shift > low && point + shift < high) breaks_.push_back(point + shift);
  } else if (law_ == NoiseLaw::cauchy) {
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
    default: return width;
  }
}

/// Gauss-Legendre rules on panels between the break points, for classes with logits from this
/// one on.
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
    double width = panel_width(u, rate, below, above);
    if (above < 1.25 * width && law_ != NoiseLaw::cauchy) width = above;
    const double end = std::min(high, width == above ? breaks_[next_break] : u + width);
    if (!(end > u)) break;
    const double change = (end - u) * (rate + 1.0);
    const bool flat = breaks_.size() > 1 && law_ != NoiseLaw::cauchy && change < 0.5;
    add_gauss_legendre(flat ? change < 0.1 ? 4 : 8 : 16, u, end, all_nodes_, all_masses_);
    u = end;
  }
  cut_into_parts();
}

template void RowQuadrature::place(const float*, std::size_t, double, const NoiseAccuracy&);
template void RowQuadrature::place(const double*, std::size_t, double, const NoiseAccuracy&);
template double RowQuadrature::log_prob(const float*, std::size_t, double, std::size_t);
template double RowQuadrature::log_prob(const double*, std::size_t, double, std::size_t);

}  // namespace logitkit
