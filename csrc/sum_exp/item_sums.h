// Items, the sums of exponentials along one axis of an array, a block of them at a time.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>

#include "isa.h"
#include "sum_exp/loops.h"

namespace logitkit {

/// A dense array of shape (outer, terms, inner), whose middle axis is summed over.
struct Layout {
  std::size_t outer, terms, inner;
};

/// The arrays of one block of items.
class ItemSums {
 public:
  explicit ItemSums(std::size_t items)
      : items_(items), memory_(new double[arrays * (items == 0 ? 1 : items)]) {}

  SumExp sums() const { return {array(0), array(1), array(2), array(3)}; }
  SumExpMoments moments() const { return {sums(), array(4), array(5)}; }
  double* mean() const { return array(4); }
  double* sum_of_squares() const { return array(5); }
  /// Room for what is made of the sums.
  double* result() const { return array(4); }
  double* result_rest() const { return array(5); }

  /// Whether the sum of item i is a number that the loops promise something about.
  bool usable(std::size_t i) const {
    const SumExp of = sums();
    const double sum = of.sum[i] + of.rest[i];  // a NaN fails
    return std::abs(of.exponent[i]) < exponent_limit && sum < HUGE_VAL;
  }
  /// The same of a sum beside a maximum.
  bool usable_beside_max(std::size_t i) const {
    const SumExp of = sums();
    return std::abs(of.max[i]) < max_limit && of.sum[i] + of.rest[i] < HUGE_VAL;
  }

 private:
  static constexpr std::size_t arrays = 6;
  double* array(std::size_t k) const { return memory_.get() + k * items_; }

  std::size_t items_;
  std::unique_ptr<double[]> memory_;
};

/// What to do with each block of an array.
template <class T>
struct BlockTask {
  /// Fills the sums of a block, or of a segment of the terms of a block.
  std::function<void(const Block<T>&, const ItemSums&)> sum;
  /// Makes something of the sums of a whole block, whose first item is item `first` of the array.
  std::function<void(const Block<T>&, const ItemSums&, std::size_t first)> finish;
  /// Adds the sums of a segment to those of the segments before; where none, moments too.
  void (*add)(std::size_t items, SumExpMoments into, SumExpMoments from) = nullptr;
  /// Writes to where the block, or a segment of it, lies in an array of the same layout; or none.
  std::function<void(const Block<T>&, const ItemSums&)> write;
};

/// Runs the task on all items. Long items are cut into segments, whose sums are added in order:
/// the grid depends on the layout alone, and so do the results.
template <class T>
void for_each_block(const T* x, const Layout& layout, const AllSumExpLoops& loops,
                    std::size_t threads, const BlockTask<T>& task);

/// The loops of `all` for elements of type T.
template <class T>
const SumExpLoops<T>& loops_for(const AllSumExpLoops& all);

/// Calls f(begin, count) for each run of items i < items that are `wanted`.
template <class Wanted, class F>
void for_each_run(std::size_t items, Wanted wanted, F f) {
  for (std::size_t i = 0; i < items; ++i) {
    if (!wanted(i)) continue;
    const std::size_t begin = i;
    while (i < items && wanted(i)) ++i;
    f(begin, i - begin);
  }
}

}  // namespace logitkit
