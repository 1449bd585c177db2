#include "gemm/split_group.h"

#include <algorithm>
#include <utility>

namespace logitkit {
namespace {

constexpr std::size_t vector = 16;  // lanes of a vector of a panel

// As much of the depth of a tile of rows and a few panels as fits a second-level cache of 2 MiB,
// which all processors with such a unit have.
constexpr std::size_t most_chunk = 1024;

// For so few panels the time goes into splitting rows, and parts that stay near are written and
// read faster.
constexpr std::size_t few_panels = 2, chunk_of_few = 256;

// Chunks of about the same depth.
std::size_t chunk_of(std::size_t depth, std::size_t panels) {
  const std::size_t most = panels > few_panels ? most_chunk : chunk_of_few;
  const std::size_t chunks = (depth + most - 1) / most;
  return whole_blocks((depth + chunks - 1) / chunks, depth_block);
}

}  // namespace

const PartLoops* part_loops(Isa isa) {
#if defined(LOGITKIT_HAS_AMX)
  if (isa == Isa::amx) return &amx::part_loops.exact;
#endif
  static_cast<void>(isa);
  return nullptr;
}

const PartLoops* rounded_part_loops(Isa isa) {
#if defined(LOGITKIT_HAS_AMX)
  if (isa == Isa::amx) return &amx::part_loops.rounded;
#endif
  static_cast<void>(isa);
  return nullptr;
}

std::size_t SplitGroup::most_panels(std::size_t depth) { return depth > most_chunk ? 16 : 8; }

SplitGroup::SplitGroup(const ScoreLoops& loops, const PartLoops& unit, std::size_t panels,
                       std::size_t depth, float least)
    : loops_(loops),
      unit_(unit),
      least_(least),
      lanes_(loops.lanes),
      depth_(depth),
      chunk_(chunk_of(depth, panels)),
      rows_(depth > most_chunk && panels > few_panels ? 2 * tile_rows : tile_rows),
      panel_(depth * lanes_),
      scores_(panels * rows_ * lanes_),
      parts_(panels * unit.of_panel(depth, lanes_)),
      row_parts_(unit_.of_rows(rows_, chunk_)),
      lane_bits_(panels),
      row_bits_(rows_ / tile_rows) {}

void SplitGroup::load(std::size_t rows, Pack pack) {
  count_ = (rows + lanes_ - 1) / lanes_;
  last_vectors_ = (rows - (count_ - 1) * lanes_ + vector - 1) / vector;
  pack_ = std::move(pack);
  for (std::size_t p = 0; p < count_; ++p) {
    pack_(p, panel_.data());
    lane_bits_[p] = unit_.split_panel(panel_.data(), lanes_, depth_, vectors(p), least_,
                                      parts_.data() + p * unit_.of_panel(depth_, lanes_));
  }
  if (last_vectors_ * vector < lanes_) std::fill_n(scores(count_ - 1), rows_ * lanes_, 0.0f);
}

Ahead SplitGroup::share(const float* rows, std::size_t count, std::size_t columns,
                        std::size_t p) const {
  const std::size_t begin = p * count / count_, end = (p + 1) * count / count_;
  return {rows + begin * depth_, depth_, end - begin, columns};
}

void SplitGroup::multiply(const float* b, std::size_t rows, std::size_t after) {
  std::fill(row_bits_.begin(), row_bits_.end(), 0);
  after = std::min(after, rows_);
  for (std::size_t k = 0; k < depth_; k += chunk_) {
    const std::size_t depth = std::min(chunk_, depth_ - k), next = k + chunk_;
    for (std::size_t j = 0; j < rows; j += tile_rows)
      row_bits_[j / tile_rows] |=
          unit_.split_rows(b + j * depth_ + k, depth_, nullptr, std::min(tile_rows, rows - j),
                           depth, least_, row_parts_.data() + unit_.of_rows(j, depth));
    for (std::size_t p = 0; p < count_; ++p) {
      const std::uint16_t* panel = parts_.data() + p * unit_.of_panel(depth_, lanes_);
      unit_.score(panel + unit_.of_panel(k, lanes_), row_parts_.data(), depth, rows, depth,
                  vectors(p), k > 0, scores(p), lanes_,
                  next < depth_ ? share(b + next, rows, std::min(chunk_, depth_ - next), p)
                                : share(b + rows * depth_, after, std::min(chunk_, depth_), p));
    }
  }
  for (std::size_t p = 0; p < count_; ++p) redo(b, rows, p);
}

// The scores of lanes and rows with other than plain numbers.
void SplitGroup::redo(const float* b, std::size_t rows, std::size_t p) {
  const std::uint64_t lane_bits = lane_bits_[p];
  bool packed = false;
  for (std::size_t j = 0; j < rows; j += tile_rows) {
    const std::uint64_t row_bits = row_bits_[j / tile_rows];
    if (lane_bits == 0 && row_bits == 0) continue;
    if (!packed) pack_(p, panel_.data());
    packed = true;
    const std::size_t in_tile = std::min(tile_rows, rows - j);
    const float* from[tile_rows];
    for (std::size_t r = 0; r < in_tile; ++r) from[r] = b + (j + r) * depth_;
    float* tile = scores(p) + j * lanes_;
    alignas(64) float redone[tile_rows * max_lanes];
    loops_.score(panel_.data(), from, 1, in_tile, depth_, false, redone);
    for (std::size_t r = 0; r < in_tile; ++r) {
      const std::uint64_t lanes = (row_bits >> r & 1) != 0 ? ~std::uint64_t{0} : lane_bits;
      for (std::size_t i = 0; i < vectors(p) * vector; ++i)
        if ((lanes >> i & 1) != 0) tile[r * lanes_ + i] = redone[r * lanes_ + i];
    }
  }
}

}  // namespace logitkit
