// Panels of the rows of a layer, the tiles of their logits, and what tiles are reduced to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "aligned.h"
#include "attention/loops.h"
#include "linear_cross_entropy/linear_cross_entropy.h"
#include "linear_cross_entropy/loops.h"

namespace logitkit {

/// What one row has seen of its classes; logits are in units of ln 2.
struct RowSums {
  double max = -std::numeric_limits<double>::infinity();
  double sum = 0.0, mean = 0.0;  // of 2^(z - max), and of 2^(z - max) (z - max)
  double target = 0.0, total = 0.0;
  std::int64_t best = 0;

  /// Adds what the row has seen of later classes.
  void add(const RowSums& later) {
    target += later.target;
    total += later.total;
    if (later.max > max) best = later.best;
    if (later.sum == 0.0) return;  // a NaN is not
    if (sum == 0.0) {
      max = later.max, sum = later.sum, mean = later.mean;
      return;
    }
    const double top = std::max(max, later.max);
    const double a = max - top, b = later.max - top, of_a = std::exp2(a), of_b = std::exp2(b);
    const auto moved = [](double mean_before, double distance, double weight) {
      return weight > 0.0 && distance != 0.0 ? mean_before + distance * weight : mean_before;
    };
    mean = of_a * moved(mean, a, sum) + of_b * moved(later.mean, b, later.sum);
    sum = of_a * sum + of_b * later.sum;
    max = top;
  }
};

/// How classes are cut, which depends on nothing but their number. A part is a unit of work;
/// sums of T do not run over more classes than a run.
struct ClassGrid {
  static constexpr std::size_t most_parts = 8, run = 64 * tile_keys;

  explicit ClassGrid(std::size_t all_classes) : classes(all_classes) {
    const std::size_t tiles = (classes + tile_keys - 1) / tile_keys;
    tiles_of_part_ = std::max<std::size_t>(4, (tiles + most_parts - 1) / most_parts);
    parts = (tiles + tiles_of_part_ - 1) / tiles_of_part_;
  }
  std::size_t begin(std::size_t part) const {
    return std::min(classes, part * tiles_of_part_ * tile_keys);
  }

  std::size_t classes, parts;

 private:
  std::size_t tiles_of_part_;
};

template <class T>
class LogitPanels {
 public:
  static constexpr double ln_2 = 0.693147180559945309417232121458;
  static constexpr double log2_e = 1.44269504088896340735992468100;

  LogitPanels(const LayerLossInput<T>& input, const LayerLossStats& stats, Isa isa)
      : products(attention_loops_for<T>(isa)),
        loops(layer_loss_loops_for<T>(isa)),
        lanes(panel_vectors * products.width),
        cap(static_cast<T>(double{input.softcap} * log2_e)),
        in_(input),
        with_mean_(stats.entropy != nullptr),
        with_total_(stats.total != nullptr),
        with_best_(stats.best != nullptr) {
    for (std::size_t i = 0; i < in_.rows; ++i)
      if (in_.labels[i] >= 0) rows.push_back(i);
    // Logits in units of ln 2, or of the cap.
    const double unit = in_.softcap > 0 ? 1.0 / double{in_.softcap} : log2_e;
    unit_ = static_cast<T>(unit);
    std::fill_n(units_, max_queries, unit_);
    std::fill_n(ones, max_queries, T{1});
  }

  const AttentionLoops<T>& products;
  const LayerLossLoops<T>& loops;
  const std::size_t lanes;
  const T cap;  // of logits in units of ln 2; 0: none
  /// The rows that take part; panel p has those from p * lanes on.
  std::vector<std::size_t> rows;
  alignas(64) T ones[max_queries];

  std::size_t panels() const { return (rows.size() + lanes - 1) / lanes; }
  std::size_t count(std::size_t panel) const {
    return std::min(lanes, rows.size() - panel * lanes);
  }
  std::size_t vectors(std::size_t panel) const {
    return (count(panel) + products.width - 1) / products.width;
  }
  std::size_t row(std::size_t panel, std::size_t lane) const { return rows[panel * lanes + lane]; }

  /// packed[d][lane].
  void pack(std::size_t panel, T* packed) const {
    const T* from[max_queries];
    for (std::size_t i = 0; i < count(panel); ++i) from[i] = in_.input + row(panel, i) * in_.depth;
    products.pack(from, units_, count(panel), in_.depth, packed);
  }

  /// The logits of `classes` classes from `first` on, in units of ln 2.
  void make_tile(std::size_t panel, const T* packed, std::size_t first, std::size_t classes,
                 T* tile) const {
    const T* of_classes[tile_keys];
    for (std::size_t j = 0; j < classes; ++j) of_classes[j] = in_.weight + (first + j) * in_.depth;
    products.score(packed, of_classes, classes, in_.depth, 0, vectors(panel), tile);
    finish_tile(panel, first, classes, tile);
  }

  /// What makes logits of products: the bias and the cap.
  void finish_tile(std::size_t panel, std::size_t first, std::size_t classes, T* tile) const {
    if (in_.bias != nullptr) loops.add_bias(tile, classes, vectors(panel), in_.bias + first, unit_);
    if (cap > 0) products.cap(tile, classes, cap);
  }

  /// The targets of the same classes, if there are any; null if not.
  const T* make_targets(std::size_t panel, std::size_t first, std::size_t classes, T* tile) const {
    if (in_.targets == nullptr) return nullptr;
    const T* from[max_queries];
    for (std::size_t i = 0; i < count(panel); ++i)
      from[i] = in_.targets + row(panel, i) * in_.classes + first;
    products.pack(from, ones, count(panel), classes, tile);
    return tile;
  }

  const T* weights(std::size_t first) const {
    return in_.class_weight == nullptr ? nullptr : in_.class_weight + first;
  }

  /// What the lanes of a panel have seen of a run of classes, in T.
  class Run {
   public:
    explicit Run(const LogitPanels& panels) : panels_(panels) { start(); }

    /// Adds a tile of logits. `targets` is what make_targets() returned.
    void add(std::size_t panel, const T* tile, const T* targets, std::size_t first,
             std::size_t classes) {
      const std::size_t vectors = panels_.vectors(panel), count = panels_.count(panel);
      T before[max_queries];
      std::copy_n(max_, max_queries, before);
      panels_.loops.reduce(tile, classes, vectors, max_, sum_,
                           panels_.with_mean_ ? mean_ : nullptr);
      if (panels_.with_best_) find_best(before, count, tile, first, classes);
      const T* weights = panels_.weights(first);
      if (targets != nullptr) panels_.loops.dot(tile, targets, weights, classes, vectors, target_);
      if (panels_.with_total_) panels_.loops.dot(tile, nullptr, weights, classes, vectors, total_);
      for (std::size_t i = 0; targets == nullptr && i < count; ++i) {
        const auto label = static_cast<std::size_t>(panels_.in_.labels[panels_.row(panel, i)]);
        if (label - first < classes) target_[i] = tile[(label - first) * panels_.lanes + i];
      }
    }

    /// Adds the run to the sums of the rows of the panel, and begins another one.
    void finish(std::size_t count, RowSums* sums) {
      for (std::size_t i = 0; i < count; ++i)
        sums[i].add({max_[i], sum_[i], mean_[i], target_[i], total_[i], best_[i]});
      start();
    }

   private:
    void start() {
      std::fill_n(max_, max_queries, std::numeric_limits<T>::lowest());
      for (T* of : {sum_, mean_, target_, total_}) std::fill_n(of, max_queries, T{0});
      std::fill_n(best_, max_queries, std::int64_t{0});
    }

    void find_best(const T* before, std::size_t count, const T* tile, std::size_t first,
                   std::size_t classes) {
      for (std::size_t i = 0; i < count; ++i) {
        if (!(max_[i] > before[i])) continue;
        std::size_t j = 0;
        while (j + 1 < classes && tile[j * panels_.lanes + i] != max_[i]) ++j;
        best_[i] = static_cast<std::int64_t>(first + j);
      }
    }

    const LogitPanels& panels_;
    alignas(64) T max_[max_queries], sum_[max_queries], mean_[max_queries], target_[max_queries],
        total_[max_queries];
    std::int64_t best_[max_queries];
  };

  /// Writes the statistics of one row, and returns its log-sum-exp.
  static double write(const RowSums& sums, std::size_t row, const LayerLossStats& stats) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double log_sum = std::log(sums.sum);
    const double logsumexp = sums.max == infinity ? infinity
                             : sums.sum == 0.0    ? -infinity
                                                  : sums.max * ln_2 + log_sum;
    if (stats.logsumexp != nullptr) stats.logsumexp[row] = logsumexp;
    if (stats.entropy != nullptr) {
      const double entropy = log_sum - ln_2 * (sums.mean / sums.sum);
      stats.entropy[row] = sums.sum == 0.0 ? 0.0 : entropy < 0.0 ? 0.0 : entropy;
    }
    if (stats.target != nullptr) stats.target[row] = sums.target * ln_2;
    if (stats.total != nullptr) stats.total[row] = sums.total * ln_2;
    if (stats.best != nullptr) stats.best[row] = sums.best;
    return logsumexp;
  }

 private:
  const LayerLossInput<T>& in_;
  const bool with_mean_, with_total_, with_best_;
  T unit_;
  alignas(64) T units_[max_queries];
};

}  // namespace logitkit
