#include "softmax/softmax.h"

#include <cmath>
#include <limits>
#include <vector>

#include "logsumexp/logsumexp.h"
#include "simd/flush_denormals.h"

namespace logitkit {
namespace {

/// Where y has the element that x has at `at`.
template <class T>
T* same_place(const T* at, const T* x, T* y) {
  return y + (at - x);
}

/// How results are written. More than a second-level cache holds beside x is left to memory, but
/// not in short rows, whose ends share cache lines; in place results replace what a cache has
/// anyway.
template <class T>
Store store_for(const T* x, const Layout& layout, const T* y) {
  constexpr std::size_t large = std::size_t{1} << 21, short_bytes = 256;
  const std::size_t size = layout.outer * layout.terms * layout.inner * sizeof(T);
  const bool is_short = layout.inner == 1 && layout.terms * sizeof(T) < short_bytes;
  return x != y && size >= large && !is_short ? Store::streamed : Store::cached;
}

/// Whether items are rows that softmax is made of at once.
template <class T>
bool rows_at_once(const Layout& layout) {
  return layout.inner == 1 && layout.terms > 0 && layout.terms * sizeof(T) <= bytes_at_once;
}

/// Whether rows have a length for which log_softmax is made at once. Longer ones hide what is done
/// beside the exponentials; shorter ones of doubles would wait for their logarithms.
template <class T>
bool log_softmax_at_once(const Layout& layout) {
  constexpr std::size_t fewest = sizeof(T) == sizeof(float) ? 1 : 64, most = 1024;
  return rows_at_once<T>(layout) && layout.terms >= fewest && layout.terms <= most;
}

/// Softmax of an item that the loops have not been made for.
template <class T>
void softmax_of_item(const Block<T>& block, std::size_t item, double max, double sum, T* y) {
  if (!std::isfinite(sum)) sum = std::numeric_limits<double>::quiet_NaN();
  const std::size_t first = item * block.item_step;
  for (std::size_t j = 0; j < block.terms; ++j) {
    const std::size_t at = first + j * block.term_step;
    y[at] = static_cast<T>(std::exp(double{block.x[at]} - max) / sum);
  }
}

/// A loop of SumExpLoops that ends in _at_once.
template <class T>
using AtOnce = void (*)(const Block<T>& block, T* y, Store store, double* made);

/// The task whose rows are made at once, and by `usual` where they cannot.
template <class T>
BlockTask<T> task_at_once(AtOnce<T> loop, const T* x, const Layout& layout, T* y,
                          const BlockTask<T>& usual) {
  BlockTask<T> task;
  const Store store = store_for(x, layout, y);
  task.sum = [loop, x, y, store](const Block<T>& block, const ItemSums& sums) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    loop(block, same_place(block.x, x, y), store, sums.result());
  };
  task.finish = [usual](const Block<T>& block, const ItemSums& sums, std::size_t first) {
    const double* made = sums.result();
    // All are, as a rule, which a loop without branches finds out first.
    double count = 0.0;
    for (std::size_t i = 0; i < block.items; ++i) count += made[i];
    if (count == static_cast<double>(block.items)) return;
    for_each_run(
        block.items, [&](std::size_t i) { return made[i] == 0.0; },
        [&](std::size_t begin, std::size_t run) {
          const Block<T> rest = block.part(begin, run);
          const ItemSums of_rest(run);
          usual.sum(rest, of_rest);
          usual.finish(rest, of_rest, first + begin);
          usual.write(rest, of_rest);
        });
  };
  return task;
}

}  // namespace

template <class T>
void softmax(const T* x, const Layout& layout, T* y, std::size_t threads, Isa isa) {
  const AllSumExpLoops& loops = sum_exp_loops(isa);
  BlockTask<T> task;
  task.sum = [&](const Block<T>& block, const ItemSums& sums) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    loops_for<T>(loops).sum_and_max(block, sums.sums());
  };
  // The scale of the results of an item, 0 where they are made one by one.
  task.finish = [&](const Block<T>& block, const ItemSums& sums, std::size_t) {
    const SumExp of = sums.sums();
    std::vector<std::size_t> lone;
    for (std::size_t i = 0; i < block.items; ++i)
      if (!sums.usable(i)) lone.push_back(i);
    loops.log.invert(block.items, of, sums.result(), sums.result_rest());
    for (const std::size_t i : lone) {
      const LoneItem item = lone_item(block, i, loops);
      of.max[i] = item.max;
      of.sum[i] = item.sum;
      sums.result()[i] = 0.0;
    }
  };
  task.write = [&](const Block<T>& block, const ItemSums& sums) {
    const SumExp of = sums.sums();
    T* to = same_place(block.x, x, y);
    const auto usable = [&](std::size_t i) { return sums.result()[i] > 0.0; };
    for_each_run(block.items, usable, [&](std::size_t begin, std::size_t count) {
      const FlushDenormals flush(FlushDenormals::What::results_and_operands);
      const Scaled scaled = {of.exponent + begin, sums.result() + begin,
                             sums.result_rest() + begin};
      loops_for<T>(loops).softmax(block.part(begin, count), scaled, to + begin * block.item_step,
                                  store_for(x, layout, y));
    });
    for (std::size_t i = 0; i < block.items; ++i)
      if (sums.result()[i] == 0.0) softmax_of_item(block, i, of.max[i], of.sum[i], to);
  };
  if (rows_at_once<T>(layout))
    task = task_at_once(loops_for<T>(loops).softmax_at_once, x, layout, y, BlockTask<T>(task));
  for_each_block(x, layout, loops, threads, task);
}

template <class T>
void log_softmax(const T* x, const Layout& layout, T* y, std::size_t threads, Isa isa) {
  const AllSumExpLoops& loops = sum_exp_loops(isa);
  BlockTask<T> task;
  task.sum = [&](const Block<T>& block, const ItemSums& sums) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    loops_for<T>(loops).sum_beside_max(block, sums.sums());
  };
  task.add = loops.log.add_beside_max;
  task.finish = [&](const Block<T>& block, const ItemSums& sums, std::size_t) {
    log_sums_from_max(block, sums, loops);
  };
  task.write = [&](const Block<T>& block, const ItemSums& sums) {
    loops_for<T>(loops).log_softmax(block, sums.sums().max, sums.result(),
                                    same_place(block.x, x, y), store_for(x, layout, y));
  };
  if (log_softmax_at_once<T>(layout))
    task = task_at_once(loops_for<T>(loops).log_softmax_at_once, x, layout, y, BlockTask<T>(task));
  for_each_block(x, layout, loops, threads, task);
}

template void softmax(const float*, const Layout&, float*, std::size_t, Isa);
template void softmax(const double*, const Layout&, double*, std::size_t, Isa);
template void log_softmax(const float*, const Layout&, float*, std::size_t, Isa);
template void log_softmax(const double*, const Layout&, double*, std::size_t, Isa);

}  // namespace logitkit
