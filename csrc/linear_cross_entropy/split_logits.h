// Products of panels of rows with classes as a matrix unit has them, if there is one for T.
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>

#include "gemm/split_group.h"
#include "linear_cross_entropy/logit_panels.h"

namespace logitkit {

template <class T>
class SplitLogits {
 public:
  SplitLogits(const LogitPanels<T>& panels, std::size_t most_panels, std::size_t depth, Isa isa)
      : panels_(panels), depth_(depth) {
    if constexpr (std::is_same_v<T, float>) {
      if (depth < least_depth) return;
      unit_ = part_loops(isa);
      // Logits are right to within 2^-17 at best: what is lost of tiny numbers does not count.
      if (unit_ != nullptr)
        group_ = std::make_unique<SplitGroup>(score_loops(isa), *unit_, most_panels, depth, 0.0f);
    }
  }

  /// If not, the loops of floats are to be used.
  bool exist() const { return group_ != nullptr; }
  const PartLoops* unit() const { return unit_; }
  std::size_t classes_at_once() const { return exist() ? group_->rows_at_once() : tile_keys; }

  /// Loads the panels from `first` on.
  void load(std::size_t first, std::size_t count) {
    if constexpr (std::is_same_v<T, float>)
      group_->load(count * panels_.lanes, [this, first](std::size_t p, float* panel) {
        if (panels_.count(first + p) < panels_.lanes)
          std::fill_n(panel, depth_ * panels_.lanes, 0.0f);
        panels_.pack(first + p, panel);
      });
  }

  /// Computes the products with the classes whose weight is given.
  void multiply(const T* weight, std::size_t classes) {
    if constexpr (std::is_same_v<T, float>) group_->multiply(weight, classes);
  }

  /// Those of a panel, tile[class][lane], from a class on: finish_tile() makes logits of them.
  T* tile(std::size_t p, std::size_t first) {
    if constexpr (std::is_same_v<T, float>) return group_->scores(p) + first * panels_.lanes;
    return nullptr;
  }

  /// Copies `classes` classes of them.
  void copy(std::size_t p, std::size_t first, std::size_t classes, T* to) {
    if constexpr (std::is_same_v<T, float>)
      std::copy_n(tile(p, first), classes * panels_.lanes, to);
  }

 private:
  const LogitPanels<T>& panels_;
  std::size_t depth_;
  const PartLoops* unit_ = nullptr;
  std::unique_ptr<SplitGroup> group_;
};

}  // namespace logitkit
