#include "gemm/stream.h"

#include <algorithm>

#include "aligned.h"
#include "gemm/split_group.h"
#include "gemm/workspaces.h"
#include "threads.h"
#include "unit_in_use.h"

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
  Aligned<float> packed, scores;
};

using Reduce = std::function<void(std::size_t panel, const Tile& tile)>;

// The same where there is a unit for parts.
void stream_parts(const Matrix& a, const Matrix& b, const ScoreLoops& loops, const PartLoops& unit,
                  std::size_t threads, const Reduce& reduce) {
  const std::size_t depth = a.columns, lanes = loops.lanes;
  const std::size_t panels = (a.rows + lanes - 1) / lanes;
  const std::size_t of_group = pieces_in_task(panels, SplitGroup::most_panels(depth), threads);
  const auto run_group = [&](std::size_t first, SplitGroup& group) {
    const UnitInUse in_use(&unit);
    const std::size_t count = std::min(of_group, panels - first);
    group.load(std::min(count * lanes, a.rows - first * lanes), [&](std::size_t p, float* panel) {
      const std::size_t row = (first + p) * lanes;
      loops.pack(a.data + row * depth, depth, std::min(lanes, a.rows - row), depth, panel);
    });
    for (std::size_t begin = 0; begin < b.rows; begin += group.rows_at_once()) {
      const std::size_t rows = std::min(group.rows_at_once(), b.rows - begin);
      group.multiply(b.data + begin * depth, rows, b.rows - begin - rows);
      for (std::size_t p = 0; p < count; ++p)
        for (std::size_t j = 0; j < rows; j += tile_rows)
          reduce(first + p,
                 {group.scores(p) + j * lanes, begin + j, std::min(tile_rows, rows - j)});
    }
  };
  if (panels == 0) return;
  Workspaces<SplitGroup> workspaces;
  parallel_for((panels + of_group - 1) / of_group, threads, [&](std::size_t g) {
    workspaces.lend([&] { return SplitGroup(loops, unit, of_group, depth, least_plain); },
                    [&](SplitGroup& group) { run_group(g * of_group, group); });
  });
}

}  // namespace

const ScoreLoops& score_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
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

void stream_scores(const Matrix& a, const Matrix& b, Isa isa, std::size_t threads,
                   const std::function<void(std::size_t panel, const Tile& tile)>& reduce) {
  const ScoreLoops& loops = score_loops(isa);
  if (const PartLoops* unit = part_loops(isa); unit != nullptr && a.columns >= least_depth) {
    stream_parts(a, b, loops, *unit, threads, reduce);
    return;
  }
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
        [&] {
          return Buffers{Aligned<float>(group * panel_floats),
                         Aligned<float>(tile_rows * loops.lanes)};
        },
        [&](Buffers& buffers) { run_group(g * group, buffers); });
  });
}

}  // namespace logitkit
