#include "gemm/stream.h"

#include <algorithm>

#include "gemm/scratch.h"
#include "gemm/workspaces.h"
#include "threads.h"

namespace logitkit {
namespace {

// Of a second-level cache of 1.25 MiB or more, for the panels of a group and a tile's rows of B.
constexpr std::size_t cached_floats = (std::size_t{1} << 20) / sizeof(float);
constexpr std::size_t max_group = 8;

// How many panels go over a tile of B together.
std::size_t panels_in_group(std::size_t lanes, std::size_t depth) {
  const std::size_t column = cached_floats / std::max<std::size_t>(depth, 1);
  const std::size_t for_panels = column > tile_rows ? column - tile_rows : 0;
  return std::clamp<std::size_t>(for_panels / lanes, 1, max_group);
}

struct Buffers {
  Scratch packed, scores;
};

}  // namespace

const ScoreLoops& score_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512: return avx512::score_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::score_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::score_loops;
#endif
    default: return scalar::score_loops;
  }
}

void stream_scores(const Matrix& a, const Matrix& b, const ScoreLoops& loops, std::size_t threads,
                   const std::function<void(std::size_t panel, const Tile& tile)>& reduce) {
  const std::size_t depth = a.columns, panel_floats = depth * loops.lanes;
  const std::size_t panels = (a.rows + loops.lanes - 1) / loops.lanes;
  const std::size_t group = std::min(panels_in_group(loops.lanes, depth), panels);

  const auto run_group = [&](std::size_t first, Buffers& buffers) {
    const std::size_t last = std::min(first + group, panels);
    for (std::size_t p = first; p < last; ++p) {
      const std::size_t row = p * loops.lanes;
      loops.pack(a.data + row * depth, depth, std::min(loops.lanes, a.rows - row), depth,
                 buffers.packed.data() + (p - first) * panel_floats);
    }
    const float* b_rows[tile_rows];
    for (std::size_t j = 0; j < b.rows; j += tile_rows) {
      const Tile tile = {buffers.scores.data(), j, std::min(tile_rows, b.rows - j)};
      for (std::size_t r = 0; r < tile.rows; ++r) b_rows[r] = b.data + (j + r) * depth;
      for (std::size_t p = first; p < last; ++p) {
        loops.score(buffers.packed.data() + (p - first) * panel_floats, b_rows, 1, tile.rows, depth,
                    false, buffers.scores.data());
        reduce(p, tile);
      }
    }
  };

  if (panels == 0) return;
  Workspaces<Buffers> workspaces;
  parallel_for((panels + group - 1) / group, threads, [&](std::size_t g) {
    workspaces.lend(
        [&] { return Buffers{Scratch(group * panel_floats), Scratch(tile_rows * loops.lanes)}; },
        [&](Buffers& buffers) { run_group(g * group, buffers); });
  });
}

}  // namespace logitkit
