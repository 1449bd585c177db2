// Least distance programming with an active set. Specification:
// python/logitkit/reference/_least_distance.py
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "isa.h"
#include "least_distance/loops.h"

namespace logitkit {

/// The loops of an instruction set.
const LeastDistanceLoops& least_distance_loops(Isa isa);

/// Finds the shortest y with c_j . y >= 1 for every constraint and e . y >= 0 for
/// every ray, or weights that show that there is none.
///
/// Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23: with
/// E = [c_j, e; 1, 0] and f = (0, 1) solve min |E x - f| over x >= 0. A residual
/// r = f - E x = (-p, |r|^2) other than 0 gives y = p / |r|^2; a residual of 0
/// gives x >= 0 with sum x_j c_j + sum x_e e = 0 (Farkas). The constraints are
/// scaled to |c_j| = 1, which moves no half-space: near-coincident points do not spoil
/// the condition, and |r| = m / sqrt(1 + m^2) with m the widest margin.
///
/// Constraints may be added between calls of solve(), which goes on from where
/// it stopped. The factorisation E_active = Q R is updated: Gram-Schmidt with a
/// second pass when the first one cancels ("twice is enough", Parlett 1980,
/// section 6.9) and Givens rotations on removal, (M + k) k operations a step.
class LeastDistance {
 public:
  enum class Status {
    feasible,    // y satisfies all constraints so far
    infeasible,  // |r| <= zero_residual: the weights combine to 0
    paused,      // the iteration limit was reached: call solve() again
    stalled      // rounding leaves no usable pivot: neither is shown
  };

  /// |r| at or below this is taken for 0. The rounding of Q is near 1e-15.
  static constexpr double zero_residual = 1e-12;

  explicit LeastDistance(std::size_t dim);

  /// Adds c = (center - point) / |center - point| for each of `count` points,
  /// which lie dense in rows of `dim`, unless its label is there already or it
  /// coincides with the center. Returns how many were added.
  std::size_t add_points(const double* center, const double* points, const std::int64_t* labels,
                         std::size_t count);
  /// Adds rays e, scaled to length 1, unless the label is there already or the length
  /// is 0. Labels of rays and points must differ. Returns how many were added.
  std::size_t add_rays(const double* rays, const std::int64_t* labels, std::size_t count);

  Status solve(std::size_t max_iterations, Isa isa);

  /// The unit vector p / |p|: c_j . direction >= margin() for every constraint.
  const std::vector<double>& direction() const { return direction_; }
  /// |r|: nearly the widest margin where that is small; 0 when infeasible.
  double margin() const { return residual_norm_; }
  /// The active columns and their weights in terms of the given points and rays,
  /// scaled so that the weights of the points add up to 1.
  std::vector<std::int64_t> active_labels() const;
  std::vector<double> active_weights() const;

  std::size_t dim() const { return dim_; }
  std::size_t constraints() const { return labels_.size(); }
  std::size_t iterations() const { return iterations_; }

 private:
  bool has(std::int64_t label) const;
  bool append(const double* vector, double right_side, std::int64_t label);
  void forget_slack_constraints();
  void project(const LeastDistanceLoops& loops, double* v);
  std::size_t most_violated(const LeastDistanceLoops& loops);
  bool activate(const LeastDistanceLoops& loops, std::size_t column);
  void deactivate(const LeastDistanceLoops& loops, std::size_t position);
  void solve_active(const LeastDistanceLoops& loops);
  bool move_to_solution(const LeastDistanceLoops& loops, std::size_t newest);

  std::size_t dim_, height_, stride_;  // of a column of E: dim + 1, padded
  // The constraints, all that were added and not forgotten.
  std::vector<double> columns_;  // stride_ apart: (c_j, 1) or (e, 0)
  std::vector<double> lengths_;  // |center - point| or |ray|
  std::vector<std::int64_t> labels_;
  std::vector<unsigned char> state_;  // of each column: see .cpp
  // The active set, its factorisation and the residual.
  std::vector<std::size_t> active_;   // columns, in the order of Q and R
  std::vector<double> x_, solution_;  // weights, and the unconstrained least-squares ones
  std::vector<double> q_;             // rows: orthonormal vectors, stride_ apart
  std::vector<double> r_;             // rows of R, stride_ apart; a column keeps its slot:
  std::vector<std::size_t> slots_;    // entry (i, j) is r_[i * stride_ + slots_[j]]
  std::vector<std::size_t> free_slots_;
  std::vector<double> by_slot_;     // the solution, for products with rows of R
  std::vector<double> projection_;  // Q^T f
  std::vector<double> residual_, work_, violation_, direction_;
  double residual_norm_ = 1.0;
  double best_ = std::numeric_limits<double>::infinity();  // the least |r| so far
  std::size_t without_progress_ = 0;                       // steps since then
  std::size_t iterations_ = 0;
  std::size_t scan_ = 0;  // where the next block of constraints begins
};

}  // namespace logitkit
