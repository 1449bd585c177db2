// Loops over what the sums give: they add, and take logarithms. Include only from files with an
// instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/log.h"
#include "sum_exp/lanes.h"
#include "sum_exp/log_beside_max.h"
#include "sum_exp/loops.h"

namespace logitkit {
namespace {

/// f(i, n) for i = 0, width, ..., of n <= width items.
template <class F64, class F>
inline void for_vectors(size_t items, const F& f) {
  for (size_t i = 0; i < items; i += F64::width)
    f(i, items - i < F64::width ? items - i : F64::width);
}

template <class F64>
void add_sums(size_t items, SumExpMoments into, SumExpMoments from) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    Lanes<F64, Keep::moments> a, b;
    a.load(into, i, n);
    b.load(from, i, n);
    const F64 base = max(a.base, b.base);
    a.rescale(0, a.base - base);
    b.rescale(0, b.base - base);
    const DoubleDouble<F64> sum = two_sum(a.sum[0], b.sum[0]);
    a.base = base;
    a.top = max(a.top, b.top);
    a.sum[0] = sum.high;
    a.rest[0] = a.rest[0] + b.rest[0] + sum.low;
    a.mean[0] = a.mean[0] + b.mean[0];
    a.squares[0] = a.squares[0] + b.squares[0];
    a.store(into, i, n);
  });
}

template <class F64>
void log_sums(size_t items, SumExp sums, double* high, double* low) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> sum = two_sum(load(sums.sum), load(sums.rest));
    const DoubleDouble<F64> result = log(sum.high, sum.low, load(sums.exponent));
    result.high.store_first(high + i, n);
    result.low.store_first(low + i, n);
  });
}

template <class T, class F64>
void log_beside_max(size_t items, SumExp sums, double* results) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> beside =
        beside_max<T, F64>({load(sums.sum), load(sums.rest)}, load(sums.exponent), load(sums.max));
    // From log 2 on there may be two that equal the maximum: then there is less beside them.
    const F64 one = all<F64>(1.0);
    const F64 two = select(greater(load(results), all<F64>(0.69)), all<F64>(2.0), one);
    const F64 count = select(greater(beside.high, all<F64>(0.9)), one, two);
    log_of_sum<T>(count, beside).store_first(results + i, n);
  });
}

template <class F64>
void log_exactly(size_t items, ExactSumExp sums) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> result =
        exact_log<F64>(load(sums.count), {load(sums.high), load(sums.low)});
    result.high.store_first(sums.high + i, n);
    result.low.store_first(sums.low + i, n);
  });
}

}  // namespace
}  // namespace logitkit
