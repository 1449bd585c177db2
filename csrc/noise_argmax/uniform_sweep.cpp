#include "noise_argmax/uniform_sweep.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace logitkit {
namespace {

constexpr double log_of_rounding = -36.7368;  // log 2^-53

/// The least number of terms whose remainder, x^terms of the first one, is below rounding.
std::size_t terms_for(double largest) {
  if (!(largest < 1.0)) return ~std::size_t{0};
  const double count = log_of_rounding / std::log(std::max(largest, 1e-16));
  return static_cast<std::size_t>(std::ceil(std::max(count, 2.0)));
}

/// binomials[m][l] = m! / (l! (m - l)!).
template <std::size_t count>
struct Binomials {
  double of[count][count];
  Binomials() {
    for (std::size_t m = 0; m < count; ++m)
      for (std::size_t l = 0; l <= m; ++l)
        of[m][l] = l == 0 || l == m ? 1.0 : of[m - 1][l - 1] + of[m - 1][l];
  }
};

}  // namespace

bool UniformSweep::suits(double lowest_node) { return terms_for(1.0 - lowest_node) <= most_terms; }

void UniformSweep::take(const std::vector<double>& points, const std::vector<double>& nodes) {
  order_.resize(points.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::sort(order_.begin(), order_.end(),
            [&](std::size_t a, std::size_t b) { return points[a] > points[b]; });
  depths_.resize(points.size());
  for (std::size_t j = 0; j < points.size(); ++j) depths_[j] = -points[order_[j]];
  below_one_.resize(nodes.size());
  for (std::size_t k = 0; k < nodes.size(); ++k) below_one_[k] = 1.0 - nodes[k];
  terms_ = nodes.empty() ? 2 : terms_for(below_one_.front());
}

/// sums[m] = sum_j w_j x_j^m becomes sum_j w_j (x_j + distance)^m.
void UniformSweep::move(double distance, Powers& sums) const {
  static const Binomials<most_terms> binomials;
  if (distance == 0.0) return;
  Powers powers;
  powers[0] = 1.0;
  for (std::size_t l = 1; l < terms_; ++l) powers[l] = powers[l - 1] * distance;
  for (std::size_t m = terms_ - 1; m > 0; --m) {
    double sum = sums[m];
    for (std::size_t l = 0; l < m; ++l) sum += binomials.of[m][l] * powers[m - l] * sums[l];
    sums[m] = sum;
  }
}

/// Walks down the nodes; `value` is given the sums of powers of x_j for classes that take part,
/// at the last one of them, and how far a node is below.
template <class Value>
void UniformSweep::sweep(const std::vector<double>& weights, std::vector<double>& sums,
                         const Value& value) const {
  sums.resize(below_one_.size());
  Powers powers = {};
  double at = 0.0;
  std::size_t j = 0;
  for (std::size_t k = below_one_.size(); k-- > 0;) {
    const double below = below_one_[k];
    for (; j < depths_.size() && depths_[j] < below; ++j) {
      move(depths_[j] - at, powers);
      at = depths_[j];
      powers[0] += weights[order_[j]];
    }
    sums[k] = value(powers, below - at);
  }
}

/// log(1 - x - d) = log(1 - d) + log(1 - x / (1 - d)).
void UniformSweep::log_cdf_sums(const std::vector<double>& weights,
                                std::vector<double>& sums) const {
  sweep(weights, sums, [&](const Powers& powers, double distance) {
    const double factor = 1.0 / (1.0 - distance);
    double sum = 0.0;
    for (std::size_t l = terms_ - 1; l > 0; --l)
      sum = (sum + powers[l] / static_cast<double>(l)) * factor;
    return powers[0] * std::log1p(-distance) - sum;
  });
}

/// 1 / (1 - x - d) = sum_l x^l / (1 - d)^(l + 1).
void UniformSweep::ratio_sums(const std::vector<double>& weights, std::vector<double>& sums) const {
  sweep(weights, sums, [&](const Powers& powers, double distance) {
    const double factor = 1.0 / (1.0 - distance);
    double sum = 0.0;
    for (std::size_t l = terms_; l-- > 0;) sum = (sum + powers[l]) * factor;
    return sum;
  });
}

/// The transposed sums: upwards over the classes, with powers of the distance to the nodes below.
void UniformSweep::ratio_integrals(const std::vector<double>& factors,
                                   std::vector<double>& integrals) const {
  integrals.assign(depths_.size(), 0.0);
  Powers powers = {};
  double at = 0.0;
  std::size_t k = 0;
  for (std::size_t j = depths_.size(); j-- > 0;) {
    if (k > 0) move(at - depths_[j], powers);
    at = depths_[j];
    for (; k < below_one_.size() && below_one_[k] > at; ++k) {
      double power = factors[k];
      for (std::size_t l = 0; l < terms_; ++l, power *= below_one_[k] - at) powers[l] += power;
    }
    double sum = 0.0;
    for (std::size_t l = terms_; l-- > 0;) sum += powers[l];
    integrals[order_[j]] = sum;
  }
}

}  // namespace logitkit
