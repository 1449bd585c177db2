// Where a panel's steps over keys have their tiles, weights and sums. Include only from amx.cpp
// files.
#pragma once

#include "attention/operands_avx512.h"
#include "attention/packed_steps.h"
#include "simd/amx_product.h"

namespace logitkit::amx {
namespace {

/// Of logits no digit is left out.
template <size_t parts>
using ScoreColumn = Column<parts, parts == 2>;

inline float* sums_of(const PackedSums& sums, size_t vector, size_t depth) {
  return sums.values + vector * round_up(depth, side) * width;
}

/// A panel on its way over steps: while the weights of one are made, the scores of the next and the
/// values of the last are multiplied, so that there are tiles, weights and factors of two.
template <size_t parts>
class PanelSteps {
 public:
  PanelSteps(const PackedPanel& panel, const PackedStep* steps, size_t count,
             const PackedSpace& space)
      : panel_(panel), steps_(steps), count_(count), space_(space) {}

 protected:
  using Values = Column<parts>;

  // Whether the scores were made before.
  bool is_made(size_t s) const { return steps_[s].keys == nullptr; }
  size_t stride(size_t s) const { return is_made(s) ? lanes : width; }
  float* tile(size_t s) const {
    return space_.tile + (is_made(s) ? steps_[s].vector * width : s % 2 * tile_keys * width);
  }
  std::uint32_t* weights(size_t s) const {
    return space_.weights + s % 2 * (tile_keys / depth_step) * Values::pairs_of_step;
  }
  float* sums(size_t vector) const { return sums_of(*space_.sums, vector, panel_.value_depth); }

  size_t products_of_score(size_t s) const {
    const PackedStep& step = steps_[s];
    return is_made(s) ? 0
                      : (step.end - step.begin) / side * ScoreColumn<parts>::products *
                            (round_up(panel_.depth, depth_step) / depth_step);
  }
  size_t products_of_weigh(size_t s) const {
    return round_up(panel_.value_depth, side) / side * Values::products *
           ((steps_[s].end - steps_[s].begin) / depth_step);
  }

  // Of the sums in memory.
  void rescale(F32 factor, size_t vector) const {
    float *total = space_.sums->totals + vector * width, *sums = this->sums(vector);
    (F32::load(total) * factor).store(total);
    for (size_t k = 0; k < round_up(panel_.value_depth, side) * width; k += width)
      (F32::load(sums + k) * factor).store(sums + k);
  }

  const PackedPanel& panel_;
  const PackedStep* const steps_;
  const size_t count_;
  const PackedSpace& space_;
  alignas(64) float factors_[2][width];
};

}  // namespace
}  // namespace logitkit::amx
