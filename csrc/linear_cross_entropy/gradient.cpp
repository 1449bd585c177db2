#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "gemm/workspaces.h"
#include "linear_cross_entropy/large_memory.h"
#include "linear_cross_entropy/linear_cross_entropy.h"
#include "linear_cross_entropy/logit_panels.h"
#include "linear_cross_entropy/split_gradient.h"
#include "linear_cross_entropy/split_logits.h"
#include "simd/flush_denormals.h"
#include "threads.h"
#include "unit_in_use.h"

namespace logitkit {
namespace {

// For the logits of the rows that are gone over together, and for what goes with them. Logits
// are then computed once; the weight is read twice, and its gradient read and written, for each
// such chunk of rows.
constexpr std::size_t most_bytes = std::size_t{36} << 20;

// Classes whose gradients are added at a time, tiles of them.
constexpr std::size_t block_classes = 2 * tile_keys;

/// Rows with T, and room for whole vectors at their end.
template <class T>
std::size_t whole_vectors(std::size_t columns, std::size_t width) {
  return (columns + width - 1) / width * width;
}

template <class T>
class Backward {
  using Panels = LogitPanels<T>;

 public:
  Backward(const LayerLossInput<T>& input, const LayerLossFactors& factors,
           const LayerLossStats& stats, const LayerLossGradient<T>& gradient, Isa isa)
      : in_(input),
        isa_(isa),
        factors_(factors),
        stats_(stats),
        to_(gradient),
        panels_(input, stats, isa),
        grid_(input.classes),
        depth_(whole_vectors<T>(input.depth, panels_.products.width)),
        stride_(depth_ + 64 / sizeof(T)),
        lanes_(panels_.lanes) {
    const PartLoops* unit =
        std::is_same_v<T, float> && in_.depth >= least_depth ? part_loops(isa) : nullptr;
    const std::size_t of_panel =
        (in_.classes + (grid_.parts + (unit == nullptr ? 2 : 4)) * depth_) * lanes_ * sizeof(T);
    chunk_ = std::clamp<std::size_t>(most_bytes / of_panel, 1,
                                     std::max<std::size_t>(panels_.panels(), 1));
    const std::size_t chunks = (panels_.panels() + chunk_ - 1) / chunk_;
    if (chunks > 0) chunk_ = (panels_.panels() + chunks - 1) / chunks;  // all of about one size
    const std::size_t columns = (in_.depth + lanes_ - 1) / lanes_ * lanes_;
    const std::size_t sizes[] = {in_.classes, unit == nullptr ? in_.depth : 0, columns,
                                 to_.input != nullptr ? grid_.parts * depth_ : 0};
    std::size_t rows = 0;
    for (const std::size_t size : sizes) rows += chunk_ * size;
    memory_ = std::make_unique<LargeMemory<T>>(rows * lanes_);
    T* next = memory_->data();  // whole vectors each, so that all begin at whole vectors
    T** const arrays[] = {&logits_, &packed_, &columns_, &sums_};
    for (std::size_t k = 0; k < 4; ++k) {
      *arrays[k] = next;
      next += chunk_ * sizes[k] * lanes_;
    }
    row_sums_.resize(grid_.parts * chunk_ * lanes_);
    lanes_of_.resize(chunk_);
    if (unit != nullptr)
      split_ = std::make_unique<SplitGradient>(*unit, in_.depth, lanes_, chunk_ * lanes_,
                                               block_classes, in_.classes * lanes_);
  }

  void run(std::size_t threads) {
    start_gradients();
    for (first_ = 0; first_ < panels_.panels(); first_ += chunk_) {
      count_ = std::min(chunk_, panels_.panels() - first_);
      parallel_for(count_, threads, [&](std::size_t p) { start_panel(p); });
      if constexpr (std::is_same_v<T, float>)
        if (split_ != nullptr && to_.weight != nullptr)
          split_->load_input(columns_, rows_of_chunk());
      parallel_for(grid_.parts, threads, [&](std::size_t part) {
        with_workspace([&](Workspace& w) { make_logits(part, w); });
      });
      tiny_ = false;
      for (std::size_t p = 0; p < count_; ++p) finish_rows(p);
      parallel_for(grid_.parts, threads, [&](std::size_t part) {
        with_workspace([&](Workspace& w) { add_gradients(part, w); });
      });
      if (to_.input != nullptr)
        parallel_for(count_, threads, [&](std::size_t p) { finish_input(p); });
    }
  }

 private:
  struct Workspace {
    explicit Workspace(const Backward& of)
        : logits(of.panels_, of.chunk_, of.in_.depth, of.isa_),
          targets(tile_keys * of.lanes_),
          weight(block_classes * of.stride_),
          rows(of.split_ != nullptr ? 0 : block_classes * of.stride_) {
      if (of.split_ != nullptr) block = std::make_unique<SplitGradient::Block>(*of.split_);
    }
    SplitLogits<T> logits;
    Aligned<T> targets, weight, rows;
    std::unique_ptr<SplitGradient::Block> block;
  };

  // What grading a panel needs of each lane. Of lanes without a row 2^(0 - inf) is 0.
  struct Lanes {
    alignas(64) T logsumexp[max_queries], factor[max_queries], peak[max_queries],
        spread[max_queries];
  };

  template <class F>
  void with_workspace(const F& f) {
    workspaces_.lend([&] { return Workspace(*this); },
                     [&](Workspace& w) {
                       const UnitInUse in_use(w.logits.unit());
                       f(w);
                     });
  }

  T* logits(std::size_t p, std::size_t first) const {
    return logits_ + (p * in_.classes + first) * lanes_;
  }
  T* packed(std::size_t p) const { return packed_ + p * in_.depth * lanes_; }
  std::size_t rows_of_chunk() const {
    return (count_ - 1) * lanes_ + panels_.count(first_ + count_ - 1);
  }
  T* sums(std::size_t part, std::size_t p) const {
    return sums_ + (part * chunk_ + p) * depth_ * lanes_;
  }
  RowSums* row_sums(std::size_t part, std::size_t p) {
    return row_sums_.data() + (part * chunk_ + p) * lanes_;
  }

  void start_gradients() {
    if (to_.input != nullptr && panels_.rows.size() < in_.rows)
      std::fill_n(to_.input, in_.rows * in_.depth, T{0});
    if (to_.weight != nullptr && panels_.rows.empty())
      std::fill_n(to_.weight, in_.classes * in_.depth, T{0});
    if (to_.bias != nullptr) std::fill_n(to_.bias, in_.classes, T{0});
  }

  // Loads the rows of a panel of the chunk.
  void start_panel(std::size_t p) {
    const std::size_t panel = first_ + p;
    if (split_ == nullptr) panels_.pack(panel, packed(p));
    for (std::size_t i = 0; to_.weight != nullptr && i < panels_.count(panel); ++i) {
      const T* row = in_.input + panels_.row(panel, i) * in_.depth;
      for (std::size_t d = 0; d < in_.depth; d += lanes_) {
        T* to = columns_ + (d / lanes_ * rows_of_chunk() + p * lanes_ + i) * lanes_;
        const std::size_t n = std::min(lanes_, in_.depth - d);
        std::copy_n(row + d, n, to);
        std::fill_n(to + n, lanes_ - n, T{0});
      }
    }
  }

  void make_logits(std::size_t part, Workspace& w) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const std::size_t begin = grid_.begin(part), end = grid_.begin(part + 1);
    std::vector<typename Panels::Run> runs(count_, typename Panels::Run(panels_));
    std::fill_n(row_sums(part, 0), count_ * lanes_, RowSums());
    if (w.logits.exist()) w.logits.load(first_, count_);
    for (std::size_t j = begin; j < end; j += tile_keys) {
      const std::size_t classes = std::min(tile_keys, end - j);
      const bool run_ends = j + classes == end || (j + classes - begin) % ClassGrid::run == 0;
      const std::size_t done = (j - begin) % w.logits.classes_at_once();
      if (w.logits.exist() && done == 0)
        w.logits.multiply(in_.weight + j * in_.depth,
                          std::min(w.logits.classes_at_once(), end - j));
      for (std::size_t p = 0; p < count_; ++p) {
        const std::size_t panel = first_ + p;
        if (w.logits.exist()) {
          w.logits.copy(p, done, classes, logits(p, j));
          panels_.finish_tile(panel, j, classes, logits(p, j));
        } else {
          panels_.make_tile(panel, packed(p), j, classes, logits(p, j));
        }
        const T* targets = panels_.make_targets(panel, j, classes, w.targets.data());
        runs[p].add(panel, logits(p, j), targets, j, classes);
        if (run_ends) runs[p].finish(panels_.count(panel), row_sums(part, p));
      }
    }
  }

  // Writes the statistics of the rows of a panel, and prepares their gradients.
  void finish_rows(std::size_t p) {
    const std::size_t panel = first_ + p;
    Lanes& lanes = lanes_of_[p];
    std::fill_n(lanes.logsumexp, max_queries, std::numeric_limits<T>::infinity());
    for (T* of : {lanes.factor, lanes.peak, lanes.spread}) std::fill_n(of, max_queries, T{0});
    for (std::size_t i = 0; i < panels_.count(panel); ++i) {
      RowSums& sums = row_sums(0, p)[i];
      for (std::size_t part = 1; part < grid_.parts; ++part) sums.add(row_sums(part, p)[i]);
      const std::size_t row = panels_.row(panel, i);
      const double logsumexp = Panels::write(sums, row, stats_);
      lanes.logsumexp[i] = static_cast<T>(logsumexp * Panels::log2_e);
      lanes.factor[i] = static_cast<T>(factors_.base[row] + factors_.slope[row] * logsumexp);
      lanes.peak[i] = static_cast<T>(factors_.peak[row]);
      // Parts of so small gradients would be lost.
      const double size = std::max(std::abs(double{lanes.factor[i]}), std::abs(factors_.peak[row]));
      tiny_ = tiny_ || (size > 0.0 && size < 0x1p-64);
      if (factors_.spread != nullptr) lanes.spread[i] = static_cast<T>(factors_.spread[row]);
    }
  }

  void add_gradients(std::size_t part, Workspace& w) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const std::size_t begin = grid_.begin(part), end = grid_.begin(part + 1);
    if (to_.input != nullptr) std::fill_n(sums(part, 0), count_ * depth_ * lanes_, T{0});
    for (std::size_t j = begin; j < end; j += block_classes) {
      const std::size_t classes = std::min(block_classes, end - j);
      if constexpr (std::is_same_v<T, float>)
        if (split_ != nullptr && to_.input != nullptr)
          split_->load_weight(in_.weight + j * in_.depth, classes, *w.block);
      if (to_.input != nullptr && split_ == nullptr)
        for (std::size_t k = 0; k < classes; ++k)
          std::copy_n(in_.weight + (j + k) * in_.depth, in_.depth, w.rows.data() + k * stride_);
      for (std::size_t p = 0; p < count_; ++p) {
        for (std::size_t k = 0; k < classes; k += tile_keys)
          grade(p, j + k, std::min(tile_keys, classes - k), w);
        if (to_.input != nullptr) add_input(part, p, j, classes, w);
      }
      if (to_.weight != nullptr) add_weight(j, classes, end, w);
    }
  }

  void add_input(std::size_t part, std::size_t p, std::size_t first, std::size_t classes,
                 Workspace& w) const {
    if constexpr (std::is_same_v<T, float>)
      if (split_ != nullptr && !tiny_ &&
          split_->add_input(logits(p, first), classes, sums(part, p), of_weight(p, first, classes),
                            *w.block))
        return;
    const T* of_classes[block_classes];
    for (std::size_t k = 0; k < classes; ++k)
      of_classes[k] =
          split_ == nullptr ? w.rows.data() + k * stride_ : in_.weight + (first + k) * in_.depth;
    panels_.products.weigh(logits(p, first), of_classes, classes, in_.depth, 0,
                           panels_.vectors(first_ + p), panels_.ones, sums(part, p));
  }

  // The share of a panel of the gradients of the weight that will be added to.
  Ahead of_weight(std::size_t p, std::size_t first, std::size_t classes) const {
    if constexpr (std::is_same_v<T, float>)
      if (to_.weight != nullptr && first_ > 0) {
        const std::size_t begin = p * classes / count_, end = (p + 1) * classes / count_;
        return {to_.weight + (first + begin) * in_.depth, in_.depth, end - begin, in_.depth};
      }
    return {};
  }

  // Adds to, or begins, the gradients of the weight of some classes, while the weight of those
  // up to `end` is asked for.
  void add_weight(std::size_t first, std::size_t classes, std::size_t end, Workspace& w) const {
    const bool direct = depth_ == in_.depth && (split_ == nullptr || classes % row_block == 0);
    const bool add = first_ > 0;
    const std::size_t next = first + classes, ahead = std::min(block_classes, end - next);
    T* to = direct ? to_.weight + first * in_.depth : w.weight.data();
    bool done = false;
    if constexpr (std::is_same_v<T, float>)
      done = split_ != nullptr && !tiny_ &&
             split_->add_weight(logits(0, first), classes, direct && add, to,
                                {in_.weight + next * in_.depth, in_.depth, ahead, in_.depth},
                                *w.block);
    if (!done)
      panels_.loops.spread(logits(0, first), in_.classes * lanes_, columns_, rows_of_chunk(),
                           classes, depth_, direct && add, to, in_.weight + next * in_.depth,
                           ahead * in_.depth);
    for (std::size_t k = 0; !direct && k < classes; ++k) {
      const T* from = to + k * depth_;
      T* row = to_.weight + (first + k) * in_.depth;
      for (std::size_t d = 0; d < in_.depth; ++d) row[d] = add ? row[d] + from[d] : from[d];
    }
  }

  // Makes of a tile of logits that of their gradients.
  void grade(std::size_t p, std::size_t first, std::size_t classes, Workspace& w) const {
    T* tile = logits(p, first);
    const std::size_t panel = first_ + p;
    const Lanes& lanes = lanes_of_[p];
    T slope[max_queries];  // of the cap at the label
    const auto label = [&](std::size_t i) {
      return static_cast<std::size_t>(in_.labels[panels_.row(panel, i)]) - first;
    };
    for (std::size_t i = 0; in_.targets == nullptr && i < panels_.count(panel); ++i) {
      if (label(i) >= classes) continue;
      const T tanh = panels_.cap > 0 ? tile[label(i) * lanes_ + i] / panels_.cap : T{0};
      slope[i] = T{1} - tanh * tanh;
    }
    const T* targets = panels_.make_targets(panel, first, classes, w.targets.data());
    const bool spreads = factors_.spread != nullptr || targets != nullptr;
    panels_.loops.grade(tile, classes, panels_.vectors(panel), lanes.logsumexp, lanes.factor,
                        targets, panels_.weights(first), lanes.peak,
                        spreads ? lanes.spread : nullptr, panels_.cap);
    for (std::size_t i = 0; targets == nullptr && i < panels_.count(panel); ++i)
      if (label(i) < classes) tile[label(i) * lanes_ + i] -= lanes.peak[i] * slope[i];
    if (to_.bias != nullptr)
      panels_.loops.add_rows(tile, classes, panels_.vectors(panel), to_.bias + first);
  }

  void finish_input(std::size_t p) const {
    const std::size_t size = in_.depth * lanes_, panel = first_ + p;
    T* total = sums(0, p);
    for (std::size_t part = 1; part < grid_.parts; ++part) {
      const T* later = sums(part, p);
      for (std::size_t k = 0; k < size; ++k) total[k] += later[k];
    }
    T* to[max_queries];
    for (std::size_t i = 0; i < panels_.count(panel); ++i)
      to[i] = to_.input + panels_.row(panel, i) * in_.depth;
    panels_.products.unpack(total, panels_.ones, panels_.count(panel), in_.depth, to);
  }

  const LayerLossInput<T>& in_;
  const Isa isa_;
  const LayerLossFactors& factors_;
  const LayerLossStats& stats_;
  const LayerLossGradient<T>& to_;
  const Panels panels_;
  const ClassGrid grid_;
  const std::size_t depth_, stride_, lanes_;   // of rows in whole vectors; of a panel
  std::size_t chunk_, first_ = 0, count_ = 0;  // panels
  std::unique_ptr<LargeMemory<T>> memory_;     // of what follows
  T* logits_;                                  // [panel][class][lane]
  T* packed_;                                  // [panel][d][lane]
  T* columns_;                                 // see LayerLossLoops::spread()
  T* sums_;                                    // [part][panel][d][lane]
  std::unique_ptr<SplitGradient> split_;       // null: there is no matrix unit for T
  bool tiny_ = false;                          // gradients of the chunk
  std::vector<RowSums> row_sums_;              // [part][panel][lane]
  std::vector<Lanes> lanes_of_;                // [panel]
  Workspaces<Workspace> workspaces_;
};

}  // namespace

template <class T>
void linear_cross_entropy_gradient(const LayerLossInput<T>& input, const LayerLossFactors& factors,
                                   const LayerLossStats& stats,
                                   const LayerLossGradient<T>& gradient, std::size_t threads,
                                   Isa isa) {
  Backward<T>(input, factors, stats, gradient, isa).run(threads);
}

template void linear_cross_entropy_gradient(const LayerLossInput<float>&, const LayerLossFactors&,
                                            const LayerLossStats&, const LayerLossGradient<float>&,
                                            std::size_t, Isa);
template void linear_cross_entropy_gradient(const LayerLossInput<double>&, const LayerLossFactors&,
                                            const LayerLossStats&, const LayerLossGradient<double>&,
                                            std::size_t, Isa);

}  // namespace logitkit
