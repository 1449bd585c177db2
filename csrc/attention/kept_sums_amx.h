// Attention by bfloat16 with the sums of values in tile registers. Include only from amx.cpp files.
#pragma once

#include "attention/operands_avx512.h"
#include "attention/panel_steps_amx.h"
#include "attention/softening_avx512.h"
#include "simd/amx_product.h"

namespace logitkit::amx {
namespace {

/// A panel of one part on its way over steps, with values of up to 64 dimensions: their sums stay
/// in tile registers while steps of one vector follow each other. Loads and stores of registers, of
/// which no two run side by side, would take longer than products of one part otherwise.
///
/// The numbers of tile registers are part of instructions: 0 to 3 hold sums of values, 4 and 5
/// scores of two blocks of keys, 6 pairs of queries or weights, and 7 rows of keys or values.
template <bool with_mean>
class AttendingWithKeptSums : PanelSteps<1> {
  using Packed = Column<1>;

 public:
  static constexpr size_t most_depth = blocks_of_rows * side;  // of values
  /// Of fewer steps, such as those of 256 keys, the other way is faster; it has the same bits.
  static constexpr size_t least_steps = 13;

  using PanelSteps::PanelSteps;

  void run() {
    NoWork none;
    score(0, none);
    for (size_t s = 0; s < count_; ++s) {
      const bool is_last = s + 1 == count_;
      Softening<1, with_mean, true> work(panel_, steps_[s], tile(s), stride(s), weights(s),
                                         factors_[s % 2]);
      work.spread_over((is_last ? 0 : products_of_score(s + 1)) +
                       (s > 0 ? products_of_weigh(s - 1) : 0));
      if (!is_last) score(s + 1, work);
      if (s > 0) weigh(s - 1, work);
      work.finish();
      if (is_last) weigh(s, none);
    }
  }

 private:
  template <class Work>
  void score(size_t s, Work& work) const {
    const PackedStep& step = steps_[s];
    if (is_made(s)) return;
    const size_t depths = round_up(panel_.depth, depth_step) / depth_step;
    const std::uint32_t* queries = panel_.queries + step.vector * depths * Packed::pairs_of_step;
    constexpr long bytes = width * sizeof(float);
    static_assert(packed_step == 2 * side, "two blocks at a time");
    for (size_t j = step.begin; j < step.end; j += packed_step) {
      _tile_zero(4);
      _tile_zero(5);
      const std::uint16_t* rows = step.keys + j / side * block;
      for (size_t d = 0; d < depths; ++d, rows += Packed::rows_of_step) {
        _tile_loadd(6, queries + d * Packed::pairs_of_step, 64);
        _tile_loadd(7, rows, 64);
        _tile_dpbf16ps(4, 7, 6);
        work.after();
        _tile_loadd(7, rows + block, 64);
        _tile_dpbf16ps(5, 7, 6);
        work.after();
      }
      _tile_stored(4, tile(s) + j * width, bytes);
      _tile_stored(5, tile(s) + (j + side) * width, bytes);
    }
    finish_stores();
  }

  template <class Work>
  void weigh(size_t s, Work& work) {
    const PackedStep& step = steps_[s];
    take_sums(s);
    for (size_t k = step.begin / depth_step; k < step.end / depth_step; ++k) {
      const std::uint16_t* rows = step.values + k * Packed::rows_of_step;
      _tile_loadd(6, weights(s) + k * Packed::pairs_of_step, 64);
      of_sums([&](auto n) {
        _tile_loadd(7, rows + n.value * block, 64);
        if constexpr (n.value == 0) _tile_dpbf16ps(0, 7, 6);
        if constexpr (n.value == 1) _tile_dpbf16ps(1, 7, 6);
        if constexpr (n.value == 2) _tile_dpbf16ps(2, 7, 6);
        if constexpr (n.value == 3) _tile_dpbf16ps(3, 7, 6);
        work.after();
      });
    }
    if (s + 1 == count_ || steps_[s + 1].vector != step.vector) store_sums(step.vector);
  }

  // Registers hold the sums of the step's vector then, multiplied by its factor.
  void take_sums(size_t s) {
    const size_t vector = steps_[s].vector;
    const F32 factor = F32::load(factors_[s % 2]);
    const bool is_kept = s > 0 && steps_[s - 1].vector == vector;
    bool& begun = space_.sums->begun[vector];
    if (!begun) {
      begun = true;
      factor.store(space_.sums->totals + vector * width);
      of_sums([&](auto n) {
        if constexpr (n.value == 0) _tile_zero(0);
        if constexpr (n.value == 1) _tile_zero(1);
        if constexpr (n.value == 2) _tile_zero(2);
        if constexpr (n.value == 3) _tile_zero(3);
      });
    } else if (!all_one(factor)) {
      if (is_kept) store_sums(vector);
      rescale(factor, vector);
      finish_stores();
      load_sums(vector);
    } else if (!is_kept) {
      load_sums(vector);
    }
  }

  void load_sums(size_t vector) const { Packed{all_sums()}.load(sums(vector), width); }
  void store_sums(size_t vector) const {
    Packed{all_sums()}.store(sums(vector), width);
    finish_stores();
  }
  unsigned all_sums() const { return blocks_between(0, panel_.value_depth); }
  template <class F>
  void of_sums(const F& f) const {
    Packed{all_sums()}.template each<0>(f);
  }
};

}  // namespace
}  // namespace logitkit::amx
