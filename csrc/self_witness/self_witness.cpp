#include "self_witness/self_witness.h"

#include <algorithm>

#include "gemm/workspaces.h"
#include "self_witness/walk.h"
#include "threads.h"

namespace logitkit {

using witness::Extremes;
using witness::Problem;
using witness::Walk;

namespace {

const WitnessLoops& witness_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::witness_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::witness_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::witness_loops;
#endif
    default: return scalar::witness_loops;
  }
}

std::vector<Extremes> tile_extremes(const Problem& problem) {
  std::vector<Extremes> tiles((problem.z.rows + tile_rows - 1) / tile_rows);
  for (std::size_t j = 0; j < problem.z.rows; ++j) {
    Extremes& tile = tiles[j / tile_rows];
    tile.least_square = std::min(tile.least_square, problem.squares[j]);
    tile.greatest_tail = std::max(tile.greatest_tail, problem.tail(0, j));
  }
  return tiles;
}

// A margin is a difference of two floats, rounded to nearest: makes it a lower bound again.
float round_down(float margin) { return margin * (1.0f - 0x1p-22f); }

}  // namespace

std::uint64_t self_witness(const Matrix& z, const float* tails, const float* squares,
                           std::size_t begin, std::size_t end, float* slack, std::size_t threads,
                           Isa isa) {
  static_assert(witness_step % depth_block == 0, "a first look ends with a block");
  const PartLoops* unit = z.columns >= least_depth ? rounded_part_loops(isa) : nullptr;
  const Problem problem = {z, tails, squares, score_loops(isa), unit, witness_loops(isa)};
  const std::vector<Extremes> extremes = tile_extremes(problem);
  const std::size_t lanes = problem.score.lanes, panels = (end - begin + lanes - 1) / lanes;
  const std::size_t group = pieces_in_task(panels, Walk::most_panels(problem), threads) * lanes;
  Workspaces<Walk> walks;
  parallel_for((end - begin + group - 1) / group, threads, [&](std::size_t g) {
    const std::size_t first = begin + g * group;
    walks.lend([&] { return Walk(problem, extremes); },
               [&](Walk& walk) { walk.run(first, std::min(first + group, end), slack); });
  });
  std::uint64_t multiply_adds = 0;
  for (const auto& walk : walks.all()) {
    multiply_adds += walk->multiply_adds();
    for (std::size_t j = 0; j < z.rows; ++j)
      slack[j] = std::min(slack[j], round_down(walk->slack()[j]));
  }
  return multiply_adds;
}

}  // namespace logitkit
