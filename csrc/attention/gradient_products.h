// The gradient of attention by GradientLoops: what they want packed, and when.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "attention/gradient_loops.h"
#include "attention/panel.h"
#include "attention/workspace.h"

namespace logitkit {

/// What one thread holds: the panels of a group, one tile of keys and values, and the weights and
/// gradients of a tile for two panels, whose lanes are summed over together: their vectors in
/// pairs, for 3 do not make whole steps.
class GradientProducts {
 public:
  static constexpr std::size_t most_panels = 2;  // at a time

  static constexpr float most_ordinary = 0x1p40f;
  /// Whether numbers up to this one, not all of them 0, may be split: their products neither
  /// overflow nor are so small that parts of them are denormal.
  static bool ordinary(float largest, float least = 0x1p-40f) {
    return largest == 0.0f || (largest >= least && largest <= most_ordinary);
  }

  /// A panel that goes over a tile: what it sees, or null where it takes no part, its logits and
  /// products with values ([key][lane]), its rows' numbers for AttentionLoops::grade(), and the
  /// gradient of its queries ([dim][lane]).
  struct Part {
    const PanelBand* band = nullptr;
    const float *logits, *products, *logsumexp, *terms, *slopes;
    float* sums;
  };

  GradientProducts(const GradientLoops& loops, std::size_t head_dim, std::size_t value_dim,
                   std::size_t panels)
      : loops_(loops),
        head_dim_(head_dim),
        value_dim_(value_dim),
        query_pairs_(pairs_of(head_dim)),
        grad_pairs_(pairs_of(value_dim)),
        query_rows_(pairs_of_rows(head_dim)),
        grad_rows_(pairs_of_rows(value_dim)),
        keys_(rows_.take(steps(head_dim) * rows_of_step)),
        columns_{rows_.take((head_dim + 63) / 64 * key_steps * rows_of_step),
                 rows_.take((head_dim + 63) / 64 * key_steps * rows_of_step)},
        values_(rows_.take(steps(value_dim) * rows_of_step)),
        spaces_{rows_.take(GradientLoops::space), rows_.take(GradientLoops::space)} {
    replaced_.reserve(tile_keys);
    for (std::size_t p = 0; p < panels; ++p)
      panels_.push_back({pairs_.take(query_pairs_), pairs_.take(grad_pairs_)});
    for (std::size_t p = 0; p < panels; p += most_panels)
      rows_of_panels_.push_back({pairs_.take(query_rows_), pairs_.take(grad_rows_)});
  }

  const GradientLoops& loops() const { return loops_; }

  /// No panel takes part until start() is called for it.
  void start_group() {
    for (PanelPairs& panel : panels_) panel.vectors = 0;
  }

  /// Packs the panel p of the group: queries and incoming gradients, [dim][lane]. False, and it
  /// takes no part, if they may not be split.
  bool start(std::size_t p, const float* queries, const float* grad_out, std::size_t vectors) {
    bool fits = true;
    for (std::size_t v = 0; v < vectors; ++v) {
      fits = fits &&
             ordinary(loops_.pack_panel(queries + v * width, head_dim_,
                                        panels_[p].queries + v * steps(head_dim_) * pairs_of_step));
      // Incoming gradients may be smaller.
      fits = fits && ordinary(loops_.pack_panel(
                                  grad_out + v * width, value_dim_,
                                  panels_[p].grad_out + v * steps(value_dim_) * pairs_of_step),
                              0x1p-60f);
    }
    panels_[p].vectors = fits ? vectors : 0;
    return fits;
  }

  /// Packs the same of the panels from p on, those of one tile, as rows [lane][dim]; null ones
  /// take no part.
  void start_rows(std::size_t p, const float* const* queries, const float* const* grad_out) {
    const auto rows = [&](const Lane& lane, const float* const* of, std::size_t depth) {
      return lane.exists() ? of[lane.panel] + lane.vector * width * depth : nullptr;
    };
    const std::size_t key_depth = whole_vectors(head_dim_), depth = whole_vectors(value_dim_);
    const PanelRowPairs& to = rows_of_panels_[p / most_panels];
    for (std::size_t s = 0; s < lane_pairs; ++s) {
      const Lane first = lane_of(p, 2 * s), second = lane_of(p, 2 * s + 1);
      if (!first.exists()) break;
      loops_.pack_lanes(rows(first, queries, key_depth), rows(second, queries, key_depth),
                        key_depth, to.queries + s * pairs_of_step);
      loops_.pack_lanes(rows(first, grad_out, depth), rows(second, grad_out, depth), depth,
                        to.grad_out + s * pairs_of_step);
    }
  }

  /// The next keys are others.
  void forget_keys() { loaded_ = false; }

  /// Packs a tile of keys and values if it is not there. Rows that may not be split are replaced by
  /// zeros, of which there are as many as dimensions. False if it may not be used.
  bool load_keys(const float* const* keys, const float* const* values, std::size_t count,
                 const float* zeros) {
    if (loaded_) return usable_;
    loaded_ = true;
    replaced_.clear();
    usable_ = pack(keys, values, count);
    if (usable_) return true;
    const float *key_rows[tile_keys], *value_rows[tile_keys];
    for (std::size_t j = 0; j < count; ++j) {
      const bool fits = loops_.largest(keys + j, 1, head_dim_) <= most_ordinary &&
                        loops_.largest(values + j, 1, value_dim_) <= most_ordinary;
      if (!fits) replaced_.push_back(j);
      key_rows[j] = fits ? keys[j] : zeros;
      value_rows[j] = fits ? values[j] : zeros;
    }
    usable_ = pack(key_rows, value_rows, count);
    return usable_;
  }

  /// The logits of the panel p, as AttentionLoops::score() gives them.
  void score(std::size_t p, const PanelBand& band, float* tile) const {
    score(keys_, panels_[p].queries, head_dim_, band, tile);
  }
  /// The same for the incoming gradients and the values.
  void score_values(std::size_t p, const PanelBand& band, float* gradients) const {
    score(values_, panels_[p].grad_out, value_dim_, band, gradients);
  }

  /// Whether one of `count` lanes sees, that is finds in a tile of logits something else than -inf
  /// for, a row that was replaced.
  bool sees_replaced(const PanelBand& band, std::size_t count, const float* tile) const {
    for (const std::size_t j : replaced_)
      for (std::size_t i = 0; i < count; ++i)
        if (band.begins[i / width] <= j && j < band.ends[i / width] &&
            tile[j * lanes + i] != -std::numeric_limits<float>::infinity())
          return true;
    return false;
  }

  /// Adds what the tile gives to the gradients of the panels from p on, of keys and of values, in
  /// rows of whole vectors: while the next one is made, or in finish(). Calls f(k, v) for the
  /// vector v of the panel p + k if it may not be split, and nothing will be added.
  template <class F>
  void add(std::size_t p, const Part (&parts)[most_panels], bool is_graded, float* grad_keys,
           float* grad_values, const F& f) {
    const PanelRowPairs& rows = rows_of_panels_[p / most_panels];
    GradientLoops::Tile tile = {head_dim_,
                                value_dim_,
                                now_columns_,
                                rows.queries,
                                rows.grad_out,
                                {},
                                is_graded,
                                other(spaces_, last_.space),
                                grad_keys,
                                grad_values,
                                {}};
    std::size_t number = 0;
    for (; lane_of(p, number).exists(); ++number) {
      const Lane lane = lane_of(p, number);
      const Part& part = parts[lane.panel];
      if (part.band == nullptr) continue;
      const std::size_t first = lane.vector * width;
      tile.lanes[number] = {part.logits + first,
                            part.products + first,
                            part.logsumexp + first,
                            part.terms + first,
                            part.slopes == nullptr ? nullptr : part.slopes + first,
                            part.band->begins[lane.vector],
                            part.band->ends[lane.vector],
                            part.sums + first};
    }
    const unsigned failed = loops_.add(last_, tile, 0x1p80f);
    last_ = tile;
    for (std::size_t k = 0; failed != 0 && k < number; ++k) {
      const Lane lane = lane_of(p, k);
      if ((failed >> k / 2 & 1u) != 0 && parts[lane.panel].band != nullptr)
        f(lane.panel, lane.vector);
    }
  }

  /// Comes after the last tile of a group.
  void finish() {
    GradientLoops::Tile none = {};
    loops_.add(last_, none, 0.0f);
    last_ = none;
  }

 private:
  static constexpr std::size_t width = 16, lanes = panel_vectors * width;
  static constexpr std::size_t rows_of_step = GradientLoops::rows_of_step;
  static constexpr std::size_t pairs_of_step = GradientLoops::pairs_of_step;
  static constexpr std::size_t lane_pairs = GradientLoops::most_lane_pairs;
  static constexpr std::size_t key_steps = tile_keys / GradientLoops::step;
  static_assert(most_panels * panel_vectors == 2 * lane_pairs);

  struct PanelPairs {
    std::uint32_t *queries, *grad_out;
    std::size_t vectors = 0;
  };
  struct PanelRowPairs {
    std::uint32_t *queries, *grad_out;
  };
  // A vector of lanes of the panels of a tile.
  struct Lane {
    std::size_t panel, vector;
    bool exists() const { return panel < most_panels; }
  };

  static std::size_t steps(std::size_t depth) {
    return (depth + GradientLoops::step - 1) / GradientLoops::step;
  }
  static std::size_t whole_vectors(std::size_t depth) {
    return (depth + width - 1) / width * width;
  }
  static std::size_t pairs_of(std::size_t depth) {
    return panel_vectors * steps(depth) * pairs_of_step;
  }
  static std::size_t pairs_of_rows(std::size_t depth) {
    return whole_vectors(depth) / width * lane_pairs * pairs_of_step;
  }

  // The vector of that number among those of the panels from p on.
  Lane lane_of(std::size_t p, std::size_t number) const {
    for (std::size_t k = 0; k < most_panels && p + k < panels_.size(); ++k) {
      if (number < panels_[p + k].vectors) return {k, number};
      number -= panels_[p + k].vectors;
    }
    return {most_panels, 0};
  }

  // The last tile's may still be needed.
  template <class P>
  static P* other(P* const (&two)[2], const P* last) {
    return two[two[0] == last ? 1 : 0];
  }

  // Returns whether these rows may be split.
  bool pack(const float* const* keys, const float* const* values, std::size_t count) {
    now_columns_ = other(columns_, last_.columns);
    loops_.pack_columns(keys, count, head_dim_, now_columns_);
    const float largest_key = loops_.pack_rows(keys, count, head_dim_, keys_);
    const float largest_value = loops_.pack_rows(values, count, value_dim_, values_);
    return ordinary(largest_key) && ordinary(largest_value);
  }

  void score(const std::uint16_t* rows, const std::uint32_t* pairs, std::size_t depth,
             const PanelBand& band, float* tile) const {
    for (std::size_t v = 0; v < band.vectors(); ++v)
      if (band.begins[v] < band.ends[v])
        loops_.score(rows, pairs + v * steps(depth) * pairs_of_step, depth, band.begins[v],
                     band.ends[v], tile + v * width);
  }

  const GradientLoops& loops_;
  const std::size_t head_dim_, value_dim_;
  const std::size_t query_pairs_, grad_pairs_, query_rows_, grad_rows_;  // sizes
  Arena<std::uint16_t> rows_;
  Arena<std::uint32_t> pairs_;
  std::uint16_t *keys_, *columns_[2], *now_columns_ = nullptr, *values_;
  std::uint16_t* spaces_[2];
  GradientLoops::Tile last_ = {};  // whose weights and gradients are made, but not yet added
  std::vector<PanelPairs> panels_;
  std::vector<PanelRowPairs> rows_of_panels_;
  bool loaded_ = false, usable_ = false;
  std::vector<std::size_t> replaced_;  // rows of the tile
};

}  // namespace logitkit
