// csrc/noise_argmax, for every instruction set of this machine
#include "noise_argmax/noise_argmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"
#include "noise_argmax/uniform_sweep.h"

namespace logitkit::test {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr NoiseLaw laws[] = {NoiseLaw::normal, NoiseLaw::logistic, NoiseLaw::laplace,
                             NoiseLaw::cauchy, NoiseLaw::uniform,  NoiseLaw::exponential};

template <class T>
constexpr double error = 1e-9;  // of the contract
template <>
constexpr double error<float> = 1e-5;

/// log F and f / F in long double.
long double log_ndtr(long double x) {
  const long double tail = 0.5L * std::erfc(std::abs(x) * std::sqrt(0.5L));
  return x > 0.0L ? std::log1p(-tail) : std::log(tail);
}
long double ndtr_ratio(long double x) {
  return std::exp(-0.5L * x * x - log_ndtr(x)) * 0.3989422804014326779399460599L;
}

void test_normal_law(Isa isa) {
  std::vector<double> x;
  const double step = only_small() ? 0.3125 : 0.03125;
  for (double t = -140.0; t < 36.0; t += step) x.push_back(t);
  const double zero = 0.0, one = 1.0;
  std::vector<double> logs(x.size()), ratios(x.size());
  const NoiseLoops& loops = noise_loops(isa);
  loops.log_cdf_sums({NoiseLaw::normal}, &zero, &one, 1, x.data(), x.size(), logs.data());
  loops.ratio_sums({NoiseLaw::normal}, &zero, &one, 1, x.data(), x.size(), ratios.data());
  bool logs_hold = true, ratios_hold = true;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double log = log_ndtr(x[i]), ratio = ndtr_ratio(x[i]);
    const double square = x[i] * x[i];
    const double of_log = x[i] > 0.0 ? (0x1p-51 + 0x1p-53 * square) * std::abs(double(log))
                                     : 0x1p-50 + 0x1p-52 * std::abs(double(log));
    const double of_ratio = 0x1p-49 + (x[i] > 0.0 ? 0x1p-53 * square : 0.0);
    logs_hold = logs_hold && std::abs(double(logs[i] - log)) <= of_log;
    ratios_hold = ratios_hold && std::abs(double(ratios[i] / ratio - 1.0L)) <= of_ratio;
  }
  expect(logs_hold, "log Phi is within its contract");
  expect(ratios_hold, "phi / Phi is within its contract");
}

/// Classes with one logit are equally probable, and those of two logits at the distance of the
/// closed form of two classes.
template <class T>
void test_closed_forms(Isa isa) {
  for (const NoiseLaw law : laws)
    for (const std::size_t n : {1, 2, 7, 8, 9, 300}) {
      if (only_small() && n > 9) continue;
      const std::vector<T> x(2 * n, T{3});
      std::vector<T> p(2 * n, T{7}), logs(2 * n, T{7});
      noise_argmax<T>({x.data(), 2, n, {law}, 0.5}, p.data(), logs.data(), 1, isa);
      bool equal = true;
      for (std::size_t i = 0; i < 2 * n; ++i) {
        equal = equal && std::abs(double(p[i]) * double(n) - 1.0) <= error<T>;
        equal = equal && std::abs(double(logs[i]) + std::log(double(n))) <= error<T>;
      }
      expect(equal, "equal logits have equal probabilities");
    }
  for (const double d : {0.25, 0.75}) {
    const T x[2] = {static_cast<T>(d), T{0}};
    const double a = std::exp(-d);
    const double expected[] = {
        0.5 * std::erfc(0.5 * d),    1.0 - 1.0 / (1.0 - a) + d * a / ((1.0 - a) * (1.0 - a)),
        0.5 * a * (1.0 + 0.5 * d),   0.5 - std::atan(0.5 * d) / 3.141592653589793,
        0.5 * (1.0 - d) * (1.0 - d), 0.5 * a};
    for (std::size_t i = 0; i < 6; ++i) {
      T p[2], log_p, gradient[2];
      noise_argmax<T>({x, 1, 2, {laws[i]}, 1.0}, p, nullptr, 1, isa);
      expect(std::abs(double(p[1]) / expected[i] - 1.0) <= error<T>, "two classes");
      const std::size_t index = 1;
      noise_argmax_log_prob<T>({x, 1, 2, {laws[i]}, 1.0}, &index, &log_p, gradient, 1, isa);
      const double bound = sizeof(T) == 4 ? 2e-6 : 1e-12;
      expect(std::abs(double(log_p) - std::log(expected[i])) <= bound * 8.0, "one of two classes");
      expect(gradient[0] == -gradient[1] && gradient[1] > T{0}, "its gradient");
    }
  }
}

template <class T>
void test_gradients(Isa isa) {
  std::mt19937 generator(5);
  std::normal_distribution<double> normal;
  const std::size_t n = only_small() ? 30 : 90;
  std::vector<T> x(n), ones(n, T{1}), gradients(n), p(n), raised(n);
  for (T& value : x) value = static_cast<T>(0.3 * normal(generator));
  x[4] = static_cast<T>(-inf);
  for (const NoiseLaw law : laws) {
    const NoisyLogits<T> noisy = {x.data(), 1, n, {law}, 1.0};
    noise_argmax_vjp<T>(noisy, ones.data(), gradients.data(), 1, isa);
    const auto size = [](T a, T b) { return std::abs(a) < std::abs(b); };
    const T largest = *std::max_element(gradients.begin(), gradients.end(), size);
    expect(std::abs(double(largest)) <= 2e-6, "a constant has no gradient");
    if (law == NoiseLaw::cauchy) continue;
    // p is the gradient of the expected maximum; a step of 1/256 errs by 1e-5 at most.
    noise_argmax<T>(noisy, p.data(), nullptr, 1, isa);
    const double h = 1.0 / 256.0;
    double values[2];
    for (int k = 0; k < 2; ++k) {
      std::vector<double> moved(x.begin(), x.end());
      moved[7] += k == 0 ? h : -h;
      noise_argmax_expected_max<double>({moved.data(), 1, n, {law}, 1.0}, values + k, 1, isa);
    }
    expect(std::abs((values[0] - values[1]) / (2.0 * h) - double(p[7])) <= 1e-4,
           "gradient of the expected maximum");
  }
}

/// Sums over classes in their order against those by definition, with points above and below
/// all nodes, equal ones, and nodes beside them.
void test_uniform_sweep() {
  std::mt19937_64 random(5);
  for (const double depth : {1e-6, 1e-3, 0.05, 0.2}) {
    std::uniform_real_distribution<double> uniform(0.0, depth);
    std::vector<double> points = {0.0, 0.0, -0.5 * depth, -0.5 * depth, -2.0 * depth}, nodes;
    const int classes = only_small() ? 40 : 200;
    for (int j = 0; j < classes; ++j) points.push_back(-uniform(random));
    for (int k = 0; k < classes + 100; ++k) nodes.push_back(1.0 - uniform(random));
    nodes.push_back(1.0 - depth);
    std::sort(nodes.begin(), nodes.end());
    std::vector<double> weights(points.size()), factors(nodes.size());
    for (double& w : weights) w = uniform(random) / depth;
    for (double& f : factors) f = uniform(random) / depth;
    expect(UniformSweep::suits(nodes.front()), "the series is short enough");
    UniformSweep sweep;
    sweep.take(points, nodes);
    std::vector<double> logs, ratios, integrals;
    sweep.log_cdf_sums(weights, logs);
    sweep.ratio_sums(weights, ratios);
    sweep.ratio_integrals(factors, integrals);
    std::vector<long double> sums(points.size(), 0.0L);
    bool logs_hold = true, ratios_hold = true, integrals_hold = true;
    // Rounding of a few hundred sums of positive terms, of which points and nodes have 2^-53.
    const long double error = 1e-13L;
    for (std::size_t k = 0; k < nodes.size(); ++k) {
      long double log = 0.0L, ratio = 0.0L;
      for (std::size_t c = 0; c < points.size(); ++c) {
        const long double f = static_cast<long double>(nodes[k]) - points[c];
        if (f >= 1.0L) continue;
        log += weights[c] * std::log(f);
        ratio += weights[c] / f;
        sums[c] += factors[k] / f;
      }
      logs_hold = logs_hold && std::abs(logs[k] - log) <= error * std::abs(log) + 1e-14L * ratio;
      ratios_hold = ratios_hold && std::abs(ratios[k] - ratio) <= error * ratio;
    }
    for (std::size_t c = 0; c < points.size(); ++c)
      integrals_hold = integrals_hold && std::abs(integrals[c] - sums[c]) <= error * sums[c];
    expect(logs_hold, "sums of log F");
    expect(ratios_hold, "sums of f / F over classes");
    expect(integrals_hold, "sums of f / F over nodes");
  }
  expect(!UniformSweep::suits(0.5), "the series is too long");
  UniformSweep sweep;
  std::vector<double> nothing;
  sweep.take({}, {});
  sweep.ratio_sums({}, nothing);
  expect(nothing.empty(), "no nodes");
}

}  // namespace

void test_noise_argmax() {
  test_uniform_sweep();
  for (const Isa isa : supported_isas()) {
    test_normal_law(isa);
    test_closed_forms<float>(isa);
    test_closed_forms<double>(isa);
    test_gradients<float>(isa);
    test_gradients<double>(isa);
  }
}

}  // namespace logitkit::test
