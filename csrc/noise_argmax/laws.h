// Laws of noise as types: for every lane of a vector of doubles log F, the logarithm of the
// distribution function, and f / F, its derivative. Include only from files with an instruction
// set of their own, after that one's vectors.
//
// Errors are 2^-49 relative to the result, or to 1 for log F where that is larger; for normal
// noise and x > 0 the normal density adds 2^-53 x^2.
#pragma once

#include <cstddef>

#include "noise_argmax/loops.h"
#include "simd/exp.h"
#include "simd/log.h"
#include "simd/log_ndtr.h"

namespace logitkit {
namespace {

constexpr double minus_infinity = -__builtin_huge_val();

template <class V>
struct NormalLaw {
  static V log_cdf(V x) { return log_ndtr(x); }
  static V ratio(V x) { return ndtr_ratio(x); }
};

/// F(x) = 1 / (1 + e^-x).
template <class V>
struct LogisticLaw {
  static V log_cdf(V x) {
    // -log(1 + e) for x > 0 and x - log(1 + e) else, with e = e^-|x|
    const V e = exp_of_negative(all<V>(0) - absolute(x));
    const V v = all<V>(1) + e;
    return min(x, all<V>(0)) - log(v, e - (v - all<V>(1)), all<V>(0)).high;
  }
  static V ratio(V x) {
    const V e = exp_of_negative(all<V>(0) - absolute(x));
    const auto right = greater(x, all<V>(0));
    return select(right, e, all<V>(1)) / (all<V>(1) + e);
  }
};

/// f(x) = e^-|x| / 2.
template <class V>
struct LaplaceLaw {
  static V log_cdf(V x) {
    const V half = all<V>(0.5) * exp_of_negative(all<V>(0) - absolute(x));
    const auto right = greater(x, all<V>(0));
    return select(right, log_of_complement(half), x - all<V>(0x1.62e42fefa39efp-1));  // log 2
  }
  static V ratio(V x) {
    const V half = all<V>(0.5) * exp_of_negative(all<V>(0) - max(x, all<V>(0)));
    return half / (all<V>(1) - half);
  }
};

/// F(x) = 1/2 + atan(x) / pi.
template <class V>
struct CauchyLaw {
  /// F(-t) = atan(1 / t) / pi, for t >= 0: nothing cancels.
  static V tail(V t) {
    // atan(z) / z in y = 2 z^2 - 1, 0 <= z <= 1: the Chebyshev expansion of degree 21, 1e-17.
    constexpr double c[22] = {
        0x1.bda7a85bd40cbp-1,   -0x1.a1494c19fadd9p-4,  0x1.55a300bfb7b26p-6,
        -0x1.49b3e2e431bb7p-8,  0x1.58df7a83d7ae2p-10,  -0x1.7a846424607cdp-12,
        0x1.acfa9f096e94dp-14,  -0x1.f171f3297d0c5p-16, 0x1.256e743ca4233p-17,
        -0x1.5edb169bfc201p-19, 0x1.a80df278b6f36p-21,  -0x1.028855ab07207p-22,
        0x1.3d9c7c4bd464dp-24,  -0x1.8899d0d243c38p-26, 0x1.e6937f4ed6541p-28,
        -0x1.2f7f73f94251ap-29, 0x1.88e45844b7786p-31,  -0x1.f147f2a329dcfp-33,
        0x1.df42f871356ecp-35,  -0x1.24a19b741577ap-36, 0x1.b385b7db5966dp-37,
        -0x1.1d1cb6f9ea3a4p-38};
    const V one = all<V>(1);
    const auto far = greater(t, one);
    const V z = select(far, one / max(t, one), t);
    const V y = fma(z + z, z, all<V>(-1));
    const V square = y * y;
    V even = all<V>(c[20]), odd = all<V>(c[21]);
#pragma GCC unroll 10
    for (std::size_t k = 20; k > 0; k -= 2) {
      even = fma(even, square, all<V>(c[k - 2]));
      odd = fma(odd, square, all<V>(c[k - 1]));
    }
    const V angle = z * fma(odd, y, even) * all<V>(0x1.45f306dc9c883p-2);  // 1 / pi
    return select(far, angle, all<V>(0.5) - angle);
  }
  static V log_cdf(V x) {
    const V q = tail(absolute(x));
    const auto right = greater(x, all<V>(0));
    const V v = select(right, all<V>(1) - q, q);
    const V rest = select(right, (all<V>(1) - v) - q, all<V>(0));
    return log(v, rest, all<V>(0)).high;
  }
  static V ratio(V x) {
    const V q = tail(absolute(x));
    const auto right = greater(x, all<V>(0));
    const V cdf = select(right, all<V>(1) - q, q);
    const V pi = all<V>(0x1.921fb54442d18p+1);
    return all<V>(1) / (pi * cdf * fma(x, x, all<V>(1)));
  }
};

/// F(x) = x for 0 <= x <= 1: where noise begins does not matter to an argmax, and differences
/// from 0 keep their digits.
template <class V>
struct UniformLaw {
  static V log_cdf(V x) {
    const V some = max(min(x, all<V>(1)), all<V>(0x1p-1000));
    const V result = log(some, all<V>(0), all<V>(0)).high;
    return select(greater(x, all<V>(0)), result, all<V>(minus_infinity));
  }
  static V ratio(V x) {
    const V result = all<V>(1) / max(x, all<V>(0x1p-1000));
    return select(greater(x, all<V>(1)), all<V>(0), result);
  }
};

/// F(x) = 1 - e^-x for x > 0.
template <class V>
struct ExponentialLaw {
  /// 1 - e^-x, relative to itself.
  static V cdf(V x) {
    const ExpParts<V> parts = exp_parts(max(all<V>(0) - x, all<V>(-0x1.619p+9)));
    const V power = power_of_two(parts.n, exponent_bias(all<V>(0)));
    return fnma(power, parts.t, all<V>(1) - power);
  }
  static V log_cdf(V x) {
    const V q = exp_of_negative(all<V>(0) - max(x, all<V>(0)));
    const V v = max(cdf(x), all<V>(0x1p-1000));
    const auto far = greater(x, all<V>(0.5));
    const V rest = select(far, (all<V>(1) - v) - q, all<V>(0));
    const auto possible = greater(x, all<V>(0));
    return select(possible, log(v, rest, all<V>(0)).high, all<V>(minus_infinity));
  }
  static V ratio(V x) {
    const V q = exp_of_negative(all<V>(0) - max(x, all<V>(0)));
    return select(greater(x, all<V>(0)), q / max(cdf(x), all<V>(0x1p-1000)), all<V>(0));
  }
};

/// A law that is only known by its table: lane by lane, for processors differ too much in how
/// they look things up.
template <class V>
struct TabulatedLaw {
  const NoiseTable* table;

  double value(const double* coefficients, double x) const {
    const double s = __builtin_asinh(x / table->width);
    double cell = (s - table->low) / table->step;
    const double last = static_cast<double>(table->cells) - 1.0;
    cell = cell > 0.0 ? cell < last ? __builtin_floor(cell) : last : 0.0;
    double t = 2.0 * ((s - table->low) / table->step - cell) - 1.0;
    t = t < -1.0 ? -1.0 : t > 1.0 ? 1.0 : t;
    const double* c = coefficients + static_cast<std::size_t>(cell) * NoiseTable::terms;
    double sum = c[NoiseTable::terms - 1];
    for (std::size_t k = NoiseTable::terms - 1; k > 0; --k) sum = sum * t + c[k - 1];
    return sum;
  }
  V log_cdf(V x) const {
    double lanes[V::width];
    x.store(lanes);
    for (double& lane : lanes) lane = value(table->log_cdf, lane);
    return V::load(lanes);
  }
  V ratio(V x) const {
    double lanes[V::width];
    x.store(lanes);
    for (double& lane : lanes) lane = __builtin_exp(value(table->log_ratio, lane));
    return V::load(lanes);
  }
};

}  // namespace
}  // namespace logitkit
