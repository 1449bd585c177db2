// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/exp2_flushed_amx.h"
#include "attention/gradient_loops.h"
#include "simd/amx_product.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, lanes = panel_vectors * width;
constexpr size_t rows_of_step = GradientLoops::rows_of_step;
constexpr size_t pairs_of_step = GradientLoops::pairs_of_step;
constexpr size_t pairs_of_vector = tile_keys / depth_step * pairs_of_step;
constexpr size_t vector_of_lane_pairs = GradientLoops::most_lane_pairs * pairs_of_step;

/// The elements from `begin` on of a row of `depth`, 0 beyond.
F32 load_columns(const float* row, size_t begin, size_t depth) {
  if (begin + width <= depth) return F32::load(row + begin);
  return begin < depth ? F32::load_first(row + begin, depth - begin, F32::all(0)) : F32::all(0);
}

/// Both halves of a step of one row, the smallest part first, for the order of Column.
void store_row(const Parts& first, const Parts& second, std::uint16_t* to) {
  _mm512_store_si512(to, pair(first.low, second.low));
  _mm512_store_si512(to + blocks_of_rows * block, pair(first.middle, second.middle));
  _mm512_store_si512(to + 2 * blocks_of_rows * block, pair(first.high, second.high));
}
void store_pairs(const Parts& first, const Parts& second, std::uint32_t* to) {
  _mm512_store_si512(to, pair(first.high, second.high));
  _mm512_store_si512(to + pair_block, pair(first.middle, second.middle));
  _mm512_store_si512(to + 2 * pair_block, pair(first.low, second.low));
}

__m512i magnitude(F32 x) {
  return _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7fffffff));
}
float largest_of(__m512i magnitudes) {
  const int bits = _mm512_reduce_max_epi32(magnitudes);
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
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

/// out[d][i] += sum over keys from `begin` to `end` of keys[j][d] * gradients[j][i] for one vector
/// of lanes.
void weigh(const std::uint16_t* columns, const std::uint32_t* gradients, size_t depth, size_t begin,
           size_t end, float* out) {
  constexpr size_t dims = blocks_of_rows * side;
  for (size_t d = 0; d < depth; d += dims) {
    const Column<3> column{blocks_between(0, depth - d < dims ? depth - d : dims)};
    column.clear();
    for (size_t step = begin / depth_step; step * depth_step < end; ++step)
      column.add(columns + step * rows_of_step, gradients + step * pairs_of_step);
    column.store_added(out + d * lanes, lanes);
    columns += tile_keys / depth_step * rows_of_step;
  }
}

constexpr size_t most_lane_pairs = GradientLoops::most_lane_pairs;

/// out[j][d] += sum over pairs of vectors of lanes of weights[j][i] * rows[i][d], for the blocks of
/// keys of each pair.
void spread(const std::uint16_t* weights, const unsigned (&blocks)[most_lane_pairs],
            const std::uint32_t* rows, size_t depth, float* out) {
  Column<3> all{0};
  for (const unsigned of_pair : blocks) all.blocks |= of_pair;
  const size_t stride = round_up(depth, width);
  for (size_t d = 0; d < depth; d += width) {
    all.clear();
    for (size_t k = 0; k < most_lane_pairs; ++k)
      if (blocks[k] != 0)
        Column<3>{blocks[k]}.add(weights + k * rows_of_step, rows + k * pairs_of_step);
    all.store_added(out + d, stride);
    rows += vector_of_lane_pairs;
  }
}

using Lanes = GradientLoops::Lanes;

/// What two vectors of lanes have to be graded by, and where their parts go.
struct Grading {
  const Lanes* of[2];
  std::uint16_t *weights, *gradients;
  std::uint32_t* pairs;  // pairs_of_vector each
};
enum class Kind { plain, with_slopes, graded };

/// Reads one vector of lanes. Where not all keys are seen there may be no vector, and its memory is
/// not touched.
template <Kind kind, bool sees_all>
struct Reader {
  explicit Reader(const Lanes& lanes_of) : of(lanes_of) {
    const auto any = static_cast<__mmask16>(-(of.begin < of.end));
    if (kind == Kind::graded) return;
    logsumexp.v = _mm512_maskz_loadu_ps(any, of.logsumexp);
    terms.v = _mm512_maskz_loadu_ps(any, of.terms);
    if (kind == Kind::with_slopes) slopes.v = _mm512_maskz_loadu_ps(any, of.slopes);
  }

  // See grade() of make_loops.h: the same numbers, but for sums that are not finite, with which
  // this is done again there.
  void read(size_t key, F32& weight, F32& gradient) const {
    const bool sees = sees_all || (of.begin <= key && key < of.end);
    const auto seen = static_cast<__mmask16>(sees ? 0xffff : 0);
    const size_t at = sees ? key * lanes : 0;  // in what may be null
    gradient.v = _mm512_maskz_loadu_ps(seen, of.products + at);
    if constexpr (kind == Kind::graded) {
      weight.v = _mm512_maskz_loadu_ps(seen, of.logits + at);
    } else {
      const F32 hidden = F32::all(-__builtin_inff());
      const F32 z = {_mm512_mask_loadu_ps(hidden.v, seen, of.logits + at)};
      const F32 t = z - logsumexp;
      weight = exp2_flushed(t);
      gradient = gradient + terms;
      if constexpr (kind == Kind::with_slopes)
        gradient = fnma(slopes, max(F32::all(-256.0f), t), gradient);
      gradient = weight * gradient;
    }
  }

  const Lanes& of;
  F32 logsumexp, terms, slopes;
};

/// One step of keys; returns the largest magnitude of `most` and the gradients.
template <Kind kind, bool sees_all>
__m512i grade_step(const Grading& g, size_t first, __m512i most) {
  const Reader<kind, sees_all> readers[2] = {Reader<kind, sees_all>(*g.of[0]),
                                             Reader<kind, sees_all>(*g.of[1])};
  for (size_t k = 0; k < side; ++k) {
    Parts gradient[2][2];
#pragma GCC unroll 2
    for (size_t half = 0; half < 2; ++half) {
      Parts weight[2];
#pragma GCC unroll 2
      for (size_t v = 0; v < 2; ++v) {
        F32 p, dz;
        readers[v].read(first + half * side + k, p, dz);
        most = _mm512_max_epi32(most, magnitude(dz));
        weight[v] = split(p);
        gradient[half][v] = split(dz);
      }
      const size_t row = (first / side + half) * block + k * depth_step;
      store_row(weight[0], weight[1], g.weights + row);
      store_row(gradient[half][0], gradient[half][1], g.gradients + row);
    }
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v)
      store_pairs(gradient[0][v], gradient[1][v],
                  g.pairs + v * pairs_of_vector + first / depth_step * pairs_of_step + k * width);
  }
  return most;
}

/// Makes the weights and gradients of the keys from `begin` to `end`, in whole steps.
template <Kind kind>
float grade(const Grading& g, size_t begin, size_t end) {
  __m512i most = _mm512_setzero_si512();
  for (size_t first = begin / depth_step * depth_step; first < end; first += depth_step) {
    bool all = true;
    for (const Lanes* of : g.of) all = all && of->begin <= first && first + depth_step <= of->end;
    most = all ? grade_step<kind, true>(g, first, most) : grade_step<kind, false>(g, first, most);
  }
  return largest_of(most);
}

unsigned add(const GradientLoops::Tile& tile, float most) {
  std::uint16_t *weights = tile.space, *gradients = weights + most_lane_pairs * rows_of_step;
  auto* pairs = reinterpret_cast<std::uint32_t*>(gradients + most_lane_pairs * rows_of_step);
  unsigned blocks[most_lane_pairs] = {}, failed = 0;
  for (size_t k = 0; k < most_lane_pairs; ++k) {
    const Lanes *first = tile.lanes + 2 * k, *second = first + 1;
    if (first->begin == first->end) first = second;
    if (first->begin == first->end) continue;
    const bool both = second->begin < second->end;
    const size_t begin = both && second->begin < first->begin ? second->begin : first->begin;
    const size_t end = both && second->end > first->end ? second->end : first->end;
    const Grading grading = {{tile.lanes + 2 * k, second},
                             weights + k * rows_of_step,
                             gradients + k * rows_of_step,
                             pairs};
    const float largest = tile.is_graded             ? grade<Kind::graded>(grading, begin, end)
                          : first->slopes != nullptr ? grade<Kind::with_slopes>(grading, begin, end)
                                                     : grade<Kind::plain>(grading, begin, end);
    if (!(largest <= most)) {
      failed |= 1u << k;
      continue;
    }
    blocks[k] = blocks_between(begin, end);
    finish_stores();
    for (size_t v = 0; v < 2; ++v) {
      const Lanes& of = *grading.of[v];
      if (of.begin < of.end)
        weigh(tile.columns, pairs + v * pairs_of_vector, tile.head_dim, of.begin, of.end, of.sums);
    }
  }
  finish_stores();
  spread(weights, blocks, tile.grad_rows, tile.value_dim, tile.grad_values);
  spread(gradients, blocks, tile.query_rows, tile.head_dim, tile.grad_keys);
  finish_stores();
  return failed;
}

}  // namespace

const GradientLoops gradient_loops = {begin,      end,        largest, pack_rows, pack_columns,
                                      pack_panel, pack_lanes, score,   add};

}  // namespace logitkit::amx
