// What a block of threads makes of the integrals of one row: probabilities and their logarithms,
// products with their Jacobian, the expected maximum, and the logarithm of one probability.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "noise_argmax/row_integrals_cuda.h"

namespace logitkit::cuda {

// The least probability that counts.
constexpr double least_probability = 1e-299, log_least_probability = -688.4729390880061;
constexpr double log_10 = 2.302585092994046;

enum class Wanted { probabilities, log_probabilities, vjp, expected_max, log_prob };

/// What a kernel is to do, for rows of any type.
struct NoiseTask {
  Elements logits, cotangents, out, gradients;  // null data: none
  const std::int64_t* index;
  std::size_t rows, classes;
  double scale;
  Wanted wanted;
  NoiseAccuracy accuracy;
  PanelRules rules;
  double* integrals;  // [blocks][classes]
  NoiseTable table;   // of a law that has one
};

/// The integrals of a row by the threads of a block.
template <class Law>
class NoiseRow {
 public:
  __device__ NoiseRow(IntegralMemory& memory, const NoiseTask& task, std::size_t row)
      : memory_(memory),
        task_(task),
        row_(row),
        first_(row * task.classes),
        integrals_(task.integrals + std::size_t{blockIdx.x} * task.classes),
        row_integrals_(memory, task.rules, task.logits, first_, task.classes, task.scale,
                       law_with<Law>(task.table)),
        cells_(memory.cells, integrals_, task.classes,
               {row_integrals_.law().cell_width(), Law::cells_below}, {row_integrals_}) {}

  __device__ void compute() {
    const bool has_meaning = row_integrals_.take();
    if (Law::has_cells && has_meaning) cells_.divide();
    if (is_in_cells()) {
      use_cells();
    } else {
      for_classes([&](std::size_t i) { integrals_[i] = 0.0; });
    }
    switch (task_.wanted) {
      case Wanted::expected_max: return expected_max(has_meaning);
      case Wanted::log_prob: return log_prob(has_meaning);
      default: return of_all_classes(has_meaning);
    }
  }

 private:
  template <class F>
  __device__ void for_classes(const F& f) {
    for (std::size_t i = threadIdx.x; i < task_.classes; i += integral_threads) f(i);
    __syncthreads();
  }
  __device__ double nan() const { return infinity<double>() - infinity<double>(); }

  struct Shifted {
    const RowIntegrals<Law>& row;
    __device__ double operator()(std::size_t j) const { return row.shifted(j); }
  };
  using Cells = ClassCells<Shifted>;

  /// Whether points stand for the classes.
  __device__ bool is_in_cells() const { return Law::has_cells && cells_.count() > 0; }
  __device__ void use_cells() {
    row_integrals_.use_points(cells_.array(Cells::points), cells_.array(Cells::weights),
                              cells_.count());
    if (task_.wanted == Wanted::vjp) {
      const Elements cotangents = task_.cotangents.from(first_);
      cells_.spread([&](std::size_t j) { return cotangents[j]; },
                    cells_.array(Cells::spread_factors));
    }
    for (unsigned i = threadIdx.x; i < cells_.count(); i += integral_threads)
      cells_.array(Cells::integrals)[i] = cells_.array(Cells::of_ratios)[i] =
          cells_.array(Cells::of_factors)[i] = 0.0;
    __syncthreads();
  }
  /// What integrate() adds to: of the points, or of the classes.
  __device__ double* integrals() const {
    return is_in_cells() ? cells_.array(Cells::integrals) : integrals_;
  }
  /// integrals()[i] += sum_k alone[k] r_i(nodes[k]), or of another array.
  __device__ void integrate(unsigned count, const double* alone, double* to) {
    row_integrals_.integrate(count, Elements{nullptr, ElementType::f64}, alone, alone, to);
  }

  /// Masses of the next tile: weights times G. Returns how many there are.
  __device__ unsigned next_masses() {
    const unsigned count = row_integrals_.next_tile();
    if (count == 0) return 0;
    row_integrals_.sum_log_cdfs(count);
    if (threadIdx.x < count) memory_.masses[threadIdx.x] *= exp(memory_.sums[threadIdx.x]);
    __syncthreads();
    return count;
  }

  __device__ void of_all_classes(bool has_meaning) {
    const bool is_vjp = task_.wanted == Wanted::vjp;
    if (has_meaning) {
      row_integrals_.place(task_.accuracy);
      for (unsigned count; (count = next_masses()) != 0;)
        is_vjp ? add_products(count) : integrate(count, memory_.masses, integrals());
    }
    if (is_in_cells()) return is_vjp ? write_products() : write_probabilities();
    for_classes([&](std::size_t i) {
      const double value = has_meaning ? integrals_[i] : nan();
      task_.out.set(first_ + i, is_vjp ? value / task_.scale : probability(value));
    });
  }

  /// Adds r_m G (g_m R - T) of a tile, R = sum_i r_i, T = sum_i g_i r_i; of points the integrals of
  /// r_m G, r_m G R and r_m G T.
  __device__ void add_products(unsigned count) {
    const Elements cotangents = task_.cotangents.from(first_);
    const Elements factors = is_in_cells()
                                 ? Elements{cells_.array(Cells::spread_factors), ElementType::f64}
                                 : cotangents;
    row_integrals_.sum_ratios(count, factors);
    if (threadIdx.x < count) {
      const unsigned k = threadIdx.x;
      const double mass = memory_.masses[k], of_factors = mass * memory_.weighted[k];
      memory_.by_cotangent[k] = mass * memory_.sums[k];
      memory_.alone[k] = is_in_cells() ? of_factors : -of_factors;
    }
    __syncthreads();
    if (!is_in_cells())
      return row_integrals_.integrate(count, cotangents, memory_.by_cotangent, memory_.alone,
                                      integrals_);
    integrate(count, memory_.masses, cells_.array(Cells::integrals));
    integrate(count, memory_.by_cotangent, cells_.array(Cells::of_ratios));
    integrate(count, memory_.alone, cells_.array(Cells::of_factors));
  }

  /// Expands the logarithms of probabilities of points, which are as smooth as tails are steep, and
  /// leaves the probability of a class that is a point.
  __device__ void expand_logs() {
    double* p = cells_.array(Cells::integrals);
    cells_.for_expanded([&](unsigned i) { p[i] = fmin(0.0, log(fmax(p[i], least_probability))); });
    cells_.expand(p);
  }

  __device__ void write_probabilities() {
    expand_logs();
    const double* p = cells_.array(Cells::integrals);
    const bool is_log = task_.wanted == Wanted::log_probabilities;
    for_classes([&](std::size_t j) {
      double value = 0.0;
      if (cells_.is_out(j)) {
        value = probability(value);
      } else if (cells_.is_point(j)) {
        value = probability(p[cells_.point_of(j)]);
      } else {
        // What is hardly more than the least one stands for zero.
        const double log_p = cells_.value(p, j);
        const bool is_none = log_p < log_least_probability + log_10;
        value = !is_log ? is_none ? 0.0 : exp(log_p) : is_none ? -infinity<double>() : log_p;
      }
      task_.out.set(first_ + j, value);
    });
  }

  /// The integrals of r_m G R and r_m G T are interpolated relative to those of r_m G.
  __device__ void write_products() {
    double *p = cells_.array(Cells::integrals), *of_ratios = cells_.array(Cells::of_ratios),
           *of_factors = cells_.array(Cells::of_factors);
    cells_.for_expanded([&](unsigned i) {
      const double divisor = fmax(p[i], least_probability);
      of_ratios[i] /= divisor;
      of_factors[i] /= divisor;
    });
    expand_logs();
    cells_.expand(of_ratios);
    cells_.expand(of_factors);
    const Elements cotangents = task_.cotangents.from(first_);
    for_classes([&](std::size_t j) {
      double value = 0.0;
      if (cells_.is_point(j)) {
        const unsigned i = cells_.point_of(j);
        value = cotangents[j] * of_ratios[i] - of_factors[i];
      } else if (!cells_.is_out(j)) {
        value = exp(fmin(0.0, cells_.value(p, j))) *
                (cotangents[j] * cells_.value(of_ratios, j) - cells_.value(of_factors, j));
      }
      task_.out.set(first_ + j, value / task_.scale);
    });
  }

  __device__ double probability(double p) const {
    if (p != p) return p;
    p = fmin(p, 1.0);
    if (task_.wanted == Wanted::probabilities) return p < least_probability ? 0.0 : p;
    const double log_p = log(p);
    return log_p < log_least_probability ? -infinity<double>() : log_p;
  }

  __device__ void expected_max(bool has_meaning) {
    double mean = Law::begins_at_zero && Law::has_breaks ? -0.5 : 0.0;  // uniform noise
    const bool has_mean = row_integrals_.law().has_mean();
    if (!has_mean) mean = infinity<double>();
    if (has_meaning && has_mean) {
      row_integrals_.place(task_.accuracy);
      for (unsigned count; (count = next_masses()) != 0;) {
        row_integrals_.sum_ratios(count, Elements{nullptr, ElementType::f64});
        // The density of u is G R.
        const unsigned k = threadIdx.x;
        mean += row_integrals_.total(
            k < count ? memory_.masses[k] * memory_.sums[k] * memory_.nodes[k] : 0.0);
      }
      mean += row_integrals_.mean_of_tails();
    }
    if (threadIdx.x == 0)
      task_.out.set(row_, has_meaning ? row_integrals_.max() + task_.scale * mean : nan());
  }

  /// Masses of the next tile for one class: weights times its integrand over e^top.
  __device__ unsigned next_masses_of_class(double logit, double top) {
    const unsigned count = row_integrals_.next_tile();
    if (count == 0) return 0;
    row_integrals_.sum_log_cdfs(count);
    if (threadIdx.x < count) {
      const unsigned k = threadIdx.x;
      const double log = row_integrals_.log_integrand(memory_.nodes[k], logit, memory_.sums[k]);
      // It is not that much above the highest sample, unless huge logarithms are rounded.
      memory_.masses[k] *= exp(fmin(log - top, 16.0));
    }
    __syncthreads();
    return count;
  }

  __device__ void log_prob(bool has_meaning) {
    const std::int64_t index = task_.index[row_];
    has_meaning = has_meaning && 0 <= index && index < static_cast<std::int64_t>(task_.classes);
    const double logit =
        has_meaning ? row_integrals_.shifted(static_cast<std::size_t>(index)) : nan();
    const bool is_uniform = Law::begins_at_zero && Law::has_breaks;
    bool can_win = logit > -infinity<double>() && !(is_uniform && logit <= -1.0);
    double top = 0.0, total = 0.0;
    if (can_win) {
      top = row_integrals_.place_for_class(logit);
      can_win = top > -infinity<double>();
    }
    if (can_win) {
      for (unsigned count; (count = next_masses_of_class(logit, top)) != 0;) {
        const double mass = threadIdx.x < count ? memory_.masses[threadIdx.x] : 0.0;
        total += row_integrals_.total(mass);
        if (task_.gradients.data == nullptr) continue;
        integrate(count, memory_.masses, integrals());
      }
    }
    if (threadIdx.x == 0)
      task_.out.set(row_, !has_meaning ? nan() : can_win ? top + log(total) : -infinity<double>());
    if (task_.gradients.data != nullptr) write_gradient(index, has_meaning, can_win, total);
  }

  /// d log P_y / d mu_m = -E_y[r_m] for m != y, where u has the density r_y G / P_y; the gradient
  /// sums to zero.
  __device__ void write_gradient(std::int64_t index, bool has_meaning, bool can_win, double total) {
    double own = 0.0;
    if (is_in_cells()) cells_.expand(integrals());
    for_classes([&](std::size_t i) {
      double value = !has_meaning ? nan() : can_win ? integral_of(i) / total : 0.0;
      if (static_cast<std::int64_t>(i) == index && has_meaning) value = 0.0;
      own += value;
      task_.gradients.set(first_ + i, -value / task_.scale);
    });
    own = row_integrals_.total(own);
    if (threadIdx.x == 0 && has_meaning)
      task_.gradients.set(first_ + static_cast<std::size_t>(index), own / task_.scale);
  }

  /// What integrate() gave for a class; of points, after expand().
  __device__ double integral_of(std::size_t j) const {
    if (!is_in_cells()) return integrals_[j];
    const double* of_points = cells_.array(Cells::integrals);
    if (cells_.is_out(j)) return 0.0;
    return cells_.is_point(j) ? of_points[cells_.point_of(j)] : cells_.value(of_points, j);
  }

  IntegralMemory& memory_;
  const NoiseTask& task_;
  std::size_t row_, first_;
  double* integrals_;
  RowIntegrals<Law> row_integrals_;
  Cells cells_;
};

}  // namespace logitkit::cuda
