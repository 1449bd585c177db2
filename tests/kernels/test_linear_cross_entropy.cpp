// csrc/linear_cross_entropy, for every instruction set of this machine
#include "linear_cross_entropy/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"

namespace logitkit::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// A layer with targets. Sizes are exact, for the sanitizer to see an over-read.
template <class T>
struct Layer {
  Layer(std::size_t rows_, std::size_t depth_, std::size_t classes_)
      : rows(rows_), depth(depth_), classes(classes_) {
    std::mt19937 random(static_cast<unsigned>(rows + 100 * depth + 10000 * classes));
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<T>& x, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) x.push_back(static_cast<T>(normal(random)));
    };
    fill(input, rows * depth);
    fill(weight, classes * depth);
    fill(bias, classes);
    fill(class_weight, classes);
    fill(targets, rows * classes);
    for (std::size_t i = 0; i < rows; ++i) {
      labels.push_back(i % 5 == 3 ? -1 : static_cast<std::int64_t>(random() % classes));
      for (std::vector<double>* of : {&base, &slope, &peak, &spread}) of->push_back(normal(random));
    }
  }
  LayerLossInput<T> problem(bool soft, bool biased, T softcap) const {
    return {input.data(),
            weight.data(),
            biased ? bias.data() : nullptr,
            rows,
            classes,
            depth,
            softcap,
            labels.data(),
            soft ? targets.data() : nullptr,
            soft ? class_weight.data() : nullptr};
  }
  std::size_t rows, depth, classes;
  std::vector<T> input, weight, bias, class_weight, targets;
  std::vector<std::int64_t> labels;
  std::vector<double> base, slope, peak, spread;
};

/// The logits of one row, and their bound: see linear_cross_entropy.h.
template <class T>
struct Logits {
  Logits(const LayerLossInput<T>& in, std::size_t row) {
    for (std::size_t j = 0; j < in.classes; ++j) {
      double s = in.bias == nullptr ? 0.0 : double{in.bias[j]}, size = 0.0;
      for (std::size_t d = 0; d < in.depth; ++d) {
        const double term =
            double{in.input[row * in.depth + d]} * double{in.weight[j * in.depth + d]};
        s += term;
        size += std::abs(term);
      }
      const double cap = in.softcap;
      z.push_back(cap > 0.0 ? cap * std::tanh(s / cap) : s);
      const double b = in.bias == nullptr ? 0.0 : std::abs(double{in.bias[j]});
      const double of_class = 4.0 * std::sqrt(static_cast<double>(in.depth)) * size + 4.0 * b;
      error = std::max(error, of_class + 2.0 * std::abs(z[j]));
    }
    const double max = *std::max_element(z.begin(), z.end());
    double sum = 0.0;
    for (const double x : z) sum += std::exp(x - max);
    logsumexp = max + std::log(sum);
  }
  std::vector<double> z;
  double logsumexp, error = 0.0;
};

template <class T>
void test_layer(const Layer<T>& layer, bool soft, bool biased, T softcap, Isa isa) {
  const LayerLossInput<T> in = layer.problem(soft, biased, softcap);
  const std::size_t n = in.classes, depth = in.depth;
  // The errors of the sums in double that are compared with stay below this for double, too.
  const double u = sizeof(T) == sizeof(float) ? 0x1p-24 : 0x1p-51;
  std::vector<double> logsumexp(in.rows, nan), entropy(in.rows, nan), target(in.rows, nan),
      total(in.rows, nan), again(in.rows, nan);
  std::vector<std::int64_t> best(in.rows, -7);
  linear_cross_entropy<T>(
      in, {logsumexp.data(), entropy.data(), target.data(), total.data(), best.data()}, 2, isa);
  std::vector<T> of_input(in.rows * depth, T(nan)), of_weight(n * depth, T(nan)),
      of_bias(n, T(nan));
  linear_cross_entropy_gradient<T>(
      in, {layer.base.data(), layer.slope.data(), layer.peak.data(), layer.spread.data()},
      {again.data(), nullptr, nullptr, nullptr, nullptr},
      {of_input.data(), of_weight.data(), of_bias.data()}, 2, isa);

  bool statistics = true, same = true, left_out = true, first = true;
  std::vector<double> to_input(in.rows * depth), to_weight(n * depth), to_bias(n);
  double largest = 0.0, slack = 0.0;
  for (std::size_t i = 0; i < in.rows; ++i) {
    if (in.labels[i] < 0) {
      left_out = left_out && std::isnan(logsumexp[i]) && of_input[i * depth] == T{0};
      continue;
    }
    const Logits<T> row(in, i);
    const double s = u * row.error;
    same = same && again[i] == logsumexp[i];
    statistics = statistics && std::abs(logsumexp[i] - row.logsumexp) <= s + 128.0 * u;
    double exact_entropy = 0.0, exact_target = 0.0, size = 0.0;
    for (std::size_t j = 0; j < n; ++j) {
      const double z = row.z[j], p = std::exp(z - row.logsumexp);
      exact_entropy += p * (row.logsumexp - z);
      const double w = soft ? double{in.class_weight[j]} : 1.0;
      const bool own = !soft && in.labels[i] == static_cast<std::int64_t>(j);
      const double t = soft ? w * double{in.targets[i * n + j]} : own ? 1.0 : 0.0;
      exact_target += t * z;
      size += std::abs(t) * (s + 128.0 * u * std::abs(z));
      const double factor = layer.base[i] + layer.slope[i] * row.logsumexp;
      double g = factor * p - layer.peak[i] * t - w * layer.spread[i];
      if (softcap > 0) g *= 1.0 - (z / double{softcap}) * (z / double{softcap});
      to_bias[j] += g;
      for (std::size_t d = 0; d < depth; ++d) {
        to_input[i * depth + d] += g * double{in.weight[j * depth + d]};
        to_weight[j * depth + d] += g * double{in.input[i * depth + d]};
      }
      largest = std::max(largest, std::abs(g) + std::abs(factor));
      slack = std::max(slack, s);
    }
    const double of_entropy = (2.0 * s + 128.0 * u) * (1.0 + std::log(static_cast<double>(n)));
    statistics = statistics && std::abs(entropy[i] - exact_entropy) <= of_entropy;
    statistics = statistics && std::abs(target[i] - exact_target) <= size + s;
    first = first && row.z[static_cast<std::size_t>(best[i])] >=
                         *std::max_element(row.z.begin(), row.z.end()) - 2.0 * s;
  }
  expect(statistics, "statistics are within the contract");
  expect(first, "the best class has the largest logit");
  expect(same, "the gradient computes the same log-sum-exp");
  expect(left_out, "a row that takes no part has gradient 0, and no statistics");
  const double terms = static_cast<double>(std::max(n, in.rows));
  const double bound = 8.0 * terms * largest * (slack + 64.0 * u + 4.0 * u * std::sqrt(terms));
  const auto near = [bound](const std::vector<T>& x, const std::vector<double>& exact) {
    bool good = true;
    for (std::size_t k = 0; k < x.size(); ++k)
      good = good && std::abs(double{x[k]} - exact[k]) <= bound;
    return good;
  };
  expect(near(of_input, to_input), "the gradient of the input");
  expect(near(of_weight, to_weight), "the gradient of the weight");
  expect(near(of_bias, to_bias), "the gradient of the bias");
}

template <class T>
void test_types(Isa isa) {
  constexpr std::size_t sizes[][3] = {{1, 1, 1},    {3, 7, 2},    {17, 16, 63},  {24, 8, 64},
                                      {49, 5, 129}, {50, 49, 65}, {101, 33, 300}};
  for (const auto& [rows, depth, classes] : sizes) {
    const Layer<T> layer(rows, depth, classes);
    test_layer<T>(layer, false, false, T{0}, isa);
    test_layer<T>(layer, false, true, T{3}, isa);
    test_layer<T>(layer, true, true, T{0}, isa);
  }
}

}  // namespace

void test_linear_cross_entropy() {
  for (const Isa isa : supported_isas()) {
    test_types<float>(isa);
    test_types<double>(isa);
  }
}

}  // namespace logitkit::test
