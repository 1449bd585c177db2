// The products of a layer's gradients as a matrix unit has them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned.h"
#include "gemm/parts.h"

namespace logitkit {

/// With the gradients G of the logits of a chunk of rows X, and classes W: those of the input are
/// G W, and those of the weight G^T X. Rows are lanes of panels, so the first is made as W^T G^T;
/// of the second the lanes are columns of X.
class SplitGradient {
 public:
  /// For chunks of up to `rows` rows, and blocks of up to `classes` classes. The gradients of a
  /// panel begin `next_panel` elements after those of the last one.
  SplitGradient(const PartLoops& unit, std::size_t depth, std::size_t lanes, std::size_t rows,
                std::size_t classes, std::size_t next_panel)
      : unit_(unit),
        depth_(depth),
        lanes_(lanes),
        most_rows_(rows),
        most_classes_(classes),
        input_((depth + lanes - 1) / lanes * unit.of_panel(rows, lanes)) {
    const std::size_t vectors = lanes / 16;
    for (std::size_t u = 0; u * 16 < rows; ++u)
      units_.push_back(u / vectors * next_panel + u % vectors * 16);
  }

  /// What a task needs of its own.
  struct Block {
    explicit Block(const SplitGradient& of)
        : weight(of.unit_.of_rows(of.depth_, of.most_classes_)),
          panel(of.unit_.of_panel(of.most_classes_, of.lanes_)),
          rows(of.unit_.of_rows(of.most_classes_, of.most_rows_)) {}
    Aligned<std::uint16_t> weight, panel, rows;
    bool plain = false;  // the weight
  };

  const PartLoops& unit() const { return unit_; }

  /// Loads the rows of a chunk: the first `lanes` columns[row][lane], then the next.
  void load_input(const float* columns, std::size_t rows) {
    rows_ = rows;
    plain_ = true;
    for (std::size_t c = 0; c * lanes_ < depth_; ++c)
      plain_ &= unit_.split_panel(columns + c * rows * lanes_, lanes_, rows, vectors(c), 0.0f,
                                  input_.data() + input_at(c)) == 0;
  }

  /// Loads the rows of some classes.
  void load_weight(const float* weight, std::size_t classes, Block& block) const {
    block.plain = unit_.split_columns(weight, depth_, depth_, classes, 0.0f, block.weight.data());
  }

  /// sums[d][lane] += sum over the classes of W[class][d] gradients[class][lane]. Returns false,
  /// and adds nothing, if a number is not plain. The sums have room for whole blocks of d.
  bool add_input(const float* gradients, std::size_t classes, float* sums, const Ahead& ahead,
                 Block& block) const {
    std::uint16_t* panel = block.panel.data();
    if (!block.plain ||
        unit_.split_panel(gradients, lanes_, classes, lanes_ / 16, 0.0f, panel) != 0)
      return false;
    unit_.score(panel, block.weight.data(), classes, depth_, classes, lanes_ / 16, true, sums,
                lanes_, ahead);
    return true;
  }

  /// to[class][d] = sum over the rows of gradients[class][row] X[row][d], added to what is there if
  /// `add`; row stride and room are whole blocks. Returns false, and writes nothing, if a number is
  /// not plain.
  bool add_weight(const float* gradients, std::size_t classes, bool add, float* to,
                  const Ahead& ahead, Block& block) const {
    constexpr std::size_t at_once = 64;
    bool plain = plain_;
    for (std::size_t j = 0; plain && j < classes; j += at_once)
      plain = unit_.split_rows(gradients + j * lanes_, lanes_, units_.data(),
                               std::min(at_once, classes - j), rows_, 0.0f,
                               block.rows.data() + unit_.of_rows(j, rows_)) == 0;
    for (std::size_t c = 0; plain && c * lanes_ < depth_; ++c)
      unit_.score(input_.data() + input_at(c), block.rows.data(), rows_, classes, rows_, vectors(c),
                  add, to + c * lanes_, whole_blocks(depth_, row_block), c == 0 ? ahead : Ahead());
    return plain;
  }

 private:
  std::size_t vectors(std::size_t c) const {
    return (std::min(lanes_, depth_ - c * lanes_) + 15) / 16;
  }
  std::size_t input_at(std::size_t c) const { return c * unit_.of_panel(rows_, lanes_); }

  const PartLoops& unit_;
  const std::size_t depth_, lanes_, most_rows_, most_classes_;
  std::size_t rows_ = 0;
  bool plain_ = false;
  Aligned<std::uint16_t> input_;    // of the columns of each panel
  std::vector<std::size_t> units_;  // where vectors of a row of gradients begin
};

}  // namespace logitkit
