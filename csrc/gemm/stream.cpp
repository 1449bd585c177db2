#include "gemm/stream.h"

#include <algorithm>
#include <vector>

#include "attention/workspace.h"
#include "gemm/scratch.h"
#include "gemm/split.h"
#include "gemm/workspaces.h"
#include "threads.h"

namespace logitkit {
namespace {

// Of a second-level cache of 1.25 MiB or more, for the panels of a group and a tile's rows of B.
constexpr std::size_t cached_bytes = std::size_t{1} << 20;
constexpr std::size_t max_group = 8;

// How many panels go over a tile of B together, where an element takes so many bytes.
std::size_t panels_in_group(std::size_t lanes, std::size_t depth, std::size_t bytes) {
  const std::size_t column = cached_bytes / bytes / std::max<std::size_t>(depth, 1);
  const std::size_t for_panels = column > tile_rows ? column - tile_rows : 0;
  return std::clamp<std::size_t>(for_panels / lanes, 1, max_group);
}

// A group of panels, and the tile that they go over.
class Group {
 public:
  Group(const Scores& scores, std::size_t depth, std::size_t panels)
      : floats_(scores.floats),
        unit_(scores.parts(depth)),
        depth_(depth),
        packed_(panels * depth * floats_.lanes),
        scores_(tile_rows * floats_.lanes),
        parts_(unit_ == nullptr ? 0 : panels * of_panel()),
        row_parts_(unit_ == nullptr ? 0 : row_parts(tile_rows, depth)),
        others_(panels) {}

  const PartLoops* unit() const { return unit_; }

  void load_panel(std::size_t p, const float* a, std::size_t rows) {
    floats_.pack(a, depth_, rows, depth_, packed(p));
    if (unit_ == nullptr) return;
    others_[p] = unit_->split_panel(packed(p), floats_.lanes, depth_, floats_.lanes / 16,
                                    least_plain, parts_.data() + p * of_panel());
  }

  void load_rows(const float* b, std::size_t rows) {
    for (std::size_t r = 0; r < rows; ++r) b_[r] = b + r * depth_;
    count_ = rows;
    if (unit_ == nullptr) return;
    row_others_ =
        unit_->split_rows(b, depth_, nullptr, rows, depth_, least_plain, row_parts_.data());
  }

  const float* score(std::size_t p) {
    if (unit_ == nullptr) {
      floats_.score(packed(p), b_, 1, count_, depth_, false, scores_.data());
    } else {
      const SplitPanel panel = {packed(p), parts_.data() + p * of_panel(), others_[p]};
      const SplitRows rows = {b_, row_parts_.data(), row_others_, count_, depth_};
      score_split(floats_, *unit_, panel, rows, depth_, floats_.lanes / 16, scores_.data());
    }
    return scores_.data();
  }

 private:
  float* packed(std::size_t p) { return packed_.data() + p * depth_ * floats_.lanes; }
  std::size_t of_panel() const { return panel_parts(depth_, floats_.lanes); }

  const ScoreLoops& floats_;
  const PartLoops* unit_;
  std::size_t depth_, count_ = 0;
  Scratch packed_, scores_;  // [panel][k][lane], [row][lane]
  Aligned<std::uint16_t> parts_, row_parts_;
  std::vector<std::uint64_t> others_;  // [panel]
  std::uint64_t row_others_ = 0;
  const float* b_[tile_rows];
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

void stream_scores(const Matrix& a, const Matrix& b, Isa isa, std::size_t threads,
                   const std::function<void(std::size_t panel, const Tile& tile)>& reduce) {
  const Scores scores(isa);
  const std::size_t depth = a.columns, lanes = scores.floats.lanes;
  const std::size_t panels = (a.rows + lanes - 1) / lanes;
  const std::size_t bytes = scores.parts(depth) == nullptr ? sizeof(float) : 6;
  const std::size_t group = std::min(panels_in_group(lanes, depth, bytes), panels);

  const auto run_group = [&](std::size_t first, Group& loaded) {
    const UnitInUse unit(loaded.unit());
    const std::size_t count = std::min(group, panels - first);
    for (std::size_t p = 0; p < count; ++p) {
      const std::size_t row = (first + p) * lanes;
      loaded.load_panel(p, a.data + row * depth, std::min(lanes, a.rows - row));
    }
    for (std::size_t j = 0; j < b.rows; j += tile_rows) {
      const std::size_t rows = std::min(tile_rows, b.rows - j);
      loaded.load_rows(b.data + j * depth, rows);
      for (std::size_t p = 0; p < count; ++p) reduce(first + p, {loaded.score(p), j, rows});
    }
  };

  if (panels == 0) return;
  Workspaces<Group> workspaces;
  parallel_for((panels + group - 1) / group, threads, [&](std::size_t g) {
    workspaces.lend([&] { return Group(scores, depth, group); },
                    [&](Group& loaded) { run_group(g * group, loaded); });
  });
}

}  // namespace logitkit
