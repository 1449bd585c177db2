// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/gradient_loops.h"
#include "attention/grading_amx.h"
#include "simd/amx_product.h"

namespace logitkit::amx {
namespace {

constexpr size_t vector_of_lane_pairs = most_lane_pairs * pairs_of_step;

/// The elements from `begin` on of a row of `depth`, 0 beyond.
F32 load_columns(const float* row, size_t begin, size_t depth) {
  if (begin + width <= depth) return F32::load(row + begin);
  return begin < depth ? F32::load_first(row + begin, depth - begin, F32::all(0)) : F32::all(0);
}

float largest(const float* const* rows, size_t count, size_t depth) {
  __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t j = 0; j < count; ++j)
    for (size_t d = 0; d < depth; d += 2 * width)
#pragma GCC unroll 2
      for (size_t k = 0; k < 2; ++k)
        most[k] = _mm512_max_epi32(most[k], magnitude(load_columns(rows[j], d + k * width, depth)));
  return largest_of(_mm512_max_epi32(most[0], most[1]));
}

float pack_rows(const float* const* rows, size_t count, size_t depth, std::uint16_t* to) {
  __m512i most = _mm512_setzero_si512();
  for (size_t j = 0; j < round_up(count, side); ++j)
    for (size_t d = 0; d < depth; d += depth_step) {
      const size_t columns = j < count ? depth : 0;
      const float* row = rows[j < count ? j : 0];
      const F32 first = load_columns(row, d, columns);
      const F32 second = load_columns(row, d + width, columns);
      most = _mm512_max_epi32(most, _mm512_max_epi32(magnitude(first), magnitude(second)));
      store_row(split(first), split(second),
                to + d / depth_step * rows_of_step + j / side * block + j % side * depth_step);
    }
  return largest_of(most);
}

void pack_columns(const float* const* rows, size_t count, size_t depth, std::uint16_t* to) {
  for (size_t d = 0; d < depth; d += side)
    for (size_t j = 0; j < count; j += depth_step) {
      F32 keys[2][side];
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
        F32 x[side];
#pragma GCC unroll 16
        for (size_t k = 0; k < side; ++k) {
          const size_t key = j + half * side + k;
          x[k] = key < count ? load_columns(rows[key], d, depth) : F32::all(0);
        }
        transpose(x);
#pragma GCC unroll 16
        for (size_t k = 0; k < side; ++k) keys[half][k] = x[k];
      }
      const size_t first = d / side, steps = tile_keys / depth_step;
      std::uint16_t* at = to + (first / blocks_of_rows * steps + j / depth_step) * rows_of_step +
                          first % blocks_of_rows * block;
      for (size_t k = 0; k < side; ++k)
        store_row(split(keys[0][k]), split(keys[1][k]), at + k * depth_step);
    }
}

float pack_panel(const float* panel, size_t depth, std::uint32_t* pairs) {
  __m512i most = _mm512_setzero_si512();
  const auto row = [&](size_t d) {
    const F32 x = d < depth ? F32::load(panel + d * lanes) : F32::all(0);
    most = _mm512_max_epi32(most, magnitude(x));
    return split(x);
  };
  for (size_t d = 0; d < depth; d += depth_step)
    for (size_t k = 0; k < side; ++k)
      store_pairs(row(d + k), row(d + side + k),
                  pairs + d / depth_step * pairs_of_step + k * width);
  return largest_of(most);
}

void pack_lanes(const float* first, const float* second, size_t depth, std::uint32_t* pairs) {
  for (size_t d = 0; d < depth; d += width)
    for (size_t k = 0; k < side; ++k) {
      const auto row = [&](const float* rows) {
        return split(rows != nullptr ? F32::load(rows + k * depth + d) : F32::all(0));
      };
      store_pairs(row(first), row(second), pairs + d / width * vector_of_lane_pairs + k * width);
    }
}

void score(const std::uint16_t* keys, const std::uint32_t* queries, size_t depth, size_t begin,
           size_t end, float* tile) {
  const Column<3> column{blocks_between(begin, end)};
  finish_stores();
  column.clear();
  for (size_t step = 0; step * depth_step < depth; ++step)
    column.add(keys + step * rows_of_step, queries + step * pairs_of_step);
  column.store(tile, lanes);
  finish_stores();
}

/// What the weights and gradients of a tile give, while those of another one are made.
class Adding {
  using Tile = GradientLoops::Tile;
  static constexpr size_t dims = blocks_of_rows * side;

 public:
  Adding(const Tile& tile, Grading& work) : tile_(tile), of_(tile.space), work_(work) {}

  void run() {
    work_.spread_over(products());
    for (size_t n = 0; n < 2 * most_lane_pairs; ++n)
      if (tile_.blocks[n / 2] != 0 && tile_.lanes[n].begin < tile_.lanes[n].end) weigh(n);
    spread(of_.weights(0), tile_.grad_rows, tile_.value_dim, tile_.grad_values);
    spread(of_.gradients(0), tile_.query_rows, tile_.head_dim, tile_.grad_keys);
  }

 private:
  size_t products() const {
    size_t blocks_of_pairs = 0, steps_of_vectors = 0;
    for (size_t n = 0; n < 2 * most_lane_pairs; ++n) {
      const unsigned blocks = tile_.blocks[n / 2];
      const GradientLoops::Lanes& of = tile_.lanes[n];
      if (n % 2 == 0) blocks_of_pairs += static_cast<size_t>(__builtin_popcount(blocks));
      if (blocks != 0 && of.begin < of.end)
        steps_of_vectors += round_up(of.end, depth_step) / depth_step - of.begin / depth_step;
    }
    const size_t key_depth = round_up(tile_.head_dim, side) / side;
    const size_t value_depth = round_up(tile_.value_dim, side) / side;
    return Column<3>::products *
           (steps_of_vectors * key_depth + blocks_of_pairs * (key_depth + value_depth));
  }

  /// sums[d][i] += sum over keys of keys[j][d] * gradients[j][i] for one vector of lanes.
  void weigh(size_t vector) {
    const GradientLoops::Lanes& of = tile_.lanes[vector];
    const std::uint16_t* columns = tile_.columns;
    for (size_t d = 0; d < tile_.head_dim; d += dims) {
      const size_t rest = tile_.head_dim - d;
      const Column<3> column{blocks_between(0, rest < dims ? rest : dims)};
      column.clear();
      for (size_t step = of.begin / depth_step; step * depth_step < of.end; ++step)
        column.add(columns + step * rows_of_step, of_.pairs(vector) + step * pairs_of_step, work_);
      column.store_added(of.sums + d * lanes, lanes);
      columns += tile_keys / depth_step * rows_of_step;
    }
  }

  /// out[j][d] += sum over pairs of vectors of lanes of weights[j][i] * rows[i][d], for the blocks
  /// of keys of each pair.
  void spread(const std::uint16_t* weights, const std::uint32_t* rows, size_t depth, float* out) {
    Column<3> all{0};
    for (const unsigned of_pair : tile_.blocks) all.blocks |= of_pair;
    const size_t stride = round_up(depth, width);
    for (size_t d = 0; d < depth; d += width) {
      all.clear();
      for (size_t k = 0; k < most_lane_pairs; ++k)
        if (tile_.blocks[k] != 0)
          Column<3>{tile_.blocks[k]}.add(weights + k * rows_of_step, rows + k * pairs_of_step,
                                         work_);
      all.store_added(out + d, stride);
      rows += vector_of_lane_pairs;
    }
  }

  const Tile& tile_;
  const Graded of_;
  Grading& work_;
};

unsigned add(const GradientLoops::Tile& made, GradientLoops::Tile& next, float most) {
  Grading work(next, most);
  finish_stores();
  Adding(made, work).run();
  work.finish();
  finish_stores();
  return work.failed();
}

}  // namespace

const GradientLoops gradient_loops = {begin,      end,        largest, pack_rows, pack_columns,
                                      pack_panel, pack_lanes, score,   add};

}  // namespace logitkit::amx
