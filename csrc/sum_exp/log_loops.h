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

/// a += b, but for the largest terms.
template <class F64, Keep keep>
inline void add_lanes(Lanes<F64, keep>& a, Lanes<F64, keep>& b) {
  const F64 base = max(a.base, b.base);
  a.rescale(0, a.base - base);
  b.rescale(0, b.base - base);
  const DoubleDouble<F64> sum = two_sum(a.sum[0], b.sum[0]);
  a.set_base(base);
  a.sum[0] = sum.high;
  a.rest[0] = a.rest[0] + b.rest[0] + sum.low;
  if constexpr (keep == Keep::moments) {
    a.mean[0] = a.mean[0] + b.mean[0];
    a.squares[0] = a.squares[0] + b.squares[0];
  }
}

template <class F64>
void add_sums(size_t items, SumExpMoments into, SumExpMoments from) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    Lanes<F64, Keep::moments> a, b;
    a.load(into, i, n);
    b.load(from, i, n);
    add_lanes(a, b);
    a.top = max(a.top, b.top);
    a.store(into, i, n);
  });
}

template <class F64>
void add_sums_beside_max(size_t items, SumExpMoments into, SumExpMoments from) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    Lanes<F64, Keep::max_apart> a, b;
    a.load(into, i, n);
    b.load(from, i, n);
    add_lanes(a, b);
    a.add_all(min(a.top, b.top));
    a.top = max(a.top, b.top);
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

template <class F64>
void invert(size_t items, SumExp sums, double* inverse, double* rest) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> sum = two_sum(load(sums.sum), load(sums.rest));
    const F64 k = exponent_below(sum.high), to_fraction = power_of_two(all<F64>(0.0) - k);
    const F64 one = all<F64>(1.0), fraction = sum.high * to_fraction, result = one / fraction;
    // One step of Newton's method.
    const F64 remainder = fnma(sum.low * to_fraction, result, fnma(fraction, result, one));
    (load(sums.exponent) + k).store_first(sums.exponent + i, n);
    result.store_first(inverse + i, n);
    (result * remainder).store_first(rest + i, n);
  });
}

template <class F64>
void stats(size_t items, SumExpMoments moments, double* log_sum) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const F64 zero = all<F64>(0.0), one = all<F64>(1.0);
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, one); };
    const DoubleDouble<F64> sum = two_sum(load(moments.sums.sum), load(moments.sums.rest));
    const DoubleDouble<F64> log_s = log(sum.high, sum.low, zero);
    const DoubleDouble<F64> shift =
        multiply(load(moments.sums.exponent), all<F64>(ExpConstants<double>::ln_2));
    (shift.high + (log_s.high + shift.low)).store_first(log_sum + i, n);
    const F64 inverse = one / sum.high;
    max(zero, fnma(load(moments.mean), inverse, log_s.high)).store_first(moments.mean + i, n);
    (load(moments.sum_of_squares) * inverse * inverse).store_first(moments.sum_of_squares + i, n);
  });
}

template <class T, class F64>
void log_beside_max(size_t items, SumExp sums, double* results) {
  for_vectors<F64>(items, [&](size_t i, size_t n) {
    const auto load = [=](const double* x) { return F64::load_first(x + i, n, F64::all(1.0)); };
    const DoubleDouble<F64> sum = {load(sums.sum), load(sums.rest)};
    log_beside<T>(sum, load(sums.exponent), load(sums.max)).store_first(results + i, n);
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
