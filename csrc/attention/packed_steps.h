// The steps in which PackedLoops go over tiles.
#pragma once

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

  const PackedStep* data() const { return steps_; }
  std::size_t count() const { return count_; }
  void clear() { count_ = tiles_ = 0; }

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
        steps_[count_++] = {keys, values, v, 0, tile_keys, nullptr, nullptr};
      else
        add_visible({keys, values, v, 0, 0, begins, ends});
    }
  }

 private:
  static constexpr std::size_t width = 16;

  void add_visible(PackedStep step) {
    const auto least = [](float a, float b) { return a < b ? a : b; };
    const auto most = [](float a, float b) { return a < b ? b : a; };
    float begin = tile_keys, end = 0, all_begin = 0, all_end = tile_keys;
    for (std::size_t i = step.vector * width; i < (step.vector + 1) * width; ++i) {
      all_begin = most(all_begin, step.begins[i]);
      all_end = least(all_end, step.ends[i]);
      if (step.begins[i] >= step.ends[i]) continue;
      begin = least(begin, step.begins[i]);
      end = most(end, step.ends[i]);
    }
    if (begin >= end) return;
    step.begin = static_cast<std::size_t>(begin) / packed_step * packed_step;
    step.end = (static_cast<std::size_t>(end) + packed_step - 1) / packed_step * packed_step;
    if (all_begin <= static_cast<float>(step.begin) && all_end >= static_cast<float>(step.end))
      step.begins = step.ends = nullptr;
    steps_[count_++] = step;
  }

  PackedStep steps_[most_tiles * panel_vectors];
  struct {
    alignas(64) float begins[max_queries];
    alignas(64) float ends[max_queries];
  } limits_[most_tiles];
  std::size_t count_ = 0, tiles_ = 0;
};

}  // namespace logitkit
