#include "linear_cross_entropy/linear_cross_entropy.h"

#include <algorithm>
#include <vector>

#include "gemm/workspaces.h"
#include "linear_cross_entropy/large_memory.h"
#include "linear_cross_entropy/logit_panels.h"
#include "linear_cross_entropy/split_logits.h"
#include "simd/flush_denormals.h"
#include "threads.h"
#include "unit_in_use.h"

namespace logitkit {
namespace {

// Panels that go over a tile of classes together: of 512 columns they take 768 KiB of the
// second-level cache.
constexpr std::size_t group_panels = 8;

template <class T>
struct Workspace {
  Workspace(const LogitPanels<T>& panels, std::size_t depth, Isa isa)
      : split(panels, std::min(group_panels, panels.panels()), depth, isa),
        packed(split.exist() ? 0 : group_panels * depth * panels.lanes),
        tile(tile_keys * panels.lanes),
        targets(tile_keys * panels.lanes) {}
  SplitLogits<T> split;
  LargeMemory<T> packed;
  Aligned<T> tile, targets;
};

}  // namespace

const AllLayerLossLoops& layer_loss_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::layer_loss_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::layer_loss_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::layer_loss_loops;
#endif
    default: return scalar::layer_loss_loops;
  }
}

template <>
const LayerLossLoops<float>& layer_loss_loops_for(Isa isa) {
  return layer_loss_loops(isa).float32;
}
template <>
const LayerLossLoops<double>& layer_loss_loops_for(Isa isa) {
  return layer_loss_loops(isa).float64;
}

template <class T>
void linear_cross_entropy(const LayerLossInput<T>& input, const LayerLossStats& stats,
                          std::size_t threads, Isa isa) {
  const LogitPanels<T> panels(input, stats, isa);
  const ClassGrid grid(input.classes);
  const std::size_t size = panels.rows.size(), panel_size = input.depth * panels.lanes;
  const std::size_t groups = (panels.panels() + group_panels - 1) / group_panels;
  std::vector<RowSums> sums(grid.parts * size);  // [part][row]
  Workspaces<Workspace<T>> workspaces;

  const auto run = [&](std::size_t group, std::size_t part, Workspace<T>& w) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const UnitInUse in_use(w.split.unit());
    const std::size_t first_panel = group * group_panels;
    const std::size_t of_group = std::min(group_panels, panels.panels() - first_panel);
    if (w.split.exist()) w.split.load(first_panel, of_group);
    std::vector<typename LogitPanels<T>::Run> runs;
    for (std::size_t p = 0; p < of_group; ++p) {
      if (!w.split.exist()) panels.pack(first_panel + p, w.packed.data() + p * panel_size);
      runs.emplace_back(panels);
    }
    const std::size_t begin = grid.begin(part), end = grid.begin(part + 1);
    for (std::size_t j = begin; j < end; j += tile_keys) {
      const std::size_t classes = std::min(tile_keys, end - j);
      const bool run_ends = j + classes == end || (j + classes - begin) % ClassGrid::run == 0;
      const std::size_t done = (j - begin) % w.split.classes_at_once();
      if (w.split.exist() && done == 0)
        w.split.multiply(input.weight + j * input.depth,
                         std::min(w.split.classes_at_once(), end - j));
      for (std::size_t p = 0; p < of_group; ++p) {
        const std::size_t panel = first_panel + p;
        T* tile = w.tile.data();
        if (w.split.exist())
          panels.finish_tile(panel, j, classes, tile = w.split.tile(p, done));
        else
          panels.make_tile(panel, w.packed.data() + p * panel_size, j, classes, tile);
        const T* targets = panels.make_targets(panel, j, classes, w.targets.data());
        runs[p].add(panel, tile, targets, j, classes);
        if (run_ends)
          runs[p].finish(panels.count(panel), sums.data() + part * size + panel * panels.lanes);
      }
    }
  };
  parallel_for(groups * grid.parts, threads, [&](std::size_t t) {
    workspaces.lend([&] { return Workspace<T>(panels, input.depth, isa); },
                    [&](Workspace<T>& w) { run(t / grid.parts, t % grid.parts, w); });
  });
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t part = 1; part < grid.parts; ++part) sums[i].add(sums[part * size + i]);
    LogitPanels<T>::write(sums[i], panels.rows[i], stats);
  }
}

template void linear_cross_entropy(const LayerLossInput<float>&, const LayerLossStats&, std::size_t,
                                   Isa);
template void linear_cross_entropy(const LayerLossInput<double>&, const LayerLossStats&,
                                   std::size_t, Isa);

}  // namespace logitkit
