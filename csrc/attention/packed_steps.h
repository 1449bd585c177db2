// The steps in which PackedLoops go over tiles.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/loops.h"
#include "attention/panel.h"

namespace logitkit {

/// Steps of one panel, of up to so many tiles.
template <std::size_t most_tiles>
class PackedSteps {
 public:
  const float* factors = nullptr;  // of PackedPanel, for all of them

  /// All of them, those of one vector after those of another, so that its queries and sums stay in
  /// the first-level cache.
  const PackedStep* data() {
    std::size_t k = 0;
    for (const OfVector& of : vectors_)
      for (std::size_t n = 0; n < of.count; ++n) steps_[k++] = of.steps[n];
    return steps_;
  }
  std::size_t count() const {
    std::size_t sum = 0;
    for (const OfVector& of : vectors_) sum += of.count;
    return sum;
  }
  void clear() {
    tiles_ = 0;
    for (OfVector& of : vectors_) of.count = 0;
  }

  /// Adds a packed tile of the keys from first_key on, without what no lane sees; null keys say
  /// that its scores are made.
  void add(const PanelBand& band, std::int64_t first_key, std::size_t keys_of_tile,
           const std::uint16_t* keys, const std::uint16_t* values) {
    const auto last_key = first_key + static_cast<std::int64_t>(tile_keys);
    const bool sees_all = keys_of_tile == tile_keys && band.sees_all(first_key, last_key);
    float *begins = limits_[tiles_].begins, *ends = limits_[tiles_].ends;
    if (!sees_all) band.relative(first_key, keys_of_tile, begins, ends);
    ++tiles_;
    for (std::size_t v = 0; v < band.vectors(); ++v) {
      if (sees_all)
        add_step({keys, values, v, 0, tile_keys, nullptr, nullptr});
      else
        add_visible({keys, values, v, 0, 0, begins, ends});
    }
  }

 private:
  static constexpr std::size_t width = 16;

  void add_visible(PackedStep step) {
    float begin = tile_keys, end = 0, all_begin = 0, all_end = tile_keys;
    for (std::size_t i = step.vector * width; i < (step.vector + 1) * width; ++i) {
      all_begin = std::max(all_begin, step.begins[i]);
      all_end = std::min(all_end, step.ends[i]);
      if (step.begins[i] >= step.ends[i]) continue;
      begin = std::min(begin, step.begins[i]);
      end = std::max(end, step.ends[i]);
    }
    if (begin >= end) return;
    step.begin = static_cast<std::size_t>(begin) / packed_step * packed_step;
    step.end = (static_cast<std::size_t>(end) + packed_step - 1) / packed_step * packed_step;
    if (all_begin <= static_cast<float>(step.begin) && all_end >= static_cast<float>(step.end))
      step.begins = step.ends = nullptr;
    add_step(step);
  }

  void add_step(const PackedStep& step) {
    OfVector& of = vectors_[step.vector];
    of.steps[of.count++] = step;
  }

  struct OfVector {
    PackedStep steps[most_tiles];
    std::size_t count = 0;
  };
  OfVector vectors_[panel_vectors];
  PackedStep steps_[most_tiles * panel_vectors];
  struct {
    alignas(64) float begins[max_queries];
    alignas(64) float ends[max_queries];
  } limits_[most_tiles];
  std::size_t tiles_ = 0;
};

}  // namespace logitkit
