// Gauss-Legendre rules.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace logitkit {

/// Nodes from -1 to 1, and their weights.
struct GaussLegendre {
  std::vector<double> nodes, weights;

  /// The zeros of the Legendre polynomial P_n by Newton's method, with
  /// (k + 1) P_(k+1) = (2 k + 1) x P_k - k P_(k-1).
  explicit GaussLegendre(std::size_t n) : nodes(n), weights(n) {
    constexpr double pi = 3.14159265358979323846;
    const double degree = static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) {
      double x = -std::cos(pi * (static_cast<double>(i) + 0.75) / (degree + 0.5)), slope = 1.0;
      for (int step = 0; step < 8; ++step) {
        double before = 1.0, now = x;
        for (std::size_t k = 1; k < n; ++k) {
          const double j = static_cast<double>(k);
          const double next = ((2.0 * j + 1.0) * x * now - j * before) / (j + 1.0);
          before = now;
          now = next;
        }
        slope = degree * (x * now - before) / (x * x - 1.0);
        x -= now / slope;
      }
      nodes[i] = x;
      weights[i] = 2.0 / ((1.0 - x * x) * slope * slope);
    }
  }
};

/// Appends the nodes and weights of the rule with 4, 8 or 16 nodes for [low, high].
inline void add_gauss_legendre(std::size_t count, double low, double high,
                               std::vector<double>& nodes, std::vector<double>& weights) {
  static const GaussLegendre rule_4(4), rule_8(8), rule_16(16);
  const GaussLegendre& rule = count == 4 ? rule_4 : count == 8 ? rule_8 : rule_16;
  const double half = 0.5 * (high - low);
  for (std::size_t i = 0; i < count; ++i) {
    nodes.push_back(low + half * (1.0 + rule.nodes[i]));
    weights.push_back(half * rule.weights[i]);
  }
}

}  // namespace logitkit
