// The loops of loops.h, made of the vectors of one instruction set. Include only from files with
// an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "cross_entropy/loops.h"
#include "simd/double_double.h"

namespace logitkit {
namespace {

using std::size_t;

/// n <= V::width elements, 0 in the other lanes.
template <class V>
inline V load_some(const typename V::Element* x, size_t n) {
  return n == V::width ? V::load(x) : V::load_first(x, n, V::all(0));
}

/// The shares of the n classes from j on.
template <class V>
struct ShareVectors {
  const typename V::Element *targets, *weights;
  V peak, spread;

  explicit ShareVectors(const Shares<typename V::Element>& of)
      : targets(of.targets),
        weights(of.weights),
        peak(V::all(static_cast<typename V::Element>(of.peak))),
        spread(V::all(static_cast<typename V::Element>(of.spread))) {}

  V at(size_t j, size_t n) const {
    V share = spread;
    if (targets != nullptr) share = multiply_add(peak, load_some<V>(targets + j, n), share);
    return weights != nullptr ? share * load_some<V>(weights + j, n) : share;
  }
};

/// A sum of vectors of V in double, whose rounding errors are gathered.
template <class V>
class WideSum {
 public:
  WideSum() {
    for (size_t p = 0; p < parts; ++p) sum_[p] = {F64::all(0), F64::all(0)};
  }
  void add(V x) {
    F64 wide[parts];
    widen(x, wide);
    for (size_t p = 0; p < parts; ++p) {
      const DoubleDouble<F64> total = two_sum(sum_[p].high, wide[p]);
      sum_[p] = {total.high, sum_[p].low + total.low};
    }
  }
  double total() const {
    double sum = 0.0;
    for (size_t p = 0; p < parts; ++p) {
      const double high = sum_of_lanes(sum_[p].high);
      // Beside an infinite sum the errors are NaN.
      sum += high - high == 0.0 ? high + sum_of_lanes(sum_[p].low) : high;
    }
    return sum;
  }

 private:
  using F64 = typename V::Wide;
  static constexpr size_t parts = V::width / F64::width;
  DoubleDouble<F64> sum_[parts];
};

template <class V>
SharedDistance distance(const typename V::Element* x, size_t n, double max_,
                        const Shares<typename V::Element>& of) {
  const ShareVectors<V> shares(of);
  const V zero = V::all(0), max = V::all(static_cast<typename V::Element>(max_));
  WideSum<V> mass, distance;
  for (size_t j = 0; j < n; j += V::width) {
    const size_t count = n - j < V::width ? n - j : V::width;
    V share = shares.at(j, count);
    if (count < V::width) {  // `spread` stands in lanes without a class, too
      typename V::Element lanes[V::width] = {};
      share.store_first(lanes, count);
      share = V::load(lanes);
    }
    const V term = share * (max - load_some<V>(x + j, count));
    mass.add(share);
    distance.add(select(greater(share, zero), term, select(greater(zero, share), term, zero)));
  }
  return {mass.total(), distance.total()};
}

template <class V>
void grade(typename V::Element* y, size_t n, double factor_,
           const Shares<typename V::Element>& of) {
  const ShareVectors<V> shares(of);
  const V factor = V::all(static_cast<typename V::Element>(factor_));
  for (size_t j = 0; j < n; j += V::width) {
    const size_t count = n - j < V::width ? n - j : V::width;
    const V result = fms(factor, load_some<V>(y + j, count), shares.at(j, count));
    if (count == V::width)
      result.store(y + j);
    else
      result.store_first(y + j, count);
  }
}

template <class F32, class F64>
constexpr AllCrossEntropyLoops make_loops() {
  return {{distance<F32>, grade<F32>}, {distance<F64>, grade<F64>}};
}

}  // namespace
}  // namespace logitkit
