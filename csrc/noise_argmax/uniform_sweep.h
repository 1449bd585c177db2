// Sums over classes with uniform noise whose logits are close to each other, in sorted order.
#pragma once

#include <cstddef>
#include <vector>

namespace logitkit {

/// With F(x) = x on [0, 1], a class takes part from a node u downwards that is one above its
/// logit mu: its r = 1 / (u - mu) begins with a jump, so that cells of classes cannot stand for
/// it. But with x = 1 - (u - mu), which is small where all of the mass is near the upper end,
///   1 / (u - mu) = sum_l x^l,   log(u - mu) = -sum_l x^l / l,
/// and sums of powers move from one class to the next by the binomial theorem. All terms are
/// positive for weights that are: nothing cancels.
///   Error:    2^-53 of each term from the series, and rounding
///   Work:     O(classes terms^2 + nodes terms); 5 terms where x < 1e-3, 24 at most
class UniformSweep {
 public:
  /// Whether the series is short enough for nodes from this one on.
  static bool suits(double lowest_node);

  /// The points and the ascending nodes that the following are about. No node is below 0 and no
  /// point above.
  void take(const std::vector<double>& points, const std::vector<double>& nodes);

  /// sums[k] = sum_c weights[c] log F(nodes[k] - point c).
  void log_cdf_sums(const std::vector<double>& weights, std::vector<double>& sums) const;
  /// sums[k] = sum_c weights[c] r(nodes[k] - point c).
  void ratio_sums(const std::vector<double>& weights, std::vector<double>& sums) const;
  /// integrals[c] = sum_k factors[k] r(nodes[k] - point c).
  void ratio_integrals(const std::vector<double>& factors, std::vector<double>& integrals) const;

 private:
  static constexpr std::size_t most_terms = 24;
  using Powers = double[most_terms];
  void move(double distance, Powers& sums) const;
  template <class Value>
  void sweep(const std::vector<double>& weights, std::vector<double>& sums,
             const Value& value) const;

  std::size_t terms_ = 0;
  std::vector<std::size_t> order_;  // of the points, downwards
  std::vector<double> depths_;      // of these: -point
  std::vector<double> below_one_;   // 1 - node
};

}  // namespace logitkit
