// Compiled with -mavx512bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/lanes.h"
#include "attention/operands_avx512.h"
#include "attention/softening_avx512.h"

namespace logitkit::avx512_bf16 {
namespace {

using namespace avx512;

using Layout = StepLayout<1>;
constexpr size_t weights_of_vector = tile_keys / depth_step * Layout::pairs_of_step;

// Sums of so many rows for three vectors of lanes, a pair of these and one of a row fit the
// registers.
constexpr size_t rows_at_once = 8;

/// Two elements of a row for all lanes.
__m512bh broadcast_pair(const std::uint16_t* row) {
  std::int32_t pair;
  std::memcpy(&pair, row, sizeof pair);
  __m512i pairs = _mm512_set1_epi32(pair);
#ifdef __clang__
  asm("" : "+v"(pairs));  // Clang 16 crashes on an operand that it knows to be broadcast
#endif
  return (__m512bh)pairs;
}

/// sums[j][v] = the row j times the pairs of the vector v, over `steps` steps. Vectors of lanes
/// share the loads of rows, for some processors load no more vectors than they multiply. Sums are
/// rounded to nearest, and denormal numbers are 0, whatever the thread has set.
template <size_t vectors>
inline void multiply_rows(const std::uint16_t* rows, const std::uint32_t* pairs,
                          size_t pairs_of_vector, size_t steps,
                          F32 (&sums)[rows_at_once][vectors]) {
#pragma GCC unroll 8
  for (size_t j = 0; j < rows_at_once; ++j)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sums[j][v] = F32::all(0);
  for (size_t s = 0; s < steps; ++s) {
#pragma GCC unroll 4
    for (size_t k = 0; k < depth_step / 2; ++k) {
      const std::uint16_t* const row = opaque(rows + 2 * k);
      const std::uint32_t* const pair = opaque(pairs + k * width);
      __m512bh column[vectors];
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v)
        column[v] = (__m512bh)_mm512_load_si512(pair + v * pairs_of_vector);
#pragma GCC unroll 8
      for (size_t j = 0; j < rows_at_once; ++j) {
        const __m512bh element = broadcast_pair(row + j * depth_step);
#pragma GCC unroll 3
        for (size_t v = 0; v < vectors; ++v)
          sums[j][v].v = _mm512_dpbf16_ps(sums[j][v].v, column[v], element);
      }
    }
    rows += Layout::rows_of_step;
    pairs += Layout::pairs_of_step;
  }
}

size_t depth_steps(size_t depth) { return round_up(depth, depth_step) / depth_step; }

template <size_t vectors>
void score_vectors(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin,
                   size_t end, size_t depth, size_t first, float* tile) {
  const size_t steps = depth_steps(depth), pairs_of_vector = steps * Layout::pairs_of_step;
  for (size_t j = begin / rows_at_once * rows_at_once; j < end; j += rows_at_once) {
    F32 sums[rows_at_once][vectors];
    multiply_rows<vectors>(keys + j / side * block + j % side * depth_step,
                           queries + first * pairs_of_vector, pairs_of_vector, steps, sums);
#pragma GCC unroll 8
    for (size_t k = 0; k < rows_at_once; ++k)
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v)
        sums[k][v].store(tile + (j + k) * lanes + (first + v) * width);
  }
}

/// out = out * factor + the sums of values of a step.
template <size_t vectors>
void weigh_vectors(const PackedStep& step, const std::uint32_t* weights, const float* factor,
                   size_t depth, float* out) {
  const size_t first = step.begin / depth_step, steps = step.end / depth_step - first;
  for (size_t d = 0; d < depth; d += rows_at_once) {
    const size_t of_dims = d / side / blocks_of_rows * (tile_keys / depth_step) + first;
    const std::uint16_t* values = step.values + of_dims * Layout::rows_of_step +
                                  d / side % blocks_of_rows * block + d % side * depth_step;
    F32 sums[rows_at_once][vectors];
    multiply_rows<vectors>(
        values, weights + step.vector * weights_of_vector + first * Layout::pairs_of_step,
        weights_of_vector, steps, sums);
#pragma GCC unroll 8
    for (size_t k = 0; k < rows_at_once; ++k)
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) {
        const size_t lane = (step.vector + v) * width;
        float* to = out + (d + k) * lanes + lane;
        fma(F32::load(to), F32::load(factor + lane), sums[k][v]).store(to);
      }
  }
}

/// Calls f with a constant for `vectors`.
template <class F>
inline void with_vectors(size_t vectors, const F& f) {
  if (vectors == 3)
    f.template run<3>();
  else if (vectors == 2)
    f.template run<2>();
  else
    f.template run<1>();
}

struct Score {
  const std::uint32_t* queries;
  const std::uint16_t* keys;
  size_t begin, end, depth, first;
  float* tile;
  template <size_t vectors>
  void run() const {
    score_vectors<vectors>(queries, keys, begin, end, depth, first, tile);
  }
};

struct Weigh {
  const PackedStep& step;
  const std::uint32_t* weights;
  const float* factor;
  size_t depth;
  float* out;
  template <size_t vectors>
  void run() const {
    weigh_vectors<vectors>(step, weights, factor, depth, out);
  }
};

void score(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factors, float* tile) {
  with_vectors(vectors, Score{queries, keys, begin, end, depth, first, tile});
  if (factors == nullptr) return;
  for (size_t j = begin; j < end; ++j)
    for (size_t v = first; v < first + vectors; ++v) {
      float* z = tile + j * lanes + v * width;
      (F32::load(z) * F32::load(factors + v * width)).store(z);
    }
}

/// The steps of a panel, of which those of several vectors over the same keys are taken together.
class StepsByTile {
 public:
  StepsByTile(const PackedStep* steps, size_t count) {
    for (size_t s = 0; s < count; ++s) {
      Run& run = runs_[steps[s].vector];
      if (run.next == run.end) run.next = run.end = steps + s;
      ++run.end;
    }
  }

  /// Finds the next steps, of neighbouring vectors: how many, or 0 after the last.
  size_t take(const PackedStep* (&taken)[panel_vectors]) {
    size_t first = panel_vectors, count = 0;
    // Tiles are packed one after the other.
    for (size_t v = 0; v < panel_vectors; ++v)
      if (!runs_[v].is_done() &&
          (first == panel_vectors || runs_[v].next->values < runs_[first].next->values))
        first = v;
    for (size_t v = first; v < panel_vectors && !runs_[v].is_done(); ++v) {
      const PackedStep &a = *runs_[first].next, &b = *runs_[v].next;
      if (a.values != b.values || a.begin != b.begin || a.end != b.end) break;
      taken[count++] = runs_[v].next;
    }
    for (size_t k = 0; k < count; ++k) ++runs_[first + k].next;
    return count;
  }

 private:
  struct Run {
    const PackedStep *next = nullptr, *end = nullptr;
    bool is_done() const { return next == end; }
  };
  Run runs_[panel_vectors];
};

template <bool with_mean>
void attend_over(const PackedPanel& panel, const PackedStep* steps, size_t count,
                 const PackedSpace& space) {
  alignas(64) float factor[lanes];
  StepsByTile by_tile(steps, count);
  const PackedStep* taken[panel_vectors];
  while (const size_t vectors = by_tile.take(taken)) {
    const PackedStep& step = *taken[0];
    if (step.keys != nullptr)
      with_vectors(vectors, Score{panel.queries, step.keys, step.begin, step.end, panel.depth,
                                  step.vector, space.tile});
    for (size_t v = step.vector; v < step.vector + vectors; ++v)
      Softening<1, with_mean>(panel, *taken[v - step.vector], space.tile + v * width, lanes,
                              space.weights + v * weights_of_vector, factor + v * width)
          .finish();
    with_vectors(vectors, Weigh{step, space.weights, factor, panel.value_depth, panel.out});
  }
}

void attend(const PackedPanel& panel, const PackedStep* steps, size_t count,
            const PackedSpace& space) {
  if (panel.softmax.mean != nullptr)
    attend_over<true>(panel, steps, count, space);
  else
    attend_over<false>(panel, steps, count, space);
}

constexpr size_t most_few = 12;

// There is no unit to be prepared, and sums are kept in the panel.
void nothing() {}
void add_sums(const PackedPanel&, PackedSums&) {}

}  // namespace

const PackedLoops packed_loops = {1,
                                  most_few,
                                  nothing,
                                  nothing,
                                  pack_queries<Bfloat16>,
                                  pack_keys<Bfloat16>,
                                  pack_values<Bfloat16>,
                                  score,
                                  attend,
                                  add_sums,
                                  narrow};

}  // namespace logitkit::avx512_bf16
