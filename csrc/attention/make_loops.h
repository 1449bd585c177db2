// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/few_products.h"
#include "attention/lane_products.h"
#include "attention/lanes.h"
#include "attention/logit_changes.h"
#include "attention/loops.h"
#include "attention/transposed_panels.h"
#include "attention/weights.h"

namespace logitkit {
namespace {

template <class V>
bool finite(const typename V::Element* const* rows, size_t count, size_t depth) {
  V zeros = V::all(0);
  for (size_t j = 0; j < count; ++j)
    for (size_t d = 0; d < depth; d += V::width)
      zeros = multiply_add(load_columns<V>(rows[j] + d, depth - d), V::all(0), zeros);
  // 0 * inf is NaN, which is neither above nor below.
  return !any(greater(zeros, V::all(0))) &&
         largest_lane(select(greater(V::all(1), zeros), V::all(0), V::all(1))) == 0;
}

template <class F32>
void widen_float16(const std::uint16_t* from, size_t n, float* to) {
  F32 wide;
  size_t i = 0;
  for (; i + F32::width <= n; i += F32::width) {
    load_float16(from + i, wide);
    wide.store(to + i);
  }
  if (i == n) return;
  std::uint16_t rest[F32::width] = {};
  for (size_t k = 0; i + k < n; ++k) rest[k] = from[i + k];
  load_float16(rest, wide);
  wide.store_first(to + i, n - i);
}

template <class F32>
void narrow_float16(const float* from, size_t n, std::uint16_t* to) {
  size_t i = 0;
  for (; i + F32::width <= n; i += F32::width) store_float16(F32::load(from + i), to + i);
  if (i == n) return;
  std::uint16_t rest[F32::width];
  store_float16(load_columns<F32>(from + i, n - i), rest);
  for (size_t k = 0; i + k < n; ++k) to[i + k] = rest[k];
}

template <class V, class Blocks, class Powers>
constexpr AttentionLoops<typename V::Element> make_loops_of() {
  return {V::width,
          pack<V>,
          score<V, Blocks>,
          cap<V>,
          slope<V>,
          add<V>,
          hide<V>,
          soften<V, Powers>,
          weigh<V, Blocks>,
          unpack<V>,
          score_few<V>,
          soften_few<V, Powers>,
          weigh_few<V, Blocks>,
          grade<V, Powers>,
          uncap<V>,
          spread<V, Blocks>,
          finite<V>,
          any_visible<V>};
}

template <class F32, class F64, class Blocks, class Powers = PolynomialPowers>
constexpr AllAttentionLoops make_loops() {
  return {make_loops_of<F32, Blocks, Powers>(), make_loops_of<F64, Blocks, Powers>(),
          widen_float16<F32>, narrow_float16<F32>};
}

}  // namespace
}  // namespace logitkit
