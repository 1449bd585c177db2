#include "noise_argmax/class_cells.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// T_k at the Chebyshev nodes x_c, and these, T_1.
struct Table {
  double t[cell_terms][cell_terms];  // [k][c]
  Table() {
    constexpr double pi = 3.14159265358979323846;
    for (std::size_t k = 0; k < cell_terms; ++k)
      for (std::size_t c = 0; c < cell_terms; ++c) {
        const double angle = pi * (static_cast<double>(c) + 0.5) / double{cell_terms};
        t[k][c] = std::cos(static_cast<double>(k) * angle);
      }
  }
};
const Table& table() {
  static const Table table;
  return table;
}

/// The factor of the k-th term where a function is expanded from its values at the nodes.
double term_factor(std::size_t k) { return (k == 0 ? 1.0 : 2.0) / double{cell_terms}; }

}  // namespace

template <class T>
void ClassCells::take(const T* logits, std::size_t n, double scale, double farthest) {
  max_ = -infinity;
  for (std::size_t j = 0; j < n; ++j) max_ = std::max(max_, static_cast<double>(logits[j]));
  shifted_.resize(n);
  least_ = 0.0;
  for (std::size_t j = 0; j < n; ++j) {
    shifted_[j] = (static_cast<double>(logits[j]) - max_) / scale;
    if (static_cast<double>(logits[j]) == -infinity) continue;
    shifted_[j] = std::max(shifted_[j], -farthest);
    if (shifted_[j] > -infinity) least_ = std::min(least_, shifted_[j]);
  }
}

void ClassCells::divide(const Limits& limits) {
  sort(limits);
  points_.clear();
  for (Cell& cell : cells_) {
    cell.first_point = points_.size();
    if (!cell.full) {
      for (std::size_t j = cell.begin; j < cell.end; ++j) points_.push_back(position_[j]);
      continue;
    }
    const double half = 0.5 * limits.width;
    const double middle = -limits.width * (static_cast<double>(cell.index) + 0.5);
    for (std::size_t c = 0; c < cell_terms; ++c) points_.push_back(middle + half * table().t[1][c]);
    for (std::size_t j = cell.begin; j < cell.end; ++j)
      position_[j] = (position_[j] - middle) / half;
  }
  weights_.resize(points_.size());
  for (const Cell& cell : cells_) spread_cell(cell, nullptr, weights_.data());
}

/// Counts the classes of each cell, then puts them there. What is below `smooth_above` is one
/// cell, the last.
void ClassCells::sort(const Limits& limits) {
  const std::size_t n = shifted_.size();
  const double depth =
      std::floor(-std::max({least_, limits.smooth_above, limits.lowest}) / limits.width);
  // Where logits are so wide apart, few cells are full.
  const bool many = depth >= 0.0 && depth < 4.0 * static_cast<double>(n) + 1024.0;
  const std::size_t last = many ? static_cast<std::size_t>(depth) + 1 : 0;
  constexpr std::size_t nowhere = ~std::size_t{0};
  const auto cell_of = [&](double shifted) -> std::size_t {
    if (!(shifted >= limits.lowest) || shifted == -infinity) return nowhere;
    if (!many || shifted < limits.smooth_above) return last;
    return std::min(last, static_cast<std::size_t>(-shifted / limits.width));
  };
  counts_.assign(last + 2, 0);
  for (const double shifted : shifted_)
    if (const std::size_t cell = cell_of(shifted); cell != nowhere) ++counts_[cell + 1];
  cells_.clear();
  for (std::size_t i = 0; i <= last; ++i) {
    const std::size_t in_cell = counts_[i + 1];
    counts_[i + 1] += counts_[i];
    const double top = -limits.width * static_cast<double>(i);
    const bool smooth = i < last && top <= limits.smooth_below &&
                        top - (1.0 - 1e-9) * limits.width >= limits.smooth_above;
    if (in_cell > 0)
      cells_.push_back({i, counts_[i], counts_[i + 1], 0, smooth && in_cell > cell_terms});
  }
  order_.resize(counts_[last + 1]);
  position_.resize(order_.size());
  least_kept_ = 0.0;
  for (std::size_t j = 0; j < n; ++j) {
    const std::size_t cell = cell_of(shifted_[j]);
    if (cell == nowhere) continue;
    order_[counts_[cell]] = j;
    least_kept_ = std::min(least_kept_, shifted_[j]);
    position_[counts_[cell]++] = shifted_[j];
  }
}

/// Of one cell, by the moments of its classes; a null `factors` stands for ones.
void ClassCells::spread_cell(const Cell& cell, const double* factors, double* weights) const {
  double* to = weights + cell.first_point;
  const std::size_t count = cell.end - cell.begin;
  if (!cell.full) {
    for (std::size_t j = 0; j < count; ++j) to[j] = factors == nullptr ? 1.0 : factors[j];
    return;
  }
  double moments[cell_terms];
  loops_.chebyshev_moments(position_.data() + cell.begin, factors, count, moments);
  for (std::size_t c = 0; c < cell_terms; ++c) {
    to[c] = 0.0;
    for (std::size_t k = 0; k < cell_terms; ++k)
      to[c] += term_factor(k) * moments[k] * table().t[k][c];
  }
}

template <class T>
void ClassCells::spread(const T* factors, std::vector<double>& weights) {
  weights.resize(points_.size());
  buffer_.resize(order_.size());
  for (std::size_t j = 0; j < order_.size(); ++j)
    buffer_[j] = static_cast<double>(factors[order_[j]]);
  for (const Cell& cell : cells_) spread_cell(cell, buffer_.data() + cell.begin, weights.data());
}

void ClassCells::interpolate(const std::vector<double>& at_points, bool exponential,
                             double* values) {
  buffer_.resize(order_.size());
  for (const Cell& cell : cells_) {
    const double* from = at_points.data() + cell.first_point;
    double* to = buffer_.data() + cell.begin;
    if (!cell.full) {
      for (std::size_t j = 0; j < cell.end - cell.begin; ++j)
        to[j] = exponential ? std::exp(from[j]) : from[j];
      continue;
    }
    double coefficients[cell_terms];
    for (std::size_t k = 0; k < cell_terms; ++k) {
      coefficients[k] = 0.0;
      for (std::size_t c = 0; c < cell_terms; ++c) coefficients[k] += from[c] * table().t[k][c];
      coefficients[k] *= term_factor(k);
    }
    loops_.chebyshev_values(coefficients, exponential, position_.data() + cell.begin,
                            cell.end - cell.begin, to);
  }
  for (std::size_t j = 0; j < order_.size(); ++j) values[order_[j]] = buffer_[j];
}

template void ClassCells::take(const float*, std::size_t, double, double);
template void ClassCells::take(const double*, std::size_t, double, double);
template void ClassCells::spread(const float*, std::vector<double>&);
template void ClassCells::spread(const double*, std::vector<double>&);

}  // namespace logitkit
