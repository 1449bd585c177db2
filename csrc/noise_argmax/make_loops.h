// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "noise_argmax/laws.h"
#include "noise_argmax/loops.h"

namespace logitkit {
namespace {

template <class V>
struct LogCdf {
  template <class Law>
  static V of(const Law& law, V x) {
    return law.log_cdf(x);
  }
};
template <class V>
struct Ratio {
  template <class Law>
  static V of(const Law& law, V x) {
    return law.ratio(x);
  }
};

/// sums[i] = sum_j weights[j] g(sign * (lanes[i] - others[j])), g being of that law.
template <class V, class Law, class G, bool swapped>
inline void pair_sums(const Law& law, const double* others, const double* weights,
                      std::size_t others_count, const double* lanes, std::size_t lanes_count,
                      double* sums) {
  constexpr std::size_t width = V::width;
  std::size_t i = 0;
  const auto term = [&](V x, std::size_t j) {
    const V other = V::all(others[j]);
    return G::of(law, swapped ? other - x : x - other);
  };
  for (; i + width < lanes_count; i += 2 * width) {
    const std::size_t rest = lanes_count - i - width, n = rest < width ? rest : width;
    const V x = V::load(lanes + i), y = V::load_first(lanes + i + width, n, V::all(0));
    V sum_x = V::all(0), sum_y = V::all(0);
    for (std::size_t j = 0; j < others_count; ++j) {
      const V weight = V::all(weights[j]);
      sum_x = fma(weight, term(x, j), sum_x);
      sum_y = fma(weight, term(y, j), sum_y);
    }
    sum_x.store(sums + i);
    sum_y.store_first(sums + i + width, n);
  }
  for (; i < lanes_count; i += width) {
    const std::size_t rest = lanes_count - i, n = rest < width ? rest : width;
    const V x = V::load_first(lanes + i, n, V::all(0));
    V sum = V::all(0);
    for (std::size_t j = 0; j < others_count; ++j) sum = fma(V::all(weights[j]), term(x, j), sum);
    sum.store_first(sums + i, n);
  }
}

template <class V, class G, bool swapped>
void sums_for(const Noise& noise, const double* others, const double* weights,
              std::size_t others_count, const double* lanes, std::size_t lanes_count,
              double* sums) {
  const auto run = [&](auto law) {
    pair_sums<V, decltype(law), G, swapped>(law, others, weights, others_count, lanes, lanes_count,
                                            sums);
  };
  switch (noise.law) {
    case NoiseLaw::normal: return run(NormalLaw<V>());
    case NoiseLaw::logistic: return run(LogisticLaw<V>());
    case NoiseLaw::laplace: return run(LaplaceLaw<V>());
    case NoiseLaw::cauchy: return run(CauchyLaw<V>());
    case NoiseLaw::uniform: return run(UniformLaw<V>());
    case NoiseLaw::exponential: return run(ExponentialLaw<V>());
    case NoiseLaw::tabulated: return run(TabulatedLaw<V>{noise.table});
  }
}

/// T_(k+1)(t) = 2 t T_k(t) - T_(k-1)(t).
template <class V>
void chebyshev_moments(const double* t, const double* factors, std::size_t count, double* moments) {
  constexpr std::size_t width = V::width;
  V sums[cell_terms];
#pragma GCC unroll 14
  for (std::size_t k = 0; k < cell_terms; ++k) sums[k] = V::all(0);
  for (std::size_t j = 0; j < count; j += width) {
    const std::size_t n = count - j < width ? count - j : width;
    const V x = V::load_first(t + j, n, V::all(0));
    const V marked = V::load_first(t + j, n, V::all(4));  // |t| <= 1
    const V unit = select(greater(marked, V::all(2)), V::all(0), V::all(1));
    V before = factors == nullptr ? unit : V::load_first(factors + j, n, V::all(0));
    V now = before * x;
    const V twice = x + x;
    sums[0] = sums[0] + before;
#pragma GCC unroll 13
    for (std::size_t k = 1; k < cell_terms; ++k) {
      sums[k] = sums[k] + now;
      const V next = fms(twice, now, before);
      before = now;
      now = next;
    }
  }
  for (std::size_t k = 0; k < cell_terms; ++k) moments[k] = sum_of_lanes(sums[k]);
}

/// By Clenshaw's recurrence.
template <class V>
void chebyshev_values(const double* coefficients, bool exponential, const double* t,
                      std::size_t count, double* values) {
  constexpr std::size_t width = V::width;
  for (std::size_t j = 0; j < count; j += width) {
    const std::size_t n = count - j < width ? count - j : width;
    const V x = V::load_first(t + j, n, V::all(0));
    const V twice = x + x;
    V b1 = V::all(0), b2 = V::all(0);
#pragma GCC unroll 13
    for (std::size_t k = cell_terms - 1; k > 0; --k) {
      const V b = fma(twice, b1, V::all(coefficients[k]) - b2);
      b2 = b1;
      b1 = b;
    }
    V value = fma(x, b1, V::all(coefficients[0]) - b2);
    if (exponential) value = exp_of_negative(value);
    value.store_first(values + j, n);
  }
}

template <class V>
constexpr NoiseLoops make_loops() {
  return {sums_for<V, LogCdf<V>, false>, sums_for<V, Ratio<V>, false>, sums_for<V, Ratio<V>, true>,
          chebyshev_moments<V>, chebyshev_values<V>};
}

}  // namespace
}  // namespace logitkit
