#include "linear_argmax/linear_argmax.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace logitkit {
namespace {

// The running maxima of one panel, as the loops want them.
struct alignas(64) Running {
  float best[max_lanes];
  std::int32_t index[max_lanes];
};

// Gives each lane that met its first NaN in this tile to that NaN.
void prefer_nan(const Tile& tile, std::size_t lanes, const float* bias, Running& running) {
  for (std::size_t i = 0; i < lanes; ++i)
    for (std::size_t r = 0; r < tile.rows && !std::isnan(running.best[i]); ++r)
      if (const float score = tile.scores[r * lanes + i] + bias[r]; std::isnan(score)) {
        running.best[i] = score;
        running.index[i] = static_cast<std::int32_t>(tile.first_row + r);
      }
}

}  // namespace

const ArgmaxLoops& argmax_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::argmax_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::argmax_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::argmax_loops;
#endif
    default: return scalar::argmax_loops;
  }
}

const float* no_bias() {
  static const auto zeros = [] {
    std::array<float, tile_rows> negative;
    negative.fill(-0.0f);
    return negative;
  }();
  return zeros.data();
}

void linear_argmax(const Matrix& x, const Matrix& weight, const float* bias, float* values,
                   std::int64_t* indices, std::size_t threads, Isa isa) {
  const ArgmaxLoops& argmax = argmax_loops(isa);
  const std::size_t lanes = score_loops(isa).lanes;
  std::vector<Running> running((x.rows + lanes - 1) / lanes);
  for (Running& r : running) {
    std::fill_n(r.best, max_lanes, -std::numeric_limits<float>::infinity());
    std::fill_n(r.index, max_lanes, 0);
  }
  stream_scores(x, weight, isa, threads, [&](std::size_t panel, const Tile& tile) {
    const float* tile_bias = bias != nullptr ? bias + tile.first_row : no_bias();
    Running& r = running[panel];
    if (argmax.raise(tile.scores, tile.rows, tile_bias, static_cast<std::int32_t>(tile.first_row),
                     r.best, r.index))
      prefer_nan(tile, lanes, tile_bias, r);
  });
  for (std::size_t i = 0; i < x.rows; ++i) {
    values[i] = running[i / lanes].best[i % lanes];
    indices[i] = running[i / lanes].index[i % lanes];
  }
}

}  // namespace logitkit
