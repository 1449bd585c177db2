// Nodes and weights for the integrals of one row.
#pragma once

#include <cstddef>
#include <vector>

#include "noise_argmax/class_cells.h"
#include "noise_argmax/loops.h"
#include "noise_argmax/uniform_sweep.h"

namespace logitkit {

/// How exact the integrals are to be, and down to which probabilities.
struct NoiseAccuracy {
  double error;  // relative
  double floor;  // the logarithm of the least probability that matters
};

/// The integrals over u of one row, on nodes that all of its classes share:
///   P(class i is the largest) = int r_i(u) G(u) du, G(u) = prod_j F(u - mu_j),
///   r_i(u) = f(u - mu_i) / F(u - mu_i).
/// What is left out is at most G(lower end) + 1 - G(upper end), for every class, since
/// r_i G <= G'; so the ends are quantiles of G.
class RowQuadrature {
 public:
  RowQuadrature(const Noise& noise, const NoiseLoops& loops)
      : noise_(noise), law_(noise.law), loops_(loops), cells_(loops) {}

  /// Places nodes that suit all classes with a probability above exp(accuracy.floor).
  template <class T>
  void place(const T* logits, std::size_t n, double scale, const NoiseAccuracy& accuracy);

  /// The logarithm of the probability of one class, however small it is, on nodes for this
  /// class alone; masses() are then those of its integrand, their sum being one.
  template <class T>
  double log_prob(const T* logits, std::size_t n, double scale, std::size_t index);

  /// The nodes are given in parts, to be selected one after the other: one part, but for uniform
  /// noise, where what cells may stand for changes from node to node; unless these are so close
  /// to each other that classes are summed in their order. What follows is about the part that was
  /// selected; integrals are the sums of those of all parts.
  std::size_t parts() const { return parts_.size(); }
  void select(std::size_t part);

  ClassCells& cells() { return cells_; }
  const std::vector<double>& nodes() const { return nodes_; }
  /// The weight of each node times G there.
  const std::vector<double>& masses() const { return masses_; }
  /// sum_k masses[k] r(nodes[k] - point c): the probabilities of points, as if of classes.
  const std::vector<double>& probabilities() const { return probabilities_; }

  /// What the integral of u G'(u) lacks beyond the nodes, where tails are heavy.
  double mean_of_tails() const;

  /// integrals[c] = sum_k factors[k] r(nodes[k] - point c).
  void integrate(const std::vector<double>& factors, std::vector<double>& integrals) const;
  /// sums[k] = sum_c weights[c] r(nodes[k] - point c).
  void sum_ratios(const std::vector<double>& weights, std::vector<double>& sums) const;

 private:
  static constexpr std::size_t samples = 48;  // with which the ends of the integrals are found
  // With uniform noise a class that is one below the largest cannot win.
  static constexpr double above_minus_one = -1.0 + 0x1p-53;
  struct Range {
    double low, high;  // coordinates
  };
  struct Part {
    std::size_t begin, end;  // of the nodes
    double low, high;        // between which they lie
  };
  ClassCells::Limits limits(double smooth_below, double lowest) const;
  bool has_heavy_tails() const;
  /// How far below the largest, in units of the scale, a logit may lie.
  double farthest() const;
  double lower_bound(double log_floor) const;
  double upper_bound(double mass) const;
  double coordinate_of(double u) const;
  double node_at(double coordinate) const;

  /// sums[k] = log G(nodes[k]).
  void sum_log_cdfs(const std::vector<double>& nodes, std::vector<double>& sums) const;
  /// Fills at_, coordinates of equal distance, and log_max_cdfs_ there.
  void sample(Range range, std::size_t count);
  double needed_floor(const NoiseAccuracy& accuracy) const;
  Range range_of_max(const NoiseAccuracy& accuracy);
  Range range_of_class(double logit);
  void log_integrands(const std::vector<double>& nodes, double logit,
                      std::vector<double>& logs) const;
  /// The factors of r_i G without F: log prod_(j != i) F(u - mu_j), and log f(u - mu_i).
  void log_factors(const std::vector<double>& nodes, double logit, std::vector<double>& log_rivals,
                   std::vector<double>& log_densities) const;
  double log_density(double x) const;

  void trapezoids(Range range, const NoiseAccuracy& accuracy);
  double trapezoids_of_class(Range range, double logit);
  void panels(Range range, double logit);
  void panels_of_class(double logit);
  void cut_into_parts();
  void select_nodes(std::size_t part);
  void collect_breaks(Range range);
  double panel_width(double u, double rate, double below, double above) const;
  double width_of_line(double u, double logit, double below, double above) const;
  double normalize(const std::vector<double>& logs);

  Noise noise_;
  NoiseLaw law_;
  double lower_end_ = 0.0, upper_end_ = 0.0;
  const NoiseLoops& loops_;
  ClassCells cells_;
  UniformSweep sweep_;
  bool sweeping_ = false;  // whether it stands for the loops at the selected nodes
  std::vector<Part> parts_;
  std::vector<double> all_nodes_, all_masses_;          // of all parts
  std::vector<double> nodes_, masses_, probabilities_;  // of the selected one
  std::vector<double> at_, log_max_cdfs_, breaks_, added_, sums_, logs_;
};

}  // namespace logitkit
