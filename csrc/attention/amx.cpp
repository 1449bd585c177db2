// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/kept_sums_amx.h"
#include "attention/operands_avx512.h"
#include "attention/panel_steps_amx.h"
#include "attention/softening_avx512.h"

namespace logitkit::amx {
namespace {

/// The scores of one vector of lanes, with a row stride; `blocks` are of keys.
template <size_t parts, class Work>
void multiply_keys(const std::uint32_t* queries, const std::uint16_t* keys, unsigned blocks,
                   size_t depth, float* tile, size_t stride, Work& work) {
  using Keys = ScoreColumn<parts>;
  const Keys column{blocks};
  column.clear();
  for (size_t d = 0; d < depth; d += depth_step)
    column.add(keys + d / depth_step * Keys::rows_of_step,
               queries + d / depth_step * Keys::pairs_of_step, work);
  column.store(tile, stride);
  finish_stores();
}

/// Pairs of one vector of queries.
template <size_t parts>
size_t query_pairs(size_t depth) {
  return round_up(depth, depth_step) / depth_step * Column<parts>::pairs_of_step;
}

template <size_t parts>
void score(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factors, float* tile) {
  NoWork none;
  for (size_t v = first; v < first + vectors; ++v) {
    multiply_keys<parts>(queries + v * query_pairs<parts>(depth), keys, blocks_between(begin, end),
                         depth, tile + v * width, lanes, none);
    if (factors == nullptr) continue;
    const F32 factor = F32::load(factors + v * width);
    for (size_t j = begin; j < end; ++j) {
      float* z = tile + j * lanes + v * width;
      (F32::load(z) * factor).store(z);
    }
  }
}

/// A panel on its way over steps: the scores of the next step and the values of the last one are
/// multiplied while the weights of one are made.
template <size_t parts, bool with_mean>
class Attending : PanelSteps<parts> {
  using Steps = PanelSteps<parts>;
  using Values = Column<parts>;
  static constexpr size_t dims = blocks_of_rows * side;

 public:
  using Steps::Steps;

  void run() {
    NoWork none;
    score(0, none);
    for (size_t s = 0; s < count_; ++s) {
      const bool is_last = s + 1 == count_;
      Softening<parts, with_mean> work(panel_, steps_[s], tile(s), stride(s), weights(s),
                                       factors_[s % 2]);
      work.spread_over((is_last ? 0 : products_of_score(s + 1)) +
                       (parts > 1 && s > 0 ? products_of_weigh(s - 1) : 0));
      if (!is_last) score(s + 1, work);
      if (parts > 1) {
        if (s > 0) weigh(s - 1, 1, work);
        work.finish();
        if (is_last) weigh(s, 1, none);
      } else {
        // There is less time in the few products of one part than weights take, and than sums of
        // values take to be loaded and stored: two steps share these.
        work.finish();
        if (s % 2 == 1)
          weigh_two(s - 1);
        else if (is_last)
          weigh(s, 1, none);
      }
    }
  }

 private:
  using Steps::is_made, Steps::stride, Steps::tile, Steps::weights, Steps::sums;
  using Steps::products_of_score, Steps::products_of_weigh, Steps::rescale;
  using Steps::steps_, Steps::count_, Steps::panel_, Steps::space_, Steps::factors_;

  template <class Work>
  void score(size_t s, Work& work) const {
    const PackedStep& step = steps_[s];
    if (is_made(s)) return;
    multiply_keys<parts>(panel_.queries + step.vector * query_pairs<parts>(panel_.depth), step.keys,
                         blocks_between(step.begin, step.end), panel_.depth, tile(s), width, work);
  }

  void weigh_two(size_t s) {
    NoWork none;
    if (steps_[s].vector == steps_[s + 1].vector && all_one(F32::load(factors_[(s + 1) % 2])))
      return weigh(s, 2, none);
    weigh(s, 1, none);
    weigh(s + 1, 1, none);
  }

  // The values of some steps of one vector; only the first one may change the maximum.
  template <class Work>
  void weigh(size_t s, size_t count, Work& work) {
    const PackedStep& step = steps_[s];
    const size_t depth = panel_.value_depth;
    const F32 factor = F32::load(factors_[s % 2]);
    float* sums = this->sums(step.vector);
    bool& begun = space_.sums->begun[step.vector];
    const bool is_first = !begun;
    begun = true;
    if (is_first)
      factor.store(space_.sums->totals + step.vector * width);
    else if (!all_one(factor))
      rescale(factor, step.vector);
    finish_stores();
    for (size_t d = 0; d < depth; d += dims) {
      const Values column{blocks_between(0, depth - d < dims ? depth - d : dims)};
      if (is_first)
        column.clear();
      else
        column.load(sums + d * width, width);
      for (size_t t = s; t < s + count; ++t) {
        const std::uint16_t* values =
            steps_[t].values + d / dims * (tile_keys / depth_step) * Values::rows_of_step;
        for (size_t k = steps_[t].begin / depth_step; k < steps_[t].end / depth_step; ++k)
          column.add(values + k * Values::rows_of_step, weights(t) + k * Values::pairs_of_step,
                     work);
      }
      column.store(sums + d * width, width);
    }
    finish_stores();
  }
};

void add_sums(const PackedPanel& panel, PackedSums& sums) {
  for (size_t v = 0; v < panel_vectors; ++v) {
    if (!sums.begun[v]) continue;
    sums.begun[v] = false;
    const F32 total = F32::load(sums.totals + v * width);
    const float* values = sums_of(sums, v, panel.value_depth);
    float* out = panel.out + v * width;
    for (size_t d = 0; d < panel.value_depth; ++d)
      fma(F32::load(out + d * lanes), total, F32::load(values + d * width)).store(out + d * lanes);
  }
}

template <size_t parts, bool with_mean>
void attend_over(const PackedPanel& panel, const PackedStep* steps, size_t count,
                 const PackedSpace& space) {
  if constexpr (parts == 1)
    if (panel.value_depth <= AttendingWithKeptSums<with_mean>::most_depth &&
        count >= AttendingWithKeptSums<with_mean>::least_steps)
      return AttendingWithKeptSums<with_mean>(panel, steps, count, space).run();
  Attending<parts, with_mean>(panel, steps, count, space).run();
}

template <size_t parts>
void attend(const PackedPanel& panel, const PackedStep* steps, size_t count,
            const PackedSpace& space) {
  if (panel.softmax.mean != nullptr)
    attend_over<parts, true>(panel, steps, count, space);
  else
    attend_over<parts, false>(panel, steps, count, space);
}

constexpr size_t most_few = 4;

template <class Operand>
constexpr PackedLoops make_loops(void (*narrow)(const float*, size_t, std::uint16_t*)) {
  constexpr size_t parts = Operand::parts;
  return {parts,
          most_few,
          begin,
          end,
          pack_queries<Operand>,
          pack_keys<Operand>,
          pack_values<Operand>,
          score<parts>,
          attend<parts>,
          add_sums,
          narrow};
}

}  // namespace

const AllPackedLoops packed_loops = {make_loops<Bfloat16>(narrow), make_loops<Float16>(nullptr),
                                     make_loops<Float32>(nullptr)};

}  // namespace logitkit::amx
