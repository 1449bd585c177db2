#include "noise_argmax/noise_argmax.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "noise_argmax/quadrature.h"
#include "simd/flush_denormals.h"
#include "threads.h"

namespace logitkit {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
// The least probability that counts: its logarithm at points is that of this one.
constexpr double least_probability = 1e-300;

/// Of the quadrature; that of the expansions over cells is below 1e-11.
template <class T>
constexpr NoiseAccuracy accuracy = {1e-11, -690.0};
template <>
constexpr NoiseAccuracy accuracy<float> = {1e-7, -90.0};

/// Calls f(quadrature, row) for all rows. Rows of a task share the memory of a quadrature.
template <class T>
void for_rows(const NoisyLogits<T>& x, std::size_t threads, Isa isa,
              const std::function<void(RowQuadrature&, std::size_t)>& f) {
  const std::size_t rows_of_task = std::max<std::size_t>(1, 4096 / x.classes);
  const std::size_t tasks = (x.rows + rows_of_task - 1) / rows_of_task;
  parallel_for(tasks, threads, [&](std::size_t task) {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    RowQuadrature quadrature(x.noise, noise_loops(isa));
    const std::size_t begin = task * rows_of_task;
    const std::size_t end = std::min(x.rows, begin + rows_of_task);
    for (std::size_t row = begin; row < end; ++row) f(quadrature, row);
  });
}

template <class T>
void place(const NoisyLogits<T>& x, RowQuadrature& quadrature, std::size_t row) {
  quadrature.place(x.logits + row * x.classes, x.classes, x.scale, accuracy<T>);
}

/// f() for each part of the nodes.
template <class F>
void for_parts(RowQuadrature& quadrature, const F& f) {
  for (std::size_t part = 0; part < quadrature.parts(); ++part) {
    quadrature.select(part);
    f();
  }
}

/// The probabilities of all classes, or their logarithms, by interpolation of logarithms: they
/// are as smooth as the tails of the noise are steep.
void interpolate_probabilities(RowQuadrature& quadrature, bool logarithms,
                               std::vector<double>& values) {
  std::vector<double> sums(values.size(), 0.0), some(values.size());
  if (quadrature.parts() == 1)
    std::fill(values.begin(), values.end(), logarithms ? -infinity : 0.0);
  for_parts(quadrature, [&] {
    std::vector<double> logs = quadrature.probabilities();
    for (double& p : logs) p = std::min(0.0, std::log(std::max(p, least_probability)));
    if (quadrature.parts() == 1) {
      quadrature.cells().interpolate(logs, !logarithms, values.data());
      return;
    }
    std::fill(some.begin(), some.end(), 0.0);
    quadrature.cells().interpolate(logs, true, some.data());
    for (std::size_t j = 0; j < sums.size(); ++j) sums[j] += some[j];
  });
  for (std::size_t j = 0; j < values.size(); ++j) {
    if (quadrature.parts() != 1) values[j] = logarithms ? std::log(sums[j]) : sums[j];
    // What is hardly more than the least one stands for zero.
    if (logarithms && values[j] < std::log(10.0 * least_probability)) values[j] = -infinity;
    if (!logarithms && values[j] < 10.0 * least_probability) values[j] = 0.0;
  }
}

std::vector<double> products(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result(a.size());
  for (std::size_t k = 0; k < a.size(); ++k) result[k] = a[k] * b[k];
  return result;
}

template <class T>
void write(const std::vector<double>& values, double factor, T* to) {
  for (std::size_t j = 0; j < values.size(); ++j) to[j] = static_cast<T>(factor * values[j]);
}

/// values[m] += sum_k masses[k] r_m(u_k) (factors[m] R(u_k) - T(u_k)), where R = sum_i r_i and
/// T = sum_i factors[i] r_i. The integrals of r_m R and r_m T are interpolated relative to those
/// of r_m alone.
template <class T>
void add_jacobian_product(RowQuadrature& quadrature, const T* factors,
                          std::vector<double>& values) {
  ClassCells& cells = quadrature.cells();
  const std::size_t n = values.size();
  std::vector<double> sums, spread, integrals, logs = quadrature.probabilities();
  std::vector<double> p(n, 0.0), of_ones(n, 0.0), of_factors(n, 0.0);
  for (double& value : logs) value = std::min(0.0, std::log(std::max(value, least_probability)));
  cells.interpolate(logs, true, p.data());
  const auto mean_ratios = [&](const std::vector<double>& weights, std::vector<double>& result) {
    quadrature.sum_ratios(weights, sums);
    quadrature.integrate(products(quadrature.masses(), sums), integrals);
    for (std::size_t c = 0; c < integrals.size(); ++c)
      integrals[c] /= std::max(quadrature.probabilities()[c], least_probability);
    cells.interpolate(integrals, false, result.data());
  };
  mean_ratios(cells.weights(), of_ones);
  cells.spread(factors, spread);
  mean_ratios(spread, of_factors);
  for (std::size_t m = 0; m < n; ++m)
    if (p[m] > 0.0)
      values[m] += p[m] * (static_cast<double>(factors[m]) * of_ones[m] - of_factors[m]);
}

}  // namespace

template <class T>
void noise_argmax(const NoisyLogits<T>& x, T* probabilities, T* log_probs, std::size_t threads,
                  Isa isa) {
  for_rows(x, threads, isa, [&](RowQuadrature& quadrature, std::size_t row) {
    place(x, quadrature, row);
    std::vector<double> values(x.classes);
    if (probabilities != nullptr) {
      interpolate_probabilities(quadrature, false, values);
      write(values, 1.0, probabilities + row * x.classes);
    }
    if (log_probs != nullptr) {
      interpolate_probabilities(quadrature, true, values);
      write(values, 1.0, log_probs + row * x.classes);
    }
  });
}

template <class T>
void noise_argmax_vjp(const NoisyLogits<T>& x, const T* cotangents, T* gradients,
                      std::size_t threads, Isa isa) {
  for_rows(x, threads, isa, [&](RowQuadrature& quadrature, std::size_t row) {
    place(x, quadrature, row);
    std::vector<double> values(x.classes, 0.0);
    for_parts(quadrature,
              [&] { add_jacobian_product(quadrature, cotangents + row * x.classes, values); });
    write(values, 1.0 / x.scale, gradients + row * x.classes);
  });
}

template <class T>
void noise_argmax_expected_max(const NoisyLogits<T>& x, T* values, std::size_t threads, Isa isa) {
  for_rows(x, threads, isa, [&](RowQuadrature& quadrature, std::size_t row) {
    const bool infinite = x.noise.law == NoiseLaw::cauchy ||
                          (x.noise.table != nullptr && x.noise.table->tail_index <= 1.0);
    if (infinite) {
      values[row] = static_cast<T>(infinity);
      return;
    }
    quadrature.place(x.logits + row * x.classes, x.classes, x.scale, accuracy<double>);
    std::vector<double> sums;
    double mean = x.noise.law == NoiseLaw::uniform ? -0.5 : 0.0;  // the kernel's noise begins at 0
    for_parts(quadrature, [&] {
      quadrature.sum_ratios(quadrature.cells().weights(), sums);
      for (std::size_t k = 0; k < sums.size(); ++k)  // the density of u is G R
        mean += quadrature.masses()[k] * sums[k] * quadrature.nodes()[k];
    });
    mean += quadrature.mean_of_tails();
    values[row] = static_cast<T>(quadrature.cells().max() + x.scale * mean);
  });
}

template <class T>
void noise_argmax_log_prob(const NoisyLogits<T>& x, const std::size_t* index, T* log_probs,
                           T* gradients, std::size_t threads, Isa isa) {
  for_rows(x, threads, isa, [&](RowQuadrature& quadrature, std::size_t row) {
    const T* logits = x.logits + row * x.classes;
    const double log_p = quadrature.log_prob(logits, x.classes, x.scale, index[row]);
    log_probs[row] = static_cast<T>(log_p);
    if (gradients == nullptr) return;
    // d log P_y / d mu_m = -E_y[r_m] for m != y, where u has the density r_y G / P_y; the
    // gradient sums to zero.
    std::vector<double> values(x.classes, 0.0), some(x.classes);
    for_parts(quadrature, [&] {
      std::fill(some.begin(), some.end(), 0.0);
      quadrature.cells().interpolate(quadrature.probabilities(), false, some.data());
      for (std::size_t m = 0; m < some.size(); ++m) values[m] -= some[m];
    });
    values[index[row]] = 0.0;
    double sum = 0.0;
    for (const double value : values) sum += value;
    values[index[row]] = -sum;
    write(values, 1.0 / x.scale, gradients + row * x.classes);
  });
}

const NoiseLoops& noise_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::noise_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::noise_loops;
#endif
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::noise_loops;
#endif
    default: return scalar::noise_loops;
  }
}

template void noise_argmax(const NoisyLogits<float>&, float*, float*, std::size_t, Isa);
template void noise_argmax(const NoisyLogits<double>&, double*, double*, std::size_t, Isa);
template void noise_argmax_vjp(const NoisyLogits<float>&, const float*, float*, std::size_t, Isa);
template void noise_argmax_vjp(const NoisyLogits<double>&, const double*, double*, std::size_t,
                               Isa);
template void noise_argmax_expected_max(const NoisyLogits<float>&, float*, std::size_t, Isa);
template void noise_argmax_expected_max(const NoisyLogits<double>&, double*, std::size_t, Isa);
template void noise_argmax_log_prob(const NoisyLogits<float>&, const std::size_t*, float*, float*,
                                    std::size_t, Isa);
template void noise_argmax_log_prob(const NoisyLogits<double>&, const std::size_t*, double*,
                                    double*, std::size_t, Isa);

}  // namespace logitkit
