#include "sum_exp/item_sums.h"

#include <algorithm>
#include <vector>

#include "threads.h"

namespace logitkit {
namespace {

constexpr std::size_t max_rows = 512;        // of a block: its sums stay in the cache
constexpr std::size_t max_columns = 2048;    // which the memory gives faster side by side
constexpr std::size_t task_size = 1u << 16;  // elements of a task, some 10 microseconds
// The terms of a segment. Where an item is cut depends on nothing but its length: its result
// must not depend on how many there are.
constexpr std::size_t segment_size = 1u << 14;

constexpr std::size_t line_size = 64;    // in bytes, and so more than enough elements
constexpr std::size_t many_blocks = 32;  // are tasks enough; of few, the segments are the tasks

std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

/// How an array is cut into blocks, and their terms into segments.
template <class T>
class Grid {
 public:
  Grid(const T* x, const Layout& layout, std::size_t threads) : x_(x), layout_(layout) {
    const std::size_t terms = std::max<std::size_t>(1, layout.terms);
    // Rows are items, or where there is an inner axis, columns.
    const std::size_t items = has_rows() ? layout.outer : layout.inner;
    const std::size_t most =
        has_rows() ? std::min(max_rows, task_size / terms) : columns_of_block(items, threads);
    items_of_block_ = std::max<std::size_t>(1, std::min(items, most));
    blocks_of_row_ = divide_up(items, items_of_block_);
    blocks_ = blocks_of_row_ * (has_rows() ? 1 : layout.outer);
    terms_of_segment_ = terms < 2 * segment_size ? terms : segment_size;
    segments_ = divide_up(terms, terms_of_segment_);
    blocks_of_task_ = std::max<std::size_t>(1, task_size / (items_of_block_ * terms));
  }

  std::size_t blocks() const { return blocks_; }
  std::size_t segments() const { return segments_; }
  std::size_t tasks() const { return divide_up(blocks_, blocks_of_task_); }
  std::size_t first_block(std::size_t task) const {
    return std::min(blocks_, task * blocks_of_task_);
  }

  std::size_t first_item(std::size_t block) const {
    const std::size_t row = block / blocks_of_row_, column = block % blocks_of_row_;
    return row * (has_rows() ? layout_.outer : layout_.inner) + column * items_of_block_;
  }

  Block<T> block(std::size_t block) const {
    const std::size_t column = block % blocks_of_row_ * items_of_block_;
    if (has_rows())
      return {at(column * layout_.terms), std::min(items_of_block_, layout_.outer - column),
              layout_.terms, layout_.terms, 1};
    const std::size_t row = block / blocks_of_row_;
    return {at(row * layout_.terms * layout_.inner + column),
            std::min(items_of_block_, layout_.inner - column), layout_.terms, 1, layout_.inner};
  }

  Block<T> segment(const Block<T>& block, std::size_t segment) const {
    const std::size_t begin = segment * terms_of_segment_;
    Block<T> part = block;
    part.x += begin * block.term_step;
    part.terms = std::min(terms_of_segment_, block.terms - begin);
    return part;
  }

 private:
  bool has_rows() const { return layout_.inner == 1; }

  /// Enough blocks for all threads, as long as their rows are not too short; and whole cache lines.
  /// What a column gets depends on nothing beside it.
  static std::size_t columns_of_block(std::size_t items, std::size_t threads) {
    const std::size_t blocks = threads == 0 ? default_threads() : threads;
    const std::size_t share = divide_up(divide_up(items, blocks), line_size) * line_size;
    return std::clamp(share, max_rows, max_columns);
  }

  /// The address of an element; items without terms have none, and x may be null.
  const T* at(std::size_t offset) const { return layout_.terms == 0 ? x_ : x_ + offset; }

  const T* x_;
  Layout layout_;
  std::size_t items_of_block_, blocks_of_row_, blocks_, terms_of_segment_, segments_,
      blocks_of_task_;
};

}  // namespace

template <class T>
void for_each_block(const T* x, const Layout& layout, const AllSumExpLoops& loops,
                    std::size_t threads, const BlockTask<T>& task) {
  const Grid<T> grid(x, layout, threads);
  const std::size_t segments = grid.segments();
  if (segments == 1) {
    parallel_for(grid.tasks(), threads, [&](std::size_t i) {
      for (std::size_t b = grid.first_block(i); b < grid.first_block(i + 1); ++b) {
        const Block<T> block = grid.block(b);
        const ItemSums sums(block.items);
        task.sum(block, sums);
        task.finish(block, sums, grid.first_item(b));
        if (task.write) task.write(block, sums);
      }
    });
    return;
  }
  const auto add_up = [&](const Block<T>& block, const ItemSums* sums) {
    const auto add = task.add == nullptr ? loops.log.add : task.add;
    for (std::size_t s = 1; s < segments; ++s)
      add(block.items, sums[0].moments(), sums[s].moments());
  };
  if (grid.blocks() >= many_blocks) {
    // What is written is read again while a cache has it.
    parallel_for(grid.blocks(), threads, [&](std::size_t b) {
      const Block<T> block = grid.block(b);
      std::vector<ItemSums> sums;
      sums.reserve(segments);
      for (std::size_t s = 0; s < segments; ++s) {
        sums.emplace_back(block.items);
        task.sum(grid.segment(block, s), sums[s]);
      }
      add_up(block, sums.data());
      task.finish(block, sums[0], grid.first_item(b));
      for (std::size_t s = 0; task.write && s < segments; ++s)
        task.write(grid.segment(block, s), sums[0]);
    });
    return;
  }
  std::vector<ItemSums> sums;
  sums.reserve(grid.blocks() * segments);
  for (std::size_t b = 0; b < grid.blocks(); ++b)
    for (std::size_t s = 0; s < segments; ++s) sums.emplace_back(grid.block(b).items);
  parallel_for(sums.size(), threads, [&](std::size_t i) {
    task.sum(grid.segment(grid.block(i / segments), i % segments), sums[i]);
  });
  parallel_for(grid.blocks(), threads, [&](std::size_t b) {
    const Block<T> block = grid.block(b);
    add_up(block, &sums[b * segments]);
    task.finish(block, sums[b * segments], grid.first_item(b));
  });
  if (!task.write) return;
  parallel_for(sums.size(), threads, [&](std::size_t i) {
    task.write(grid.segment(grid.block(i / segments), i % segments), sums[i / segments * segments]);
  });
}

template void for_each_block(const float*, const Layout&, const AllSumExpLoops&, std::size_t,
                             const BlockTask<float>&);
template void for_each_block(const double*, const Layout&, const AllSumExpLoops&, std::size_t,
                             const BlockTask<double>&);

template <>
const SumExpLoops<float>& loops_for(const AllSumExpLoops& all) {
  return all.f32;
}
template <>
const SumExpLoops<double>& loops_for(const AllSumExpLoops& all) {
  return all.f64;
}

const AllSumExpLoops& sum_exp_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::sum_exp_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::sum_exp_loops;
#endif
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::sum_exp_loops;
#endif
    default: return scalar::sum_exp_loops;
  }
}

}  // namespace logitkit
