// Sums of exponentials with twice the digits of a double in every lane of a vector. Include
// only from files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/double_double.h"
#include "sum_exp/lanes.h"
#include "sum_exp/loops.h"

namespace logitkit {
namespace {

using std::size_t;

/// A lane keeps sum_j exp(x_j - max), terms that equal max apart: they are counted.
template <class F64>
struct ExactLanes {
  static constexpr size_t terms_of_part = 128;  // an addition errs relative to a part, not to all

  F64 max, count;
  DoubleDouble<F64> sum, part;
  size_t part_terms = 0;

  ExactLanes() : ExactLanes(F64::all(0.0)) {}
  explicit ExactLanes(F64 max_of_lanes) : max(max_of_lanes), count(F64::all(0.0)) {
    sum = part = {F64::all(0.0), F64::all(0.0)};
  }

  static constexpr size_t expected_terms = 0;
  void expect(F64) {}
  static Largest<F64> ahead() { return {}; }

  template <size_t count, class Load, class Ahead>
  void add(const Vectors<F64, count>& x, const Load&, const Ahead&) {
#pragma GCC unroll 2
    for (size_t k = 0; k < count; ++k) add_term(x.v[k]);
    part_terms += count;
    if (part_terms >= terms_of_part) close_part();
  }

  void add_term(F64 x) {
    const F64 zero = all<F64>(0.0), lowest = all<F64>(-1021.0 * ExpConstants<double>::ln_2);
    const DoubleDouble<F64> d = two_sum(x, zero - max);
    const auto normal = greater(d.high, lowest);  // what is lower counts as zero
    const F64 high = select(normal, d.high, lowest), low = select(normal, d.low, zero);
    const ExactExpParts<F64> e = exact_exp_parts<F64>({high, low});
    const F64 one = all<F64>(1.0);
    const F64 power = select(normal, power_of_two(e.n, exponent_bias(zero)), zero);
    const DoubleDouble<F64> exp = fast_two_sum(one, e.t.high);
    const auto largest = equal(d.high, zero);
    count = count + select(largest, one, zero);
    const F64 counted = select(largest, zero, power);
    part = part + DoubleDouble<F64>{exp.high * counted, (exp.low + e.t.low) * counted};
  }

  void close_part() {
    sum = sum + part;
    part = {all<F64>(0.0), all<F64>(0.0)};
    part_terms = 0;
  }

  void store(ExactSumExp out, size_t i, size_t lanes) {
    close_part();
    count.store_first(out.count + i, lanes);
    sum.high.store_first(out.high + i, lanes);
    sum.low.store_first(out.low + i, lanes);
  }

  /// All lanes as item i.
  void store_sum(ExactSumExp out, size_t i) {
    close_part();
    double high[F64::width], low[F64::width];
    sum.high.store(high);
    sum.low.store(low);
    for (size_t n = F64::width / 2; n > 0; n /= 2)
      for (size_t k = 0; k < n; ++k) {
        const DoubleDouble<double> pair = two_sum(high[k], high[k + n]);
        const DoubleDouble<double> both = fast_two_sum(pair.high, pair.low + (low[k] + low[k + n]));
        high[k] = both.high;
        low[k] = both.low;
      }
    out.count[i] = sum_of_lanes(count);
    out.high[i] = high[0];
    out.low[i] = low[0];
  }
};

}  // namespace
}  // namespace logitkit
