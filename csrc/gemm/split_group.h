// A group of panels as parts, and the scores of rows that go over them.
#pragma once

#include <functional>
#include <vector>

#include "aligned.h"
#include "gemm/parts.h"
#include "gemm/score.h"

namespace logitkit {

/// What splitting rows costs is shared by the panels of a group. Scores of plain numbers are those
/// of PartLoops::score(), scores of lanes and rows with other numbers are those of
/// ScoreLoops::score(): which of both depends on the lane and the row alone.
///   Memory: 6 depth * lanes bytes for each panel, and 1 MiB
class SplitGroup {
 public:
  /// Writes panel p as ScoreLoops::pack() does.
  using Pack = std::function<void(std::size_t p, float* panel)>;

  /// How many panels a group has at most: 8, or 16 of a deep product.
  static std::size_t most_panels(std::size_t depth);

  SplitGroup(const ScoreLoops& loops, const PartLoops& unit, std::size_t panels, std::size_t depth,
             float least);

  /// Rows at once. Of a deep product more, as the panels are read from memory each time.
  std::size_t rows_at_once() const { return rows_; }

  /// Loads panels for so many rows of A. `pack` is called again where numbers are not plain, until
  /// the next load().
  void load(std::size_t rows, Pack pack);

  /// Computes the scores of the panels with `rows` rows from `b` on, one after the other, while
  /// the `after` rows that follow are asked for.
  void multiply(const float* b, std::size_t rows, std::size_t after = 0);

  /// scores(p)[row][lane], until the next product; 0 in lanes without a row.
  float* scores(std::size_t p) { return scores_.data() + p * rows_ * lanes_; }

 private:
  std::size_t vectors(std::size_t p) const { return p + 1 < count_ ? lanes_ / 16 : last_vectors_; }
  // Of the `p`th of all shares of a chunk of rows.
  Ahead share(const float* rows, std::size_t count, std::size_t columns, std::size_t p) const;
  void redo(const float* b, std::size_t rows, std::size_t p);

  const ScoreLoops& loops_;
  const PartLoops& unit_;
  const float least_;
  const std::size_t lanes_, depth_, chunk_, rows_;
  std::size_t count_ = 0, last_vectors_ = 0;  // of panels, and of the last one
  Pack pack_;
  Aligned<float> panel_, scores_;
  Aligned<std::uint16_t> parts_, row_parts_;
  std::vector<std::uint64_t> lane_bits_;  // of each panel: the lanes that are not plain
  std::vector<std::uint64_t> row_bits_;   // of each tile: the rows that are not
};

}  // namespace logitkit
