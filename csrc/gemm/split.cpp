#include "gemm/split.h"

namespace logitkit {
namespace {

constexpr std::uint64_t first_bits(std::size_t n) {
  return n < 64 ? (std::uint64_t{1} << n) - 1 : ~std::uint64_t{0};
}

}  // namespace

const PartLoops* part_loops(Isa isa) {
#if defined(LOGITKIT_HAS_AMX)
  if (isa == Isa::amx) return &amx::part_loops;
#endif
  static_cast<void>(isa);
  return nullptr;
}

void score_split(const ScoreLoops& loops, const PartLoops& unit, const SplitPanel& panel,
                 const SplitRows& rows, std::size_t depth, std::size_t vectors, float* tile) {
  const std::size_t lanes = loops.lanes;
  if (rows.others == first_bits(rows.count) || panel.others == first_bits(16 * vectors)) {
    loops.score(panel.floats, rows.floats, 1, rows.count, depth, false, tile);
    return;
  }
  unit.score(panel.parts, rows.parts, rows.depth, rows.count, depth, vectors, false, tile, lanes);
  for (std::size_t r = 0; rows.others >> r != 0 && r < rows.count; ++r)
    if ((rows.others >> r & 1) != 0)
      loops.score(panel.floats, rows.floats + r, 1, 1, depth, false, tile + r * lanes);
  if (panel.others == 0) return;
  alignas(64) float redone[tile_rows * max_lanes];
  loops.score(panel.floats, rows.floats, 1, rows.count, depth, false, redone);
  for (std::size_t i = 0; i < lanes; ++i)
    for (std::size_t r = 0; (panel.others >> i & 1) != 0 && r < rows.count; ++r)
      tile[r * lanes + i] = redone[r * lanes + i];
}

}  // namespace logitkit
