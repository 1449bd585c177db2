// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "sum_exp/exact_lanes.h"
#include "sum_exp/lanes.h"
#include "sum_exp/log_loops.h"
#include "sum_exp/loops.h"
#include "sum_exp/map_items.h"
#include "sum_exp/rows_at_once.h"
#include "sum_exp/sum_items.h"

namespace logitkit {
namespace {

template <class V, class T, Keep keep>
void sum(const Block<T>& block, SumExp sums) {
  using Sums = Lanes<V, keep>;
  sum_items<V, T, Sums>(
      block, [](size_t, size_t) { return Sums(); }, SumExpMoments{sums, nullptr, nullptr},
      AsIs<V>());
}

template <class V, class T>
void sum_moments(const Block<T>& block, T scale, SumExpMoments moments) {
  using Sums = Lanes<V, Keep::moments>;
  const auto start = [](size_t, size_t) { return Sums(); };
  if (scale == T{1})
    sum_items<V, T, Sums>(block, start, moments, AsIs<V>());
  else
    sum_items<V, T, Sums>(block, start, moments, Times<V>{V::all(scale)});
}

/// The largest term in every lane.
template <class V>
struct MaxLanes {
  V top = all<V>(minus_infinity);
  static constexpr size_t expected_terms = 0;
  void expect(V) {}
  static Largest<V> ahead() { return {}; }
  template <size_t count, class Load, class Ahead>
  void add(const Vectors<V, count>& x, const Load&, const Ahead&) {
    for (size_t k = 0; k < count; ++k) top = max(top, x.v[k]);
  }
  void store(double* out, size_t i, size_t count) const {
    for_parts(top, count, [=](typename V::Wide part, size_t begin, size_t n) {
      part.store_first(out + i + begin, n);
    });
  }
  void store_sum(double* out, size_t i) const { out[i] = double{largest_lane(top)}; }
};

template <class V>
void max_of_items(const Block<typename V::Element>& block, double* max) {
  using T = typename V::Element;
  sum_items<V, T, MaxLanes<V>>(block, [](size_t, size_t) { return MaxLanes<V>(); }, max, AsIs<V>());
}

template <class F64, class T>
void sum_exactly(const Block<T>& block, const double* max, ExactSumExp sums) {
  using Sums = ExactLanes<F64>;
  sum_items<F64, T, Sums>(
      block, [max](size_t i, size_t n) { return Sums(load_lanes<F64>(max, i, n)); }, sums,
      AsIs<F64>());
}

template <class F32, class F64>
constexpr AllSumExpLoops make_loops() {
  return {
      {sum<F32, float, Keep::nothing>, sum<F32, float, Keep::max>, sum<F64, float, Keep::max>,
       sum<F32, float, Keep::max_apart>, log_beside_max<float, F64>, sum_moments<F32, float>,
       max_of_items<F32>, sum_exactly<F64, float>, softmax<F32>, softmax_at_once<F32>,
       log_softmax<F32>, log_softmax_at_once<F32>},
      {sum<F64, double, Keep::nothing>, sum<F64, double, Keep::max>, sum<F64, double, Keep::max>,
       sum<F64, double, Keep::max_apart>, log_beside_max<double, F64>, sum_moments<F64, double>,
       max_of_items<F64>, sum_exactly<F64, double>, softmax<F64>, softmax_at_once<F64>,
       log_softmax<F64>, log_softmax_at_once<F64>},
      {add_sums<F64>, add_sums_beside_max<F64>, log_sums<F64>, invert<F64>, stats<F64>,
       log_exactly<F64>}};
}

}  // namespace
}  // namespace logitkit
