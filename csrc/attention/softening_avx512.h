// The softmax part of PackedLoops. Include only from files with products of bfloat16.
#pragma once

#include <type_traits>

#include "attention/exp2_flushed_avx512.h"
#include "attention/operands_avx512.h"
#include "simd/bfloat16_avx512.h"
#include "simd/exp2.h"
#include "simd/pace.h"

namespace logitkit::avx512 {
namespace {

/// The upper half of each lane to nearest, ties away from 0; what is below is still there. No sum
/// overflows: the numbers are weights, or NaN of few digits.
__m512i round_to_upper(F32 x) {
  return _mm512_add_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x8000));
}

/// A vector of weights as parts, in the upper halves of its lanes.
template <size_t parts>
void split_weights(F32 x, __m512i (&to)[parts]) {
  if constexpr (parts == 1) {
    to[0] = round_to_upper(x);
  } else {
    const Parts all = split(x);
    to[0] = all.high;
    to[1] = all.middle;
    if constexpr (parts == 2)
      to[1] = round_to_upper({_mm512_sub_ps(x.v, _mm512_castsi512_ps(all.high))});
    else
      to[2] = all.low;
  }
}

inline bool all_one(F32 x) {
  return _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(1.0f), _CMP_NEQ_UQ) == 0;
}

/// Two rows of a vector of lanes as pairs of parts.
template <size_t parts>
void store_pairs(F32 even, F32 odd, std::uint32_t* to) {
  __m512i low[parts], high[parts];
  split_weights(even, low);
  split_weights(odd, high);
  for (size_t p = 0; p < parts; ++p) _mm512_store_si512(to + p * pair_block, pair(low[p], high[p]));
}

/// The running maximum stays until it is so much exceeded, for sums are seldom to be rescaled then:
/// but for floats an exponent above 2 would cost digits of the weight.
template <size_t parts>
constexpr float slack = parts == 1 ? 8.0f : 2.0f;

/// The softmax of one step: its scores become weights, at once by finish(), or a few rows at a
/// time, as the work of amx::Column::add(). While tile registers multiply there is one port for
/// multiply-adds and the like, of which a vector of weights takes about as many as its products
/// take cycles. And processors with these registers stall for a quarter of a microsecond, as
/// measured on Sapphire Rapids, when more than a hundred products follow on a pause: both are to be
/// spread evenly over each other. `inlined` copies of it among products are for few of these, where
/// a call costs 7 % of all.
template <size_t parts, bool with_mean, bool inlined = false>
class Softening {
 public:
  /// Scores have the row stride `stride`; weights lie as StepLayout has pairs, in which the keys
  /// k and k + 16 of 32 are one; `factor` gets what older sums are to be multiplied by.
  Softening(const PackedPanel& panel, const PackedStep& step, float* tile, size_t stride,
            std::uint32_t* weights, float* factor)
      : step_(step),
        lane_(step.vector * width),
        softmax_(panel.softmax),
        tile_(tile),
        stride_(stride),
        weights_(weights),
        factor_(factor),
        next_(step.begin),
        by_(panel.factors != nullptr ? F32::load(panel.factors + lane_) : F32::all(1)),
        has_factors_(panel.factors != nullptr) {}

  /// Says beside how many products it is done.
  void spread_over(size_t products) {
    pace_.spread(1 + (step_.end - step_.begin) / rows_at_once, products);
  }
  [[gnu::always_inline]] void after() {
    pace_.after([this] { inlined ? do_part() : do_some(); });
  }
  void finish() {
    while (!done_) do_some();
  }

 private:
  static constexpr float no_power = -256.0f, lowest = -0x1.fffffep+127f;
  static constexpr size_t rows_at_once = parts == 1 ? 8 : 4;

  [[gnu::noinline]] void do_some() { do_part(); }
  [[gnu::always_inline]] void do_part() {
    if (done_) return;
    if (!found_) return find_largest();
    soften_rows();
    if (next_ == step_.end) finish_sums();
  }

  // `factor` and `max` are final then.
  [[gnu::noinline]] void find_largest() {
    found_ = true;
    if (step_.begins != nullptr) hide();
    F32 tops[4];
    for (F32& top : tops) top = F32::all(lowest);
    for (size_t j = step_.begin; j < step_.end; j += 4)
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) tops[k] = max(tops[k], F32::load(row(j + k)));
    const F32 largest = max(max(tops[0], tops[1]), max(tops[2], tops[3]));
    const F32 before = F32::load(softmax_.max + lane_);
    const F32 top = max(F32::load(softmax_.top + lane_), largest * by_);
    const F32 now = select(greater(top, before + F32::all(slack<parts>)), top, before);
    top.store(softmax_.top + lane_);
    now.store(softmax_.max + lane_);
    minus_ = F32::all(0) - now;
    change_ = before - now;
    const __mmask16 huge =
        _mm512_cmp_ps_mask(_mm512_abs_ps(now.v), _mm512_set1_ps(0x1p24f), _CMP_GE_OQ);
    if (has_factors_ && huge != 0) multiply_lanes(huge);
    exp2(change_).store(factor_);
  }

  // What a lane does not see.
  void hide() {
    const F32 begin = F32::load(step_.begins + lane_), end = F32::load(step_.ends + lane_);
    for (size_t j = step_.begin; j < step_.end; ++j) {
      const F32 key = F32::all(static_cast<float>(j));
      const __mmask16 hidden = _mm512_cmp_ps_mask(key.v, begin.v, _CMP_LT_OQ) |
                               _mm512_cmp_ps_mask(key.v, end.v, _CMP_GE_OQ);
      _mm512_mask_storeu_ps(row(j), hidden, _mm512_set1_ps(-__builtin_inff()));
    }
  }

  // The shift is a rounded product. Where its last digit is not small, others are to be rounded as
  // well, for one that is not could be larger by up to half of that digit.
  void multiply_lanes(__mmask16 which) {
    for (size_t j = step_.begin; j < step_.end; ++j)
      _mm512_mask_storeu_ps(row(j), which, (F32::load(row(j)) * by_).v);
    by_.v = _mm512_mask_mov_ps(by_.v, which, _mm512_set1_ps(1.0f));
  }

  float* row(size_t j) const { return tile_ + j * stride_; }

  // The weights of a few rows, half of them 16 rows after the others, and their sums.
  [[gnu::always_inline]] void soften_rows() {
    constexpr size_t pairs = rows_at_once / 2;
    F32 z[rows_at_once], p[rows_at_once];
#pragma GCC unroll 8
    for (size_t k = 0; k < rows_at_once; ++k)
      p[k] = z[k] = fma(F32::load(row(next_ + k % pairs + k / pairs * side)), by_, minus_);
    // Weights of half types have 8 or 16 digits.
    exp2_flushed<std::conditional_t<parts == 3, Exp2Constants<float>, ShortExp2Constants>>(p);
#pragma GCC unroll 8
    for (size_t k = 0; k < rows_at_once; ++k) {
      sum_[k % 2] = sum_[k % 2] + p[k];
      // See soften() of weights.h.
      if constexpr (with_mean)
        mean_[k % 2] = fma(p[k], max(F32::all(no_power), z[k]), mean_[k % 2]);
    }
    std::uint32_t* to = weights_ + next_ / depth_step * StepLayout<parts>::pairs_of_step;
#pragma GCC unroll 4
    for (size_t k = 0; k < pairs; ++k)
      store_pairs<parts>(p[k], p[pairs + k], to + (next_ + k) % side * width);
    next_ += pairs;
    if (next_ % side == 0) next_ += side;
  }

  [[gnu::noinline]] void finish_sums() {
    const F32 old_sum = F32::load(softmax_.sum + lane_), rescale = F32::load(factor_);
    if constexpr (with_mean) {
      const F32 moved =
          fma(max(F32::all(no_power), change_), old_sum, F32::load(softmax_.mean + lane_));
      fma(moved, rescale, mean_[0] + mean_[1]).store(softmax_.mean + lane_);
    }
    fma(old_sum, rescale, sum_[0] + sum_[1]).store(softmax_.sum + lane_);
    done_ = true;
  }

  const PackedStep step_;
  const size_t lane_;
  const RunningSoftmax softmax_;
  float* const tile_;
  const size_t stride_;
  std::uint32_t* const weights_;
  float* const factor_;
  Pace pace_;
  size_t next_;  // row
  F32 by_, minus_, change_, sum_[2] = {}, mean_[2] = {};
  const bool has_factors_;
  bool found_ = false, done_ = false;
};

}  // namespace
}  // namespace logitkit::avx512
