// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's words.
#pragma once

#include "random/laws.h"
#include "random/loops.h"

namespace logitkit {
namespace {

/// Logits, and -inf in lanes without one.
template <class V>
inline V load_logits(const typename V::Element* x, size_t n) {
  return load_some(x, n, all<V>(-__builtin_inff()));
}

template <class V, class Law>
void fill(const Draw& draw, typename V::Element* out) {
  for_each_vector<V, Law>(draw, [out](V v, size_t j, size_t n) { store_some(v, out + j, n); });
}

template <class V>
void perturb(const Draw& draw, const typename V::Element* logits, typename V::Element* out) {
  for_each_vector<V, GumbelLaw>(draw, [=](V noise, size_t j, size_t n) {
    store_some(load_logits<V>(logits + j, n) + noise, out + j, n);
  });
}

/// An integer as the bits of a vector.
template <class V>
inline V as_bits(size_t n) {
  if constexpr (sizeof(typename V::Element) == 4)
    return as_float(WordsOf<V>::all(static_cast<std::uint32_t>(n)));
  else
    return as_float(WordsOf<V>::all(n));
}

template <class V>
Largest<typename V::Element> perturbed_max(const Draw& draw, const typename V::Element* logits) {
  using T = typename V::Element;
  const V zero = all<V>(0), lowest = all<V>(-__builtin_inff());
  const V least = all<V>(-LawConstants<T>::largest);
  V best = lowest, vector = zero, not_finite = zero;
  for_each_vector<V, GumbelLaw>(draw, [&](V noise, size_t j, size_t n) {
    const V x = load_logits<V>(logits + j, n) + noise;
    const auto above = greater(x, best);
    best = select(above, x, best);
    vector = select(above, as_bits<V>(j / V::width), vector);
    not_finite = fma(max(least, x), zero, not_finite);  // NaN from then on; x stands second
  });
  T value[V::width], flags[V::width];
  typename LawConstants<T>::Word number[V::width];
  best.store(value);
  not_finite.store(flags);
  as_words(vector).store(number);
  Largest<T> largest = {value[0], number[0] * V::width, flags[0] == flags[0]};
  for (size_t i = 1; i < V::width; ++i) {
    const size_t position = number[i] * V::width + i;
    largest.finite = largest.finite && flags[i] == flags[i];
    if (value[i] > largest.value || (value[i] == largest.value && position < largest.position)) {
      largest.value = value[i];
      largest.position = position;
    }
  }
  return largest;
}

template <class F64>
void bits(const Draw& draw, std::uint64_t* out) {
  constexpr size_t width = F64::width;
  for (size_t j = 0; j < draw.count; j += 2 * width) {
    const auto pair = bits_of_blocks<F64>(draw, (draw.first + j) / 2);
    F64 first, second;
    zip(as_float(pair.even.bits), as_float(pair.odd.bits), first, second);
    std::uint64_t both[2 * width];
    as_words(first).store(both);
    as_words(second).store(both + width);
    for (size_t i = 0; i < 2 * width && j + i < draw.count; ++i) out[j + i] = both[i];
  }
}

template <class V>
constexpr RandomLoops<typename V::Element> random_loops_of() {
  return {fill<V, UniformLaw>, fill<V, ExponentialLaw>, fill<V, GumbelLaw>, fill<V, NormalLaw>,
          perturb<V>,          perturbed_max<V>};
}

template <class F32, class F64>
constexpr AllRandomLoops make_random_loops() {
  return {random_loops_of<F32>(), random_loops_of<F64>(), bits<F64>};
}

}  // namespace
}  // namespace logitkit
