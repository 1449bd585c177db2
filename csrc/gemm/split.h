// Panels and rows of which a matrix unit has the parts, and the scores of both.
#pragma once

#include "gemm/parts.h"
#include "gemm/score.h"

namespace logitkit {

/// The products of an instruction set: those of floats and, where it has them, of parts.
class Scores {
 public:
  explicit Scores(Isa isa) : floats(score_loops(isa)), parts_(part_loops(isa)) {}

  const ScoreLoops& floats;

  /// Those of parts, or null. With less than a block of depth they are neither faster nor as
  /// accurate as those of floats.
  const PartLoops* parts(std::size_t depth) const {
    return depth >= depth_block ? parts_ : nullptr;
  }

 private:
  const PartLoops* parts_;
};

/// A packed panel, and its parts. Lanes of which `others` has the bit are not plain.
struct SplitPanel {
  const float* floats;
  const std::uint16_t* parts;
  std::uint64_t others;
};

/// Up to tile_rows rows, and their parts, which have `depth` elements.
struct SplitRows {
  const float* const* floats;
  const std::uint16_t* parts;
  std::uint64_t others;
  std::size_t count, depth;
};

/// The scores of the first `depth` elements as PartLoops::score() has them, and those of lanes and
/// rows with other than plain numbers as ScoreLoops::score() does. The tile has room for whole
/// blocks of rows.
void score_split(const ScoreLoops& loops, const PartLoops& unit, const SplitPanel& panel,
                 const SplitRows& rows, std::size_t depth, std::size_t vectors, float* tile);

/// Holds a matrix unit, if there is one, for its thread.
class UnitInUse {
 public:
  explicit UnitInUse(const PartLoops* unit) : unit_(unit) {
    if (unit_ != nullptr) unit_->begin();
  }
  ~UnitInUse() {
    if (unit_ != nullptr) unit_->end();
  }
  UnitInUse(const UnitInUse&) = delete;
  UnitInUse& operator=(const UnitInUse&) = delete;

 private:
  const PartLoops* unit_;
};

}  // namespace logitkit
