// The loops of loops.h, made of the vectors of one instruction set. Include only from files with
// an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/loops.h"
#include "linear_cross_entropy/loops.h"
#include "simd/exp2.h"
#include "simd/prefetch.h"

namespace logitkit {
namespace {

using std::size_t;

template <class V>
constexpr size_t row_stride = panel_vectors * V::width;

/// A power of two that is 0, so that 0 * -inf does not come up where a term is hidden.
template <class Element>
constexpr Element no_power = sizeof(Element) == sizeof(float) ? -256 : -2048;

template <class V>
void add_bias(typename V::Element* tile, size_t count, size_t vectors,
              const typename V::Element* bias, typename V::Element factor) {
  for (size_t j = 0; j < count; ++j) {
    const V term = V::all(bias[j] * factor);
    for (size_t v = 0; v < vectors; ++v) {
      typename V::Element* z = tile + j * row_stride<V> + v * V::width;
      (V::load(z) + term).store(z);
    }
  }
}

template <class V, bool with_mean>
inline void reduce_lanes(const typename V::Element* tile, size_t count, typename V::Element* max_,
                         typename V::Element* sum_, typename V::Element* mean_) {
  constexpr size_t step = 4;
  const V before = V::load(max_);
  V top[step] = {before, before, before, before};
  const auto load = [=](size_t j) { return V::load(tile + j * row_stride<V>); };
  size_t j = 0;
  for (; j + step <= count; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) top[k] = max(top[k], load(j + k));
  for (; j < count; ++j) top[0] = max(top[0], load(j));
  const V now = max(max(top[0], top[1]), max(top[2], top[3]));
  V sum[step], mean[step];
#pragma GCC unroll 4
  for (size_t k = 0; k < step; ++k) sum[k] = mean[k] = V::all(0);
  const auto add = [&](size_t row, size_t k) {
    const V z = load(row) - now;
    const V p = exp2(z);
    sum[k] = sum[k] + p;
    // The bound is an operand, so that a NaN stays.
    if constexpr (with_mean)
      mean[k] = multiply_add(p, max(V::all(no_power<typename V::Element>), z), mean[k]);
  };
  for (j = 0; j + step <= count; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) add(j + k, k);
  for (; j < count; ++j) add(j, 0);
  const V change = before - now, rescale = exp2(change), old_sum = V::load(sum_);
  if constexpr (with_mean) {
    const V distance = max(V::all(no_power<typename V::Element>), change);
    const V moved = multiply_add(distance, old_sum, V::load(mean_));
    multiply_add(moved, rescale, (mean[0] + mean[1]) + (mean[2] + mean[3])).store(mean_);
  }
  multiply_add(old_sum, rescale, (sum[0] + sum[1]) + (sum[2] + sum[3])).store(sum_);
  now.store(max_);
}

template <class V>
void reduce(const typename V::Element* tile, size_t count, size_t vectors, typename V::Element* max,
            typename V::Element* sum, typename V::Element* mean) {
  for (size_t i = 0; i < vectors * V::width; i += V::width)
    if (mean != nullptr)
      reduce_lanes<V, true>(tile + i, count, max + i, sum + i, mean + i);
    else
      reduce_lanes<V, false>(tile + i, count, max + i, sum + i, nullptr);
}

template <class V>
void dot(const typename V::Element* tile, const typename V::Element* targets,
         const typename V::Element* weights, size_t count, size_t vectors,
         typename V::Element* dot) {
  const V zero = V::all(0);
  for (size_t i = 0; i < vectors * V::width; i += V::width) {
    V sum = zero;
    for (size_t j = 0; j < count; ++j) {
      const size_t at = j * row_stride<V> + i;
      V share = V::all(weights == nullptr ? 1 : weights[j]);
      if (targets != nullptr) share = share * V::load(targets + at);
      const V term = share * V::load(tile + at);
      sum = sum + select(greater(share, zero), term, select(greater(zero, share), term, zero));
    }
    (V::load(dot + i) + sum).store(dot + i);
  }
}

template <class V, bool with_targets, bool with_spread, bool with_cap>
inline void grade_lanes(typename V::Element* tile, size_t count,
                        const typename V::Element* logsumexp_, const typename V::Element* factor_,
                        const typename V::Element* targets, const typename V::Element* weights,
                        const typename V::Element* peak_, const typename V::Element* spread_,
                        typename V::Element cap) {
  const V logsumexp = V::load(logsumexp_), factor = V::load(factor_), zero = V::all(0);
  const V peak = with_targets ? V::load(peak_) : zero, inverse_cap = V::all(with_cap ? 1 / cap : 0);
  const V spread = with_spread ? V::load(spread_) : zero;
#pragma GCC unroll 4
  for (size_t j = 0; j < count; ++j) {
    const size_t at = j * row_stride<V>;
    const V z = V::load(tile + at);
    V gradient = factor * exp2(z - logsumexp);
    if constexpr (with_targets || with_spread) {
      V target = spread;
      if constexpr (with_targets) target = multiply_add(peak, V::load(targets + at), target);
      gradient = fnma(V::all(weights == nullptr ? 1 : weights[j]), target, gradient);
    }
    if constexpr (with_cap) {
      const V tanh = z * inverse_cap;
      gradient = gradient * fnma(tanh, tanh, V::all(1));
    }
    gradient.store(tile + at);
  }
}

template <class V>
void grade(typename V::Element* tile, size_t count, size_t vectors,
           const typename V::Element* logsumexp, const typename V::Element* factor,
           const typename V::Element* targets, const typename V::Element* weights,
           const typename V::Element* peak, const typename V::Element* spread,
           typename V::Element cap) {
  const auto all_lanes = [&](auto lanes) {
    for (size_t i = 0; i < vectors * V::width; i += V::width)
      lanes(tile + i, count, logsumexp + i, factor + i, targets == nullptr ? nullptr : targets + i,
            weights, peak + i, spread == nullptr ? nullptr : spread + i, cap);
  };
  const bool capped = cap > 0;
  if (targets != nullptr)
    capped ? all_lanes(grade_lanes<V, true, true, true>)
           : all_lanes(grade_lanes<V, true, true, false>);
  else if (spread != nullptr)
    capped ? all_lanes(grade_lanes<V, false, true, true>)
           : all_lanes(grade_lanes<V, false, true, false>);
  else
    capped ? all_lanes(grade_lanes<V, false, false, true>)
           : all_lanes(grade_lanes<V, false, false, false>);
}

template <class V>
void add_rows(const typename V::Element* tile, size_t count, size_t vectors,
              typename V::Element* sums) {
  for (size_t j = 0; j < count; j += V::width) {
    const size_t rows = count - j < V::width ? count - j : V::width;
    V sum[V::width];
    for (size_t k = 0; k < V::width; ++k) {
      sum[k] = V::all(0);
      for (size_t v = 0; k < rows && v < vectors; ++v)
        sum[k] = sum[k] + V::load(tile + (j + k) * row_stride<V> + v * V::width);
    }
    typename V::Element of_rows[V::width];
    sums_of_lanes(sum).store(of_rows);
    for (size_t k = 0; k < rows; ++k) sums[j + k] += of_rows[k];
  }
}

/// p, about which the compiler forgets how it was made: it otherwise keeps the address of each
/// element in a register of its own, of which there are not so many.
template <class P>
inline P* opaque(P* p) {
#if defined(__GNUC__)
  __asm__("" : "+r"(p));
#endif
  return p;
}

/// What all blocks of one spread() share.
template <class V>
struct Spread {
  using Element = typename V::Element;
  const Element* tile;
  size_t next_tile, row_count, depth;
  const Element *ahead, *ahead_end;  // what to ask for next
  size_t ahead_lines;                // for each block and tile

  size_t tiles() const { return (row_count + row_stride<V> - 1) / row_stride<V>; }

  /// `classes` rows by `vectors` vectors of the sum, all in registers.
  template <size_t classes, size_t vectors, bool add>
  void block(size_t j, const Element* rows, Element* to) {
    V sum[classes][vectors];
#pragma GCC unroll 16
    for (size_t c = 0; c < classes; ++c)
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v) sum[c][v] = V::all(0);
    const Element* of_classes = tile + j * row_stride<V>;
    const size_t to_lines = (classes * vectors + tiles() - 1) / tiles();
    size_t asked = 0;
    for (size_t left = row_count; left > 0; of_classes += next_tile) {
      const size_t lanes = left < row_stride<V> ? left : row_stride<V>;
      // A few at a time, as the processor waits for no more than some 12.
      for (size_t k = 0; k < to_lines && asked < classes * vectors; ++k, ++asked)
        prefetch(to + asked / vectors * depth + asked % vectors * V::width);
      for (size_t k = 0; k < ahead_lines && ahead < ahead_end; ++k, ahead += 64 / sizeof(Element))
        prefetch(ahead);
#pragma GCC unroll 4
      for (size_t i = 0; i < lanes; ++i, rows += row_stride<V>) {
        const Element* gradient = opaque(of_classes + i);
        V row[vectors];
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; ++v) row[v] = V::load(rows + v * V::width);
#pragma GCC unroll 16
        for (size_t c = 0; c < classes; ++c) {
          const V element = V::all(gradient[c * row_stride<V>]);
#pragma GCC unroll 4
          for (size_t v = 0; v < vectors; ++v) sum[c][v] = multiply_add(row[v], element, sum[c][v]);
        }
      }
      left -= lanes;
    }
#pragma GCC unroll 16
    for (size_t c = 0; c < classes; ++c)
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v) {
        Element* at = to + c * depth + v * V::width;
        (add ? V::load(at) + sum[c][v] : sum[c][v]).store(at);
      }
  }

  /// All classes of `vectors` vectors of columns, `most` at a time.
  template <size_t most, size_t vectors, bool add>
  void columns(size_t count, const Element* rows, Element* to) {
    size_t j = 0;
    for (; j + most <= count; j += most) block<most, vectors, add>(j, rows, to + j * depth);
    for (; j < count; ++j) block<1, vectors, add>(j, rows, to + j * depth);
  }

  template <size_t most, bool add>
  void all(size_t count, const Element* rows, Element* to) {
    size_t d = 0;
    for (; d + 3 * V::width <= depth; d += 3 * V::width, rows += row_count * row_stride<V>)
      columns<most, 3, add>(count, rows, to + d);
    if (d + 2 * V::width <= depth)
      columns<most, 2, add>(count, rows, to + d);
    else if (d < depth)
      columns<most, 1, add>(count, rows, to + d);
  }
};

template <class V, size_t most>
void spread(const typename V::Element* tile, size_t next_tile, const typename V::Element* columns,
            size_t row_count, size_t count, size_t depth, bool add, typename V::Element* to,
            const typename V::Element* ahead, size_t ahead_size) {
  const size_t blocks = (count + most - 1) / most * ((depth + row_stride<V> - 1) / row_stride<V>);
  Spread<V> spread = {tile, next_tile, row_count, depth, ahead, ahead + ahead_size, 0};
  spread.ahead_lines =
      ahead_size * sizeof(typename V::Element) / 64 / (blocks * spread.tiles()) + 1;
  if (add)
    spread.template all<most, true>(count, columns, to);
  else
    spread.template all<most, false>(count, columns, to);
}

/// `most` rows by three vectors of sums, with a row of three and an element, fit the registers.
template <class V, size_t most>
constexpr LayerLossLoops<typename V::Element> make_loops_of() {
  return {add_bias<V>, reduce<V>, dot<V>, grade<V>, add_rows<V>, spread<V, most>};
}

template <class F32, class F64, size_t most>
constexpr AllLayerLossLoops make_loops() {
  return {make_loops_of<F32, most>(), make_loops_of<F64, most>()};
}

}  // namespace
}  // namespace logitkit
