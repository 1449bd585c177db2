// The softmax part of attention for tile registers. Include only from amx.cpp files.
#pragma once

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

/// exp2() where denormal results are flushed: these processors are not slow then.
F32 exp2_flushed(F32 x) {
  using C = Exp2Constants<float>;
  const F32 r = fraction(x);
  F32 p = F32::all(C::c[5]);
#pragma GCC unroll 5
  for (size_t k = 5; k > 0; --k) p = fma(p, r, F32::all(C::c[k - 1]));
  return {_mm512_scalef_ps(fma(p, r, F32::all(1)).v, x.v)};
}

/// The running maximum stays until it is so much exceeded, for sums are seldom to be rescaled then:
/// but for floats an exponent above 2 would cost digits of the weight.
template <size_t parts>
constexpr float slack = parts == 1 ? 8.0f : 2.0f;

/// PackedLoops::soften() for `vectors` vectors of lanes and a pair of rows at a time, so that it
/// can be the work of Product::add().
template <size_t parts, size_t vectors, bool with_mean>
class Softening {
 public:
  /// What all rows depend on. `factor` and `max` are final.
  Softening(const float* tile, size_t begin, size_t end, const float* factors,
            const RunningSoftmax& softmax, std::uint32_t* weights)
      : tile_(tile), next_(begin), end_(end), softmax_(softmax), weights_(weights) {
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
      exp2(change_[v]).store(softmax.factor + lane);
      sum_[v][0] = sum_[v][1] = mean_[v][0] = mean_[v][1] = zero;
    }
  }

  /// Weights of 0 before `begin` and after `end` in blocks of 32.
  void fill_around(size_t begin, size_t end) const {
    const F32 zero = F32::all(0);
    for (size_t j = begin / depth_step * depth_step; j < begin; j += 2) store(zero, zero, j, 0);
    for (size_t j = round_up(end, 2); j < round_up(end, depth_step); j += 2)
      store(zero, zero, j, 0);
  }

  /// The next rows, if there are so many.
  void step() {
    if (next_ + 2 * step_pairs <= end_) soften_pairs<step_pairs>();
  }
  template <size_t product>
  void after() {
    // Half a tile of 64 dimensions has 72, 48 or 12 products, and 16, 16 or 8 steps.
    if constexpr (product % (parts == 1 ? 1 : parts + 1) == 0) step();
  }

  /// The remaining rows, and the sums.
  void finish() {
    while (next_ + 2 * step_pairs <= end_) soften_pairs<step_pairs>();
    while (next_ + 2 <= end_) soften_pairs<1>();
    for (size_t v = 0; v < vectors; ++v) {
      if (next_ < end_) store(weight(next_, v, sum_[v][0], mean_[v][0]), F32::all(0), next_, v);
      const size_t lane = v * width;
      const F32 old_sum = F32::load(softmax_.sum + lane);
      const F32 rescale = F32::load(softmax_.factor + lane);
      if constexpr (with_mean) {
        const F32 moved =
            fma(max(F32::all(no_power), change_[v]), old_sum, F32::load(softmax_.mean + lane));
        fma(moved, rescale, mean_[v][0] + mean_[v][1]).store(softmax_.mean + lane);
      }
      fma(old_sum, rescale, sum_[v][0] + sum_[v][1]).store(softmax_.sum + lane);
    }
  }

 private:
  static constexpr float no_power = -256.0f;
  static constexpr size_t step_pairs = parts == 1 ? 2 : 1;

  void find_largest(F32 (&tops)[vectors]) const {
    F32 odd[vectors];
    for (size_t v = 0; v < vectors; ++v) tops[v] = odd[v] = F32::all(-0x1.fffffep+127f);
    size_t j = next_;
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

  F32 row(size_t j, size_t v) const { return F32::load(tile_ + j * lanes + v * width); }

  F32 weight(size_t j, size_t v, F32& sum, F32& mean) const {
    const F32 z = fma(row(j, v), by_[v], minus_[v]), p = exp2_flushed(z);
    sum = sum + p;
    // See soften() of make_loops.h.
    if constexpr (with_mean) mean = fma(p, max(F32::all(no_power), z), mean);
    return p;
  }

  template <size_t pairs>
  void soften_pairs() {
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      F32 sum[2] = {sum_[v][0], sum_[v][1]}, mean[2] = {mean_[v][0], mean_[v][1]};
#pragma GCC unroll 2
      for (size_t j = next_; j < next_ + 2 * pairs; j += 2) {
        const F32 even = weight(j, v, sum[0], mean[0]), odd = weight(j + 1, v, sum[1], mean[1]);
        store(even, odd, j, v);
      }
      for (size_t k = 0; k < 2; ++k) sum_[v][k] = sum[k];
      for (size_t k = 0; with_mean && k < 2; ++k) mean_[v][k] = mean[k];
    }
    next_ += 2 * pairs;
  }

  void store(F32 even, F32 odd, size_t j, size_t v) const {
    store_pairs<parts>(even, odd, weights_ + j / 2 * lanes + v * width);
  }

  const float* tile_;
  size_t next_, end_;
  RunningSoftmax softmax_;
  std::uint32_t* weights_;
  F32 by_[vectors], minus_[vectors], change_[vectors], sum_[vectors][2], mean_[vectors][2];
};

}  // namespace
}  // namespace logitkit::amx
