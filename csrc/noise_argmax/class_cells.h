// The classes of a row, where there are many of them as few points.
#pragma once

#include <cstddef>
#include <vector>

#include "noise_argmax/loops.h"

namespace logitkit {

/// The logits of a row in units of the scale, the largest being 0, sorted into cells of equal
/// width. What the integrals ask of a class is a smooth function of its logit: log F(u - mu) in
/// their integrands, and the logarithm of their results. So the classes of a full cell are
/// replaced by the cell_terms nodes of a Chebyshev expansion. A sum over classes becomes one
/// over points with weights, and results at points are interpolated at classes: the transposed
/// map. The number of points, unlike that of classes, does not grow beyond what the range of
/// logits asks for.
class ClassCells {
 public:
  explicit ClassCells(const NoiseLoops& loops) : loops_(loops) {}

  /// Which classes may be replaced: those of cells between `smooth_above` and `smooth_below`.
  /// Those below `lowest` are left out.
  struct Limits {
    double width;
    double smooth_above, smooth_below;
    double lowest;
  };

  /// Takes the n logits of a row; -inf leaves a class out. Those farther than this below the
  /// largest, in units of the scale, count as that far.
  template <class T>
  void take(const T* logits, std::size_t n, double scale, double farthest);
  /// Sorts them into cells, from the largest one downwards.
  void divide(const Limits& limits);

  /// The largest logit, in its own units.
  double max() const { return max_; }
  /// The smallest one that is not left out, in units of the scale.
  double least() const { return least_kept_; }
  /// How many classes are not left out.
  std::size_t classes() const { return order_.size(); }

  const std::vector<double>& points() const { return points_; }
  const std::vector<double>& weights() const { return weights_; }

  /// weights[c] such that sum_c weights[c] g(point c) = sum_j factors[j] g(mu_j).
  template <class T>
  void spread(const T* factors, std::vector<double>& weights);

  /// values[j] = the function whose values at the points are given, for classes that are not
  /// left out; its exponential if asked for.
  void interpolate(const std::vector<double>& at_points, bool exponential, double* values);

 private:
  struct Cell {
    std::size_t index;  // from the upper end
    std::size_t begin, end, first_point;
    bool full;
  };
  void sort(const Limits& limits);
  void spread_cell(const Cell& cell, const double* factors, double* weights) const;

  const NoiseLoops& loops_;
  double max_ = 0, least_ = 0, least_kept_ = 0;
  std::vector<std::size_t> order_;  // the classes, cell by cell
  std::vector<double> position_;    // of these: of full cells in it, from -1 to 1
  std::vector<Cell> cells_;
  std::vector<double> points_, weights_;
  std::vector<double> shifted_, buffer_;
  std::vector<std::size_t> counts_;
};

}  // namespace logitkit
