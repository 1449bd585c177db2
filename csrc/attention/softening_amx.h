// The softmax part of attention for tile registers. Include only from amx.cpp files.
#pragma once

#include "attention/exp2_flushed_amx.h"
#include "attention/operands_amx.h"
#include "simd/exp2.h"

namespace logitkit::amx {
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

/// Two rows of a vector of lanes as pairs of parts.
template <size_t parts>
void store_pairs(F32 even, F32 odd, std::uint32_t* to) {
  __m512i low[parts], high[parts];
  split_weights(even, low);
  split_weights(odd, high);
  for (size_t p = 0; p < parts; ++p)
    _mm512_store_si512(to + p * weight_part, pair(low[p], high[p]));
}

/// The running maximum stays until it is so much exceeded, for sums are seldom to be rescaled then:
/// but for floats an exponent above 2 would cost digits of the weight.
template <size_t parts>
constexpr float slack = parts == 1 ? 8.0f : 2.0f;

/// PackedLoops::soften() for `vectors` vectors of lanes, a few rows of one at a time, so that it
/// can be the work of Product::add(). While tile registers multiply there is one port for
/// multiply-adds and the like, which a vector of weights takes ten times: those of half a tile fit
/// beside the products of the other half, evenly spread.
template <size_t parts, size_t vectors, bool with_mean>
class Softening {
 public:
  /// What all rows depend on. `factor` and `max` are final.
  Softening(float* tile, size_t begin, size_t end, const float* factors,
            const RunningSoftmax& softmax, std::uint32_t* weights)
      : tile_(tile), begin_(begin), end_(end), next_(begin), softmax_(softmax), weights_(weights) {
    const F32 zero = F32::all(0);
    F32 tops[vectors];
    find_largest(tops);
    for (size_t v = 0; v < vectors; ++v) {
      const size_t lane = v * width;
      by_[v] = factors != nullptr ? F32::load(factors + lane) : F32::all(1);
      const F32 before = F32::load(softmax.max + lane);
      const F32 top = max(F32::load(softmax.top + lane), tops[v] * by_[v]);
      const F32 now = select(greater(top, before + F32::all(slack<parts>)), top, before);
      top.store(softmax.top + lane);
      now.store(softmax.max + lane);
      minus_[v] = zero - now;
      change_[v] = before - now;
      const __mmask16 huge =
          _mm512_cmp_ps_mask(_mm512_abs_ps(now.v), _mm512_set1_ps(0x1p24f), _CMP_GE_OQ);
      if (factors != nullptr && huge != 0) multiply_lanes(v, huge);
      exp2(change_[v]).store(softmax.factor + lane);
    }
  }

  /// Weights of 0 before `begin` and after `end` in blocks of 32, of the first vector.
  void fill_around() const {
    const F32 zero = F32::all(0);
    for (size_t j = begin_ / depth_step * depth_step; j < begin_; j += 2) store(zero, zero, j);
    for (size_t j = round_up(end_, 2); j < round_up(end_, depth_step); j += 2) store(zero, zero, j);
  }

  /// Some of what remains.
  [[gnu::noinline]] void step() {
    if (now_ == vectors) return;
    if (next_ + 2 * step_pairs <= end_) soften_pairs<step_pairs>();
    if (next_ + 2 * step_pairs <= end_) return;
    while (next_ + 2 <= end_) soften_pairs<1>();
    finish_vector();
  }
  template <size_t product>
  [[gnu::always_inline]] void after() {
    // For each vector half a tile of 64 dimensions has 24, 16 or 4 products, and 8, 8 or 4 steps.
    if constexpr (product % parts == 0) step();
  }
  void finish() {
    while (now_ < vectors) step();
  }

 private:
  static constexpr float no_power = -256.0f;
  static constexpr size_t step_pairs = parts == 1 ? 4 : 2;

  void find_largest(F32 (&tops)[vectors]) const {
    F32 odd[vectors];
    for (size_t v = 0; v < vectors; ++v) tops[v] = odd[v] = F32::all(-0x1.fffffep+127f);
    size_t j = begin_;
    for (; j + 2 <= end_; j += 2)
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) {
        tops[v] = max(tops[v], row(j, v));
        odd[v] = max(odd[v], row(j + 1, v));
      }
    for (size_t v = 0; v < vectors; ++v) {
      if (j < end_) odd[v] = max(odd[v], row(j, v));
      tops[v] = max(tops[v], odd[v]);
    }
  }

  // The shift is a rounded product. Where its last digit is not small, others are to be rounded as
  // well, for one that is not could be larger by up to half of that digit.
  void multiply_lanes(size_t v, __mmask16 which) {
    for (size_t j = begin_; j < end_; ++j) {
      float* z = tile_ + j * lanes + v * width;
      _mm512_mask_storeu_ps(z, which, (F32::load(z) * by_[v]).v);
    }
    by_[v].v = _mm512_mask_mov_ps(by_[v].v, which, _mm512_set1_ps(1.0f));
  }

  F32 row(size_t j, size_t v) const { return F32::load(tile_ + j * lanes + v * width); }

  // The weights of `rows` rows, and their sums.
  template <size_t rows>
  [[gnu::always_inline]] void soften_rows(F32 (&p)[rows]) {
    F32 z[rows];
#pragma GCC unroll 8
    for (size_t k = 0; k < rows; ++k)
      p[k] = z[k] = fma(row(next_ + k, now_), by_[now_], minus_[now_]);
    exp2_flushed(p);
#pragma GCC unroll 8
    for (size_t k = 0; k < rows; ++k) {
      sum_[k % 2] = sum_[k % 2] + p[k];
      // See soften() of make_loops.h.
      if constexpr (with_mean)
        mean_[k % 2] = fma(p[k], max(F32::all(no_power), z[k]), mean_[k % 2]);
    }
  }

  template <size_t pairs>
  [[gnu::always_inline]] void soften_pairs() {
    F32 p[2 * pairs];
    soften_rows(p);
#pragma GCC unroll 4
    for (size_t k = 0; k < pairs; ++k) store(p[2 * k], p[2 * k + 1], next_ + 2 * k);
    next_ += 2 * pairs;
  }

  // The last row of a vector, if their number is odd, and its sums.
  void finish_vector() {
    if (next_ < end_) {
      F32 last[1];
      soften_rows(last);
      store(last[0], F32::all(0), next_);
    }
    const size_t lane = now_ * width;
    const F32 old_sum = F32::load(softmax_.sum + lane);
    const F32 rescale = F32::load(softmax_.factor + lane);
    if constexpr (with_mean) {
      const F32 moved =
          fma(max(F32::all(no_power), change_[now_]), old_sum, F32::load(softmax_.mean + lane));
      fma(moved, rescale, mean_[0] + mean_[1]).store(softmax_.mean + lane);
    }
    fma(old_sum, rescale, sum_[0] + sum_[1]).store(softmax_.sum + lane);
    sum_[0] = sum_[1] = mean_[0] = mean_[1] = F32::all(0);
    next_ = begin_;
    ++now_;
  }

  void store(F32 even, F32 odd, size_t j) const {
    store_pairs<parts>(even, odd, weights_ + j / 2 * lanes + now_ * width);
  }

  float* tile_;
  size_t begin_, end_, now_ = 0, next_;
  RunningSoftmax softmax_;
  std::uint32_t* weights_;
  F32 by_[vectors], minus_[vectors], change_[vectors], sum_[2] = {}, mean_[2] = {};
};

}  // namespace
}  // namespace logitkit::amx
