// Laws of noise for one thread of a GPU: log F, f / F and log f, and where their integrals over u
// lie. laws.h and node_ranges.cpp have the same for processors.
//
// Errors are 2^-49 relative to the result, or to 1 for log F where that is larger; for normal
// noise and x > 0 the normal density adds 2^-53 x^2.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <limits>

#include "cuda/memory.h"
#include "noise_argmax/noise_argmax_cuda.h"

namespace logitkit::cuda {

/// The distances from u to the break points next to it.
struct Breaks {
  double below, above;
};

/// What laws share whose u is its own coordinate, and that have no break points.
struct PlainLaw {
  static constexpr bool has_breaks = false, is_heavy = false, is_smooth = false;
  static constexpr bool begins_at_zero = false, is_tabulated = false;
  /// Whether, far above a break point, the logarithm of the integrand of one class is a line up to
  /// the next one, of slope -1 and 1 for each rival above.
  static constexpr bool has_lines = false;
  /// Whether points of cells may stand for classes (class_cells_cuda.h); log F(u - mu) and log P
  /// are smooth functions of logits that lie in one, below `cells_below` at least.
  static constexpr bool has_cells = true;
  static constexpr double cells_below = std::numeric_limits<double>::infinity();
  __device__ static double cell_width() { return 0.5; }
  static constexpr double break_shift = 0.0;
  static constexpr double lowest = -1600.0;  // classes below cannot win
  static constexpr double farthest = std::numeric_limits<double>::infinity();  // below the largest
  __device__ static bool has_mean() { return true; }
  __device__ static double coordinate_of(double u) { return u; }
  __device__ static double node_at(double coordinate) { return coordinate; }
  /// Some u with log F(u) <= log_floor, and with 1 - F(u) <= mass.
  __device__ static double lower_bound(double log_floor) { return log_floor; }
  __device__ static double upper_bound(double mass) { return -log(mass); }
};

/// The normal distribution function by the Mills ratio.
struct NormalNoise : PlainLaw {
  static constexpr bool is_smooth = true;
  static constexpr double lowest = -64.0, widest_panel = 2.0;
  static constexpr double farthest = 1e154;  // whose square does not overflow

  /// Phi(-t) / phi(t) for t >= 0: simd/log_ndtr.h says how.
  __device__ static double mills_ratio(double t) {
    constexpr double c[24] = {
        0x1.6b7f80dece266p+0,   -0x1.56cbc5fa50aa2p-1,  0x1.63306e6d14396p-2,
        -0x1.ba9621dbe318ep-4,  -0x1.b5f76acb1c898p-9,  0x1.83da1750192d6p-6,
        -0x1.71310e1c34569p-7,  0x1.d0295d5eeceb5p-11,  0x1.4d9de8b0dcb0bp-10,
        -0x1.6fef91d7479f0p-12, -0x1.3739b2d583a5fp-13, 0x1.101cac639f441p-14,
        0x1.880c044851a0ep-16,  -0x1.66895274acd81p-17, -0x1.47f281bada9ecp-18,
        0x1.9c4b02e7ff5bap-20,  0x1.327156da46e42p-20,  -0x1.231fd90c0c93ep-23,
        -0x1.0c74fb9635214p-22, -0x1.02a8969681e4ap-26, 0x1.6db319b5d39a4p-25,
        0x1.297c0af00e068p-27,  -0x1.1273e48d8b177p-28, -0x1.5238f78e957bcp-30};
    t = fmin(t, 0x1p+500);
    const double y = (t - 4.0) / (t + 4.0), square = y * y;
    double even = c[22], odd = c[23];
#pragma unroll
    for (int k = 20; k >= 0; k -= 2) {
      even = fma(even, square, c[k]);
      odd = fma(odd, square, c[k + 1]);
    }
    return fma(odd, y, even) / (t + 2.0);
  }
  static constexpr double log_root_2_pi = 0x1.d67f1c864beb5p-1;
  static constexpr double inverse_root_2_pi = 0x1.9884533d43651p-2;

  __device__ static double log_cdf(double x) {
    const double mills = mills_ratio(fabs(x)), exponent = -0.5 * x * x;
    if (x > 0.0) return log1p(-exp(exponent) * mills * inverse_root_2_pi);
    return log(mills) + (exponent - log_root_2_pi);
  }
  __device__ static double ratio(double x) {
    const double mills = mills_ratio(fabs(x));
    if (!(x > 0.0)) return 1.0 / mills;
    const double density = exp(-0.5 * x * x) * inverse_root_2_pi;
    return density / fma(-density, mills, 1.0);
  }
  __device__ static double log_density(double x) { return -0.5 * x * x - log_root_2_pi; }
  __device__ static double lower_bound(double log_floor) { return -sqrt(-2.0 * log_floor); }
  __device__ static double upper_bound(double mass) { return sqrt(-2.0 * log(mass)); }
  /// The width of a panel from u on such that 16 nodes are enough: the integrand changes by a
  /// factor of e^10 at most, and its singularities are far in comparison. `rate` is the slope of
  /// log G there; that of the density of the largest class is u.
  __device__ static double panel_width(double u, double rate, const Breaks&) {
    return fmin(10.0 / (1.0 + rate + fmax(u, 0.0)), widest_panel);
  }
};

/// F(x) = 1 / (1 + e^-x), with poles at i pi.
struct LogisticNoise : PlainLaw {
  static constexpr bool is_smooth = true;
  static constexpr double widest_panel = 2.5;
  __device__ static double log_cdf(double x) { return fmin(x, 0.0) - log1p(exp(-fabs(x))); }
  __device__ static double ratio(double x) {
    const double e = exp(-fabs(x));
    return (x > 0.0 ? e : 1.0) / (1.0 + e);
  }
  __device__ static double log_density(double x) { return -fabs(x) - 2.0 * log1p(exp(-fabs(x))); }
  __device__ static double panel_width(double, double rate, const Breaks&) {
    return fmin(10.0 / (1.0 + rate), widest_panel);
  }
};

/// f(x) = e^-|x| / 2.
struct LaplaceNoise : PlainLaw {
  static constexpr bool has_breaks = true, has_lines = true, has_cells = false;
  static constexpr double log_2 = 0x1.62e42fefa39efp-1;
  __device__ static double log_cdf(double x) { return x > 0.0 ? log1p(-0.5 * exp(-x)) : x - log_2; }
  __device__ static double ratio(double x) {
    const double half = 0.5 * exp(-fmax(x, 0.0));
    return half / (1.0 - half);
  }
  __device__ static double log_density(double x) { return -fabs(x) - log_2; }
  __device__ static double panel_width(double u, double rate, const Breaks& breaks) {
    // F has its zeros at mu - log 2, beside the break point mu.
    const double below = fmax(0.0, fmin(breaks.below, u + 40.0));
    return fmin(fmin(10.0 / (1.0 + rate), 0.69 + below), breaks.above);
  }
};

/// F(x) = 1/2 + atan(x) / pi.
struct CauchyNoise : PlainLaw {
  static constexpr bool has_breaks = true, is_heavy = true;  // no breaks, but peaks
  static constexpr double lowest = -1.7976931348623157e308;
  static constexpr double farthest = 0x1p50;  // panels tell widths of its peak apart
  static constexpr double pi = 0x1.921fb54442d18p+1, inverse_pi = 0x1.45f306dc9c883p-2;
  /// F(-t) = atan(1 / t) / pi, for t >= 0: nothing cancels.
  __device__ static double tail(double t) {
    return t > 1.0 ? atan(1.0 / t) * inverse_pi : fma(-inverse_pi, atan(t), 0.5);
  }
  __device__ static double log_cdf(double x) {
    const double q = tail(fabs(x));
    return x > 0.0 ? log1p(-q) : log(q);
  }
  __device__ static double ratio(double x) {
    const double q = tail(fabs(x));
    return 1.0 / (pi * (x > 0.0 ? 1.0 - q : q) * fma(x, x, 1.0));
  }
  __device__ static double log_density(double x) { return -log(pi * fma(x, x, 1.0)); }
  static constexpr double least_log_prob = -600.0;
  __device__ static bool has_mean() { return false; }
  __device__ static double reach(double) { return 0.0; }  // upper_bound() is enough
  __device__ static double coordinate_of(double u) { return asinh(u); }
  __device__ static double node_at(double coordinate) { return sinh(coordinate); }
  __device__ static double lower_bound(double log_floor) { return -exp(fmin(700.0, -log_floor)); }
  __device__ static double upper_bound(double mass) { return 1.0 / mass; }
  __device__ static double panel_width(double, double rate, const Breaks& breaks) {
    return fmin(10.0 / rate, 0.5 * (1.0 + fmin(breaks.below, breaks.above)));
  }
};

/// A smooth symmetric law that is only known by its table, such as Student's.
struct TabulatedNoise : PlainLaw {
  static constexpr bool has_breaks = true, is_heavy = true, is_tabulated = true;  // peaks
  static constexpr double lowest = -1.7976931348623157e308;
  static constexpr double farthest = 0x1p50;  // panels tell widths of its peak apart
  static constexpr double least_log_prob = -2e4;
  NoiseTable table;

  __device__ bool has_mean() const { return table.tail_index > 1.0; }
  __device__ double cell_width() const { return 0.5 * fmin(1.0, table.width); }
  /// The value at x of the function with these polynomials. Beyond the table it is that at its
  /// end, but for classes that are left out, of which x is infinite.
  __device__ double value(const double* coefficients, double x) const {
    const double cells = (asinh(x / table.width) - table.low) / table.step;
    const double cell = fmin(fmax(floor(cells), 0.0), static_cast<double>(table.cells) - 1.0);
    const double t = fmin(fmax(2.0 * (cells - cell) - 1.0, -1.0), 1.0);
    const double* c = coefficients + static_cast<std::size_t>(cell) * NoiseTable::terms;
    double sum = c[NoiseTable::terms - 1];
#pragma unroll
    for (int k = static_cast<int>(NoiseTable::terms) - 2; k >= 0; --k) sum = fma(sum, t, c[k]);
    return sum;
  }
  __device__ double log_cdf(double x) const {
    return x < infinity<double>() ? value(table.log_cdf, x) : 0.0;
  }
  __device__ double log_ratio(double x) const {
    return x < infinity<double>() ? value(table.log_ratio, x) : -infinity<double>();
  }
  __device__ double ratio(double x) const { return exp(log_ratio(x)); }
  /// The x above which a density like (distance + x)^-tail_index has e^-40 of its mass above 0.
  __device__ double reach(double distance) const {
    return fmin(distance * expm1(40.0 / table.tail_index), 1e150);
  }
  __device__ static double coordinate_of(double u) { return asinh(u); }
  __device__ static double node_at(double coordinate) { return sinh(coordinate); }
  __device__ double lower_bound(double log_floor) const {
    double low = table.low, high = 0.0;  // of asinh(u / width)
    for (int step = 0; step < 40; ++step) {
      const double middle = 0.5 * (low + high);
      (log_cdf(table.width * sinh(middle)) <= log_floor ? low : high) = middle;
    }
    return table.width * sinh(low);
  }
  __device__ double upper_bound(double mass) const { return -lower_bound(log(mass)); }
  __device__ double panel_width(double, double rate, const Breaks& breaks) const {
    const double singularity = fmin(1.0, table.width);
    return fmin(10.0 / rate, 0.5 * (singularity + fmin(breaks.below, breaks.above)));
  }
};

/// F(x) = x for 0 <= x <= 1: where noise begins does not matter to an argmax, and differences
/// from 0 keep their digits.
struct UniformNoise : PlainLaw {
  static constexpr bool has_breaks = true, begins_at_zero = true, has_cells = false;
  static constexpr double break_shift = 1.0;
  static constexpr double lowest = -1.0 + 0x1p-53;
  __device__ static double log_cdf(double x) {
    return x > 0.0 ? log(fmin(x, 1.0)) : -infinity<double>();
  }
  __device__ static double ratio(double x) { return x > 1.0 ? 0.0 : 1.0 / fmax(x, 0x1p-1000); }
  __device__ static double log_density(double x) {
    return 0.0 <= x && x <= 1.0 ? 0.0 : -infinity<double>();
  }
  __device__ static double coordinate_of(double u) { return log(u); }
  __device__ static double node_at(double coordinate) { return exp(coordinate); }
  __device__ static double lower_bound(double log_floor) { return exp(fmax(log_floor, -600.0)); }
  __device__ static double upper_bound(double) { return 1.0; }
  __device__ static double panel_width(double u, double rate, const Breaks& breaks) {
    return fmin(fmin(10.0 / rate, 2.0 * u), breaks.above);
  }
};

/// F(x) = 1 - e^-x for x > 0.
struct ExponentialNoise : PlainLaw {
  static constexpr bool begins_at_zero = true;
  static constexpr double cells_below = -1.5;  // log F is singular at 0, where u begins
  __device__ static double log_cdf(double x) {
    if (!(x > 0.0)) return -infinity<double>();
    return x < 0.5 ? log(-expm1(-x)) : log1p(-exp(-x));
  }
  __device__ static double ratio(double x) { return x > 0.0 ? 1.0 / expm1(x) : 0.0; }
  __device__ static double log_density(double x) { return x >= 0.0 ? -x : -infinity<double>(); }
  __device__ static double coordinate_of(double u) { return log(u); }
  __device__ static double node_at(double coordinate) { return exp(coordinate); }
  __device__ static double lower_bound(double log_floor) { return exp(fmax(log_floor, -600.0)); }
  __device__ static double panel_width(double u, double rate, const Breaks&) {
    return fmin(10.0 / (1.0 + rate), u);
  }
};

/// The law that a kernel is for, with its table if that is what it is.
template <class Law>
__device__ Law law_with(const NoiseTable& table) {
  Law law = {};
  if constexpr (Law::is_tabulated) law.table = table;
  return law;
}

}  // namespace logitkit::cuda
