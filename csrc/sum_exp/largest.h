// The largest and the second largest of terms in every lane of a vector. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include "simd/exp.h"

namespace logitkit {
namespace {

constexpr float minus_infinity = -__builtin_huge_valf();

/// The largest of some terms in each lane.
template <class V>
struct Largest {
  V first = all<V>(minus_infinity);

  void add(V x) { first = max(first, x); }
  void add(const Largest& other) { first = max(first, other.first); }
  V in_lanes() const { return first; }
  /// That of all lanes, in each.
  V over_lanes() const { return all<V>(largest_lane(first)); }
};

/// The second largest, which is as large as the largest if there are two of those.
template <class V>
struct SecondLargest {
  V first = all<V>(minus_infinity), second = all<V>(minus_infinity);

  void add(V x) { add(SecondLargest{x, all<V>(minus_infinity)}); }
  void add(const SecondLargest& other) {
    second = max(max(second, other.second), min(first, other.first));
    first = max(first, other.first);
  }
  V in_lanes() const { return second; }
  V over_lanes() const {
    SecondLargest<V> lanes;
    typename V::Element firsts[V::width];
    first.store(firsts);
    for (const typename V::Element x : firsts) lanes.add(all<V>(x));
    return max(lanes.second, all<V>(largest_lane(second)));
  }
};

}  // namespace
}  // namespace logitkit
