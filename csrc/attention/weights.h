// Weights of a tile of logits, and their gradients. Include only from files with an instruction
// set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/lanes.h"
#include "simd/exp2.h"

namespace logitkit {
namespace {

/// How weights are made: 2^x for x <= 0, to 1.5 ulp, exactly 1 at 0, and below the smallest normal
/// number anything that flushing denormal numbers makes 0.
struct PolynomialPowers {
  template <class V>
  static V of(V x) {
    return exp2(x);
  }
};

template <class V, class Powers, bool with_mean>
inline void soften_lanes(typename V::Element* tile, size_t count, typename V::Element* max_,
                         typename V::Element* sum_, typename V::Element* mean_,
                         typename V::Element* factor) {
  using L = Limits<typename V::Element>;
  constexpr size_t stride = lanes_of<V>, step = 4;
  const V before = V::load(max_);
  V top[step] = {before, before, before, before};
  size_t j = 0;
  for (; j + step <= count; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) top[k] = max(top[k], V::load(tile + (j + k) * stride));
  for (; j < count; ++j) top[0] = max(top[0], V::load(tile + j * stride));
  const V now = max(max(top[0], top[1]), max(top[2], top[3]));
  const V change = before - now;
  const V rescale = Powers::of(change);
  V sum[step], mean[step];
#pragma GCC unroll 4
  for (size_t k = 0; k < step; ++k) sum[k] = mean[k] = V::all(0);
  const auto one = [&](size_t row, size_t k) {
    const V z = V::load(tile + row * stride) - now;
    const V p = Powers::of(z);
    p.store(tile + row * stride);
    sum[k] = sum[k] + p;
    // The bound keeps 0 * -inf away; it is an operand so that a NaN stays.
    if constexpr (with_mean) mean[k] = multiply_add(p, max(V::all(L::no_power), z), mean[k]);
  };
  for (j = 0; j + step <= count; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) one(j + k, k);
  for (; j < count; ++j) one(j, 0);
  const V old_sum = V::load(sum_);
  if constexpr (with_mean) {
    const V moved = multiply_add(max(V::all(L::no_power), change), old_sum, V::load(mean_));
    const V tile_mean = (mean[0] + mean[1]) + (mean[2] + mean[3]);
    multiply_add(moved, rescale, tile_mean).store(mean_);
  }
  multiply_add(old_sum, rescale, (sum[0] + sum[1]) + (sum[2] + sum[3])).store(sum_);
  now.store(max_);
  rescale.store(factor);
}

template <class V, class Powers>
void soften(typename V::Element* tile, size_t count, typename V::Element* max,
            typename V::Element* sum, typename V::Element* mean, typename V::Element* factor) {
  if (mean != nullptr)
    soften_lanes<V, Powers, true>(tile, count, max, sum, mean, factor);
  else
    soften_lanes<V, Powers, false>(tile, count, max, sum, mean, factor);
}

/// x[i] = f(x[i], x[n + i], ...) for i < n, of the lanes of a vector.
template <class V, size_t n, class F>
inline V fold_lanes(V lanes, const F& f) {
  alignas(64) typename V::Element x[V::width];
  lanes.store(x);
  for (size_t half = V::width / 2; half >= n; half /= 2)
    for (size_t i = 0; i < half; ++i) x[i] = f(x[i], x[half + i]);
  return V::template repeat<n>(x);
}

/// Lane k * n + i of a vector is the key k of query i.
template <class V, class Powers, size_t n, bool with_mean>
inline void soften_few_lanes(typename V::Element* tile, size_t count, typename V::Element* max_,
                             typename V::Element* sum_, typename V::Element* mean_,
                             typename V::Element* factor) {
  using Element = typename V::Element;
  using L = Limits<Element>;
  size_t end = count * n;
  for (; end % V::width != 0; ++end) tile[end] = -L::infinity;
  const V before = V::template repeat<n>(max_);
  V now = before;
  for (size_t k = 0; k < end; k += V::width) now = max(now, V::load(tile + k));
  now = fold_lanes<V, n>(now, [](Element a, Element b) { return a > b ? a : b; });
  const V change = before - now, rescale = Powers::of(change);
  V sum = V::all(0), mean = V::all(0);
  for (size_t k = 0; k < end; k += V::width) {
    const V z = V::load(tile + k) - now;
    const V p = Powers::of(z);
    p.store(tile + k);
    sum = sum + p;
    if constexpr (with_mean) mean = multiply_add(p, max(V::all(L::no_power), z), mean);
  }
  const auto total = [](Element a, Element b) { return a + b; };
  const V old_sum = V::template repeat<n>(sum_);
  if constexpr (with_mean) {
    const V old_mean = V::template repeat<n>(mean_);
    const V moved = multiply_add(max(V::all(L::no_power), change), old_sum, old_mean);
    multiply_add(moved, rescale, fold_lanes<V, n>(mean, total)).store_first(mean_, n);
  }
  multiply_add(old_sum, rescale, fold_lanes<V, n>(sum, total)).store_first(sum_, n);
  now.store_first(max_, n);
  rescale.store_first(factor, n);
}

template <class V, class Powers, size_t share = V::width>
void soften_few(typename V::Element* tile, size_t rows, size_t count, typename V::Element* max,
                typename V::Element* sum, typename V::Element* mean, typename V::Element* factor) {
  constexpr size_t n = V::width / share;
  if constexpr (share > 1)
    if (share_of_few(rows, V::width) < share)
      return soften_few<V, Powers, share / 2>(tile, rows, count, max, sum, mean, factor);
  if (mean != nullptr)
    soften_few_lanes<V, Powers, n, true>(tile, count, max, sum, mean, factor);
  else
    soften_few_lanes<V, Powers, n, false>(tile, count, max, sum, mean, factor);
}

template <class V, class Powers, bool with_slopes>
inline void grade_lanes(typename V::Element* tile, typename V::Element* gradients, size_t count,
                        const typename V::Element* logsumexp_, const typename V::Element* terms_,
                        const typename V::Element* slopes_) {
  const V logsumexp = V::load(logsumexp_), terms = V::load(terms_), zero = V::all(0);
  const V slopes = with_slopes ? V::load(slopes_) : zero;
  const V no_power = V::all(Limits<typename V::Element>::no_power);
#pragma GCC unroll 4
  for (size_t j = 0; j < count; ++j) {
    typename V::Element *z = tile + j * lanes_of<V>, *g = gradients + j * lanes_of<V>;
    const V t = V::load(z) - logsumexp;
    const V p = Powers::of(t);
    p.store(z);
    V sum = V::load(g) + terms;
    if constexpr (with_slopes) sum = fnma(slopes, max(no_power, t), sum);
    // What is hidden has no gradient, were its product infinite; a NaN of p stays.
    select(greater(p, zero), p * sum, p).store(g);
  }
}

template <class V, class Powers>
void grade(typename V::Element* tile, typename V::Element* gradients, size_t count,
           const typename V::Element* logsumexp, const typename V::Element* terms,
           const typename V::Element* slopes) {
  if (slopes != nullptr)
    grade_lanes<V, Powers, true>(tile, gradients, count, logsumexp, terms, slopes);
  else
    grade_lanes<V, Powers, false>(tile, gradients, count, logsumexp, terms, slopes);
}

}  // namespace
}  // namespace logitkit
