// What is done to a tile of scores before its softmax, and asked of it. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "attention/lanes.h"
#include "simd/exp.h"

namespace logitkit {
namespace {

/// tanh(x) = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x. The parts of the exponential keep
/// the digits of e^2|x| - 1 where x is small.
template <class V>
inline V tanh(V x) {
  using L = Limits<typename V::Element>;
  const V zero = V::all(0), twice = x + x;
  const V size = min(V::all(L::saturated), max(twice, zero - twice));
  const ExpParts<V> e = exp_parts(size);
  const V power = power_of_two(e.n, exponent_bias(zero));
  const V expm1 = multiply_add(power, e.t, power - V::all(1));
  const V result = expm1 / (expm1 + V::all(2));
  return select(greater(zero, x), zero - result, result);
}

template <class V>
void cap(typename V::Element* tile, size_t count, typename V::Element cap) {
  for (size_t k = 0; k < count * lanes_of<V>; k += V::width)
    (V::all(cap) * tanh(V::load(tile + k))).store(tile + k);
}

template <class V>
void slope(typename V::Element* tile, size_t count, const typename V::Element* slopes,
           const typename V::Element* positions) {
  for (size_t j = 0; j < count; ++j)
    for (size_t i = 0; i < lanes_of<V>; i += V::width) {
      const V ahead = V::load(positions + i) - V::all(static_cast<typename V::Element>(j));
      const V distance = max(ahead, V::all(0) - ahead);
      typename V::Element* z = tile + j * lanes_of<V> + i;
      fnma(V::load(slopes + i), distance, V::load(z)).store(z);
    }
}

template <class V>
void add(typename V::Element* tile, size_t count, const typename V::Element* terms,
         typename V::Element factor) {
  using L = Limits<typename V::Element>;
  const V lowest = V::all(L::lowest);
  for (size_t k = 0; k < count * lanes_of<V>; k += V::width) {
    const V term = V::load(terms + k);
    // A finite term stays finite, though not its product: the lowest number is a popular mask,
    // and a row with nothing else is no empty row.
    const V sum = V::load(tile + k) + max(lowest, term * V::all(factor));
    select(greater(lowest, term), V::all(-L::infinity), sum).store(tile + k);
  }
}

template <class V>
void hide(typename V::Element* tile, size_t count, const typename V::Element* begins,
          const typename V::Element* ends) {
  const V hidden = V::all(-Limits<typename V::Element>::infinity);
  for (size_t j = 0; j < count; ++j) {
    const V key = V::all(static_cast<typename V::Element>(j));
    for (size_t i = 0; i < lanes_of<V>; i += V::width) {
      typename V::Element* z = tile + j * lanes_of<V> + i;
      const V not_past = select(greater(V::load(ends + i), key), V::load(z), hidden);
      select(greater(V::load(begins + i), key), hidden, not_past).store(z);
    }
  }
}

template <class V>
void uncap(typename V::Element* gradients, const typename V::Element* capped, size_t count,
           typename V::Element cap) {
  for (size_t k = 0; k < count * lanes_of<V>; k += V::width) {
    const V tanh = V::load(capped + k) / V::all(cap);
    const V slope = fnma(tanh, tanh, V::all(1)), zero = V::all(0);
    // A hidden score may be NaN. Its gradient is 0, and stays so if this factor is a number.
    (V::load(gradients + k) * select(greater(slope, zero), slope, zero)).store(gradients + k);
  }
}

template <class V>
bool any_visible(const typename V::Element* tile, size_t count, size_t vectors) {
  const V hidden = V::all(Limits<typename V::Element>::lowest);
  for (size_t j = 0; j < count; ++j)
    for (size_t v = 0; v < vectors; ++v) {
      const V below = select(greater(hidden, V::load(tile + j * lanes_of<V> + v * V::width)),
                             V::all(0), V::all(1));
      if (any(greater(below, V::all(0)))) return true;
    }
  return false;
}

}  // namespace
}  // namespace logitkit
