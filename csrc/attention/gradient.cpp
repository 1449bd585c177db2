#include <algorithm>
#include <memory>

#include "attention/attention.h"
#include "attention/gradient_tiles.h"
#include "gemm/workspaces.h"
#include "simd/flush_denormals.h"
#include "threads.h"
#include "unit_in_use.h"

namespace logitkit {
namespace {

// The gradient of keys and values is a sum over queries. Those of one key head are cut into parts
// of so many panels at least and so many parts at most, and the sums of parts are added in their
// order. This grid depends on the sequence alone, and so do the bits.
constexpr std::size_t part_panels = 16;
constexpr std::size_t most_parts = 16;
// For sums of parts, of one key head or of several at a time.
constexpr std::size_t most_bytes = std::size_t{48} << 20;

template <class T>
class Backward {
  using Tiles = GradientTiles<T>;

 public:
  Backward(const AttentionInput<T>& input, const AttentionGradient<T>& gradient, Isa isa)
      : in_(input), g_(gradient), tiles_(input, gradient, isa) {
    for (std::size_t q = 0; q < in_.sequences.size(); ++q)
      for (std::size_t h = 0; h < in_.key_heads; ++h) {
        const std::size_t panels = tiles_.tiles.panels[q].size();
        const std::size_t bytes =
            in_.sequences[q].keys * (tiles_.key_depth + tiles_.value_depth) * sizeof(T);
        const std::size_t most = std::min(most_parts, most_bytes / std::max<std::size_t>(bytes, 1));
        const std::size_t parts =
            std::clamp<std::size_t>(panels / part_panels, 1, std::max<std::size_t>(most, 1));
        units_.push_back({q, h, parts, parts > 1 ? bytes * parts : 0, {}});
      }
  }

  void run(std::size_t threads) {
    Workspaces<Workspace> workspaces;
    std::vector<PartTask> tasks;
    for (std::size_t first = 0, end = 0; first < units_.size(); first = end) {
      tasks.clear();
      std::size_t bytes = 0;
      for (; end < units_.size() && (end == first || bytes + units_[end].bytes <= most_bytes);
           ++end) {
        bytes += units_[end].bytes;
        units_[end].sums.resize(units_[end].parts > 1 ? units_[end].parts : 0);
        for (std::size_t p = 0; p < units_[end].parts; ++p) tasks.push_back({end, p});
      }
      std::reverse(tasks.begin(), tasks.end());  // see Forward
      parallel_for(tasks.size(), threads, [&](std::size_t t) {
        workspaces.lend([&] { return Workspace(*this); },
                        [&](Workspace& w) { run_part(units_[tasks[t].unit], tasks[t].part, w); });
      });
      for (std::size_t u = first; u < end; ++u) {
        if (units_[u].parts > 1) add_parts(units_[u], threads);
        units_[u].sums.clear();
      }
    }
  }

 private:
  // The gradients of the keys and values of a sequence, in rows of whole vectors.
  struct Sums {
    void start(std::size_t keys, std::size_t key_depth, std::size_t value_depth) {
      keys = (keys + tile_keys - 1) / tile_keys * tile_keys;  // whole tiles
      const std::size_t size = keys * (key_depth + value_depth);
      if (size > size_) {
        memory_ = std::make_unique<Aligned<T>>(size);
        size_ = size;
      }
      key = memory_ == nullptr ? nullptr : memory_->data();
      value = key + keys * key_depth;
      std::fill_n(key, size, T{0});
    }
    T *key = nullptr, *value = nullptr;

   private:
    std::unique_ptr<Aligned<T>> memory_;
    std::size_t size_ = 0;
  };

  struct Workspace {
    explicit Workspace(const Backward& b) : tiles(b.tiles_) {}
    typename Tiles::Workspace tiles;
    Sums sums;
  };

  // The queries of one key head of a sequence.
  struct Unit {
    std::size_t sequence, key_head, parts, bytes;
    std::vector<Sums> sums;  // of each part, if there are several
  };
  struct PartTask {
    std::size_t unit, part;
  };

  void run_part(Unit& unit, std::size_t part, Workspace& w) const {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const std::size_t size = tiles_.tiles.panels[unit.sequence].size();
    const std::size_t keys = in_.sequences[unit.sequence].keys;
    Sums& sums = unit.parts > 1 ? unit.sums[part] : w.sums;
    sums.start(keys, tiles_.key_depth, tiles_.value_depth);
    const std::size_t end = size * (part + 1) / unit.parts;
    const UnitInUse in_use(tiles_.loops);
    for (std::size_t p = size * part / unit.parts; p < end; p += tiles_.group)
      run_group({unit.sequence, unit.key_head, p, std::min(tiles_.group, end - p)}, w, sums);
    if (unit.parts == 1) write_sums(unit, sums, 0, keys);
  }

  void run_group(const PanelTask& task, Workspace& w, Sums& sums) const {
    const Sequence& s = in_.sequences[task.sequence];
    const KeyRange keys = tiles_.start(task, w.tiles);
    constexpr auto step = static_cast<std::int64_t>(tile_keys);
    for (std::int64_t key = keys.begin / step * step; key < keys.end; key += step) {
      const auto first = static_cast<std::size_t>(key);
      tiles_.add({s, task.key_head, first, std::min(tile_keys, s.keys - first),
                  sums.key + first * tiles_.key_depth, sums.value + first * tiles_.value_depth},
                 task.panels, w.tiles);
    }
    if (w.tiles.splits) w.tiles.products->finish();
    for (std::size_t p = 0; p < task.panels; ++p) tiles_.finish(s, w.tiles.panels[p], w.tiles);
  }

  void write_sums(const Unit& task, const Sums& sums, std::size_t begin, std::size_t end) const {
    const Sequence& s = in_.sequences[task.sequence];
    for (std::size_t j = begin; j < end; ++j) {
      const std::size_t row = s.first_key + j;
      tiles_.write_row(sums.key + j * tiles_.key_depth, in_.head_dim, g_.grad_key, s.key_batch,
                       task.key_head, row);
      tiles_.write_row(sums.value + j * tiles_.value_depth, in_.value_dim, g_.grad_value,
                       s.key_batch, task.key_head, row);
    }
  }

  // Adds the parts of a key head, a block of keys at a time.
  void add_parts(const Unit& unit, std::size_t threads) const {
    constexpr std::size_t block = 256;
    const std::size_t keys = in_.sequences[unit.sequence].keys;
    parallel_for((keys + block - 1) / block, threads, [&](std::size_t t) {
      const std::size_t begin = t * block, end = std::min(keys, begin + block);
      const auto add = [&](T* to, const T* from, std::size_t depth) {
        for (std::size_t k = begin * depth; k < end * depth; ++k) to[k] += from[k];
      };
      const Sums& first = unit.sums[0];
      for (std::size_t p = 1; p < unit.parts; ++p) {
        add(first.key, unit.sums[p].key, tiles_.key_depth);
        add(first.value, unit.sums[p].value, tiles_.value_depth);
      }
      write_sums(unit, first, begin, end);
    });
  }

  const AttentionInput<T>& in_;
  const AttentionGradient<T>& g_;
  const Tiles tiles_;
  std::vector<Unit> units_;
};

}  // namespace

const GradientLoops* gradient_loops(Isa isa) {
#if defined(LOGITKIT_HAS_AMX)
  if (isa == Isa::amx) return &amx::gradient_loops;
#endif
  static_cast<void>(isa);
  return nullptr;
}

template <class T>
void attention_gradient(const AttentionInput<T>& input, const AttentionGradient<T>& gradient,
                        std::size_t threads, Isa isa) {
  if (input.heads == 0 || input.key_heads == 0 || input.sequences.empty()) return;
  Backward<T>(input, gradient, isa).run(threads);
}

template void attention_gradient(const AttentionInput<float>&, const AttentionGradient<float>&,
                                 std::size_t, Isa);
template void attention_gradient(const AttentionInput<double>&, const AttentionGradient<double>&,
                                 std::size_t, Isa);

}  // namespace logitkit
