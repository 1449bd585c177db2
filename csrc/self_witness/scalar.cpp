#include "self_witness/self_witness.h"

namespace logitkit::scalar {
namespace {

std::size_t prune(const float* tile, std::size_t rows, const float* lane_tails,
                  const float* row_tails, const float* limits, float* worst,
                  std::uint32_t* survivors) {
  const std::size_t lanes = score_loops.lanes;
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    float bound[max_lanes];
    bool below = true;
    for (std::size_t i = 0; i < lanes; ++i) {
      // Exact in double but for one rounding there, and another to float.
      bound[i] = static_cast<float>(double{tile[r * lanes + i]} +
                                    double{lane_tails[i]} * double{row_tails[r]});
      below &= bound[i] < limits[i];
    }
    if (!below)
      survivors[count++] = static_cast<std::uint32_t>(r);
    else
      for (std::size_t i = 0; i < lanes; ++i) worst[i] = bound[i] > worst[i] ? bound[i] : worst[i];
  }
  return count;
}

}  // namespace

const WitnessLoops witness_loops = {prune};

}  // namespace logitkit::scalar
