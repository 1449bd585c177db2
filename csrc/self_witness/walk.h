// The walk of a few panels of rows over all tiles from their own on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "aligned.h"
#include "gemm/parts.h"
#include "self_witness/self_witness.h"

namespace logitkit::witness {

constexpr float infinity = std::numeric_limits<float>::infinity();

// What self_witness is given, and the loops for it.
struct Problem {
  const Matrix& z;
  const float* tails;
  const float* squares;
  const ScoreLoops& score;
  const PartLoops* unit;  // for first looks at rounded numbers; null: none
  const WitnessLoops& witness;

  std::size_t last_step() const { return witness_tails(z.columns) - 1; }
  float tail(std::size_t step, std::size_t j) const { return tails[step * z.rows + j]; }

  // The columns before a step.
  std::size_t depth(std::size_t step) const { return std::min(step * witness_step, z.columns); }

  // The tail with room for rounded numbers too: the square of tail(0) is that of the row or more.
  float rounded_tail(std::size_t step, std::size_t j) const {
    constexpr float error = 0x1.04p-7f;  // see PartLoops::score()
    const float rest = tail(step, j), all = tail(0, j);
    return std::sqrt(rest * rest + error * (all * all)) * (1.0f + 0x1p-20f);
  }
};

// A tile's extremes: no row is shorter, none has a longer tail before the first step.
struct Extremes {
  float least_square = infinity, greatest_tail = 0.0f;
};

// Rows [first_row, first_row + rows) of z as lanes, and what is known of them.
struct Panel {
  std::size_t first_row, rows;
  const float* packed;                   // [column][lane]
  const std::uint16_t* parts;            // null if there are none, or a lane is not plain
  const float* tails;                    // [step][lane]
  std::size_t first_check = 1;           // the step after which the next tile is looked at first
  std::size_t quiet = 0;                 // tiles in a row in which that look left next to nothing
  alignas(64) float squares[max_lanes];  // +inf in lanes without a row
  float slack[max_lanes];
  float limits[max_lanes];       // of the tile at hand: what a lane's bounds must stay below
  float worst[max_lanes];        // and how high they came
  std::size_t rounded_step = 0;  // of the rounded tails; none if 0
  alignas(64) float rounded_tails[max_lanes];
};

// What one thread knows after the groups of panels that it has met.
class Walk {
 public:
  /// Panels in a group at most: they stay in the cache, as a tile's rows do. Rounded ones are
  /// smaller, and there the time goes into rows from memory.
  static std::size_t most_panels(const Problem& problem) {
    return problem.unit == nullptr ? 8 : 16;
  }

  Walk(const Problem& problem, const std::vector<Extremes>& extremes);

  /// Compares rows [begin, end), at most a group, with all from the first tile of theirs on.
  /// Rows whose slack is 0 at the start count as failed.
  void run(std::size_t begin, std::size_t end, const float* slack);

  const std::vector<float>& slack() const { return slack_; }  // of every row, +inf at first
  std::uint64_t multiply_adds() const { return multiply_adds_; }

 private:
  void add_panel(std::size_t first_row, std::size_t rows, const float* slack);

  // Sets what bounds must stay below for lane and row to be safe from each other. A failed
  // lane is past saving, but rows must be safe from it; if even the product of the lengths
  // shows that, it has no limit, and lowers `margin`. Returns whether any lane has a limit.
  bool set_limits(Panel& panel, const Extremes& tile, float& margin) const;

  // Compares a panel with a tile, and takes note of what that says about both.
  void visit(Panel& panel, std::size_t t);

  // Prunes rows of a tile by the products of rounded numbers. Returns how many are left, and which.
  std::size_t first_look(Panel& panel, const std::uint16_t* parts, std::uint32_t* rows,
                         std::size_t count);

  // The parts of a tile for `step` steps or more; null if a row is not plain.
  const std::uint16_t* split_tile(std::size_t begin, std::size_t count, std::size_t step);

  // Adds up products until every row of the tile is pruned or complete.
  void compare(Panel& panel, std::size_t begin, std::size_t count);

  // A class is not compared with itself. -inf stays -inf whatever is added.
  void leave_out_diagonal(const Panel& panel, const std::uint32_t* rows, std::size_t count);

  // Neighbouring tiles are alike: looks later when much survived, and now and then earlier.
  void aim(Panel& panel, std::size_t left, std::size_t count) const;

  // Complete rows, pair by pair.
  void settle(Panel& panel, const std::uint32_t* rows, std::size_t count, const float* lane_tails,
              const float* row_tails);

  const Problem* problem_;
  const std::vector<Extremes>* extremes_;
  std::size_t lanes_;
  Aligned<float> packed_, lane_tails_, tile_;
  Aligned<std::uint16_t> panel_parts_, tile_parts_;
  std::size_t split_begin_ = 0, split_step_ = 0;  // of the tile whose parts are there; none if 0
  bool split_plain_ = false;
  std::size_t tails_step_ = 0;  // of the rounded tails of that tile; none if 0
  alignas(64) float row_tails_[tile_rows];
  std::vector<Panel> panels_;
  std::vector<float> slack_;
  std::uint64_t multiply_adds_ = 0;
};

}  // namespace logitkit::witness
