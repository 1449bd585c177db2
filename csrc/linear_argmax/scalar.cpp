#include "linear_argmax/linear_argmax.h"

namespace logitkit::scalar {
namespace {

bool raise(const float* tile, std::size_t rows, const float* bias, std::int32_t first_row,
           float* best, std::int32_t* index) {
  const std::size_t lanes = score_loops.lanes;
  bool nan = false;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < lanes; ++i) {
      const float score = tile[r * lanes + i] + bias[r];
      nan |= score != score;
      if (score > best[i]) {
        best[i] = score;
        index[i] = first_row + static_cast<std::int32_t>(r);
      }
    }
  return nan;
}

void compare(const float* tile, std::size_t rows, const float* bias, const float* threshold,
             std::uint64_t* above) {
  const std::size_t lanes = score_loops.lanes;
  for (std::size_t r = 0; r < rows; ++r) {
    above[r] = 0;
    for (std::size_t i = 0; i < lanes; ++i)
      above[r] |= std::uint64_t{!(tile[r * lanes + i] + bias[r] <= threshold[i])} << i;
  }
}

}  // namespace

const ArgmaxLoops argmax_loops = {raise, compare};

}  // namespace logitkit::scalar
