// csrc/cross_entropy, for every instruction set of this machine
#include "cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "exact_row.h"
#include "expect.h"

namespace logitkit::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <class T>
constexpr double epsilon = sizeof(T) == sizeof(float) ? 0x1p-22 : 0x1p-50;

/// Rows of logits with targets of all kinds. Sizes are exact, for the sanitizer to see an
/// over-read.
template <class T>
struct Problem {
  Problem(std::size_t rows_, std::size_t classes_) : rows(rows_), classes(classes_) {
    std::mt19937 random(static_cast<unsigned>(classes));
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform(0.1, 2.0);
    for (std::size_t i = 0; i < rows * classes; ++i) {
      logits.push_back(static_cast<T>(4.0 * normal(random)));
      targets.push_back(static_cast<T>(uniform(random) / static_cast<double>(classes)));
    }
    for (std::size_t j = 0; j < classes; ++j) weight.push_back(static_cast<T>(uniform(random)));
    for (std::size_t i = 0; i < rows; ++i)
      labels.push_back(static_cast<std::int64_t>(random() % classes));
    if (rows > 2) labels[1] = -1;
  }
  CrossEntropyInput<T> input(bool soft, bool weighted, double smoothing, double z_loss) const {
    return {logits.data(),
            rows,
            classes,
            labels.data(),
            soft ? targets.data() : nullptr,
            weighted ? weight.data() : nullptr,
            smoothing,
            z_loss};
  }
  std::size_t rows, classes;
  std::vector<T> logits, targets, weight;
  std::vector<std::int64_t> labels;
};

template <class T>
void test_rows(const CrossEntropyInput<T>& in, Isa isa) {
  const std::size_t n = in.classes;
  std::vector<double> values(in.rows, nan), logsumexp(in.rows, nan);
  std::vector<T> gradient(in.rows * n, static_cast<T>(nan));
  cross_entropy<T>(in, {values.data(), logsumexp.data(), gradient.data()}, 2, isa);
  bool good_values = true, good_gradients = true, left_out = true;
  for (std::size_t i = 0; i < in.rows; ++i) {
    const T* of_row = gradient.data() + i * n;
    if (in.labels[i] < 0) {
      left_out = left_out && values[i] == 0.0 &&
                 std::all_of(of_row, of_row + n, [](T g) { return g == T{0}; });
      continue;
    }
    const ExactRow<T> row(std::vector<T>(in.logits + i * n, in.logits + (i + 1) * n));
    const long double lse = row.max + row.log_sum;
    std::vector<long double> share(n);
    long double value = in.z_loss * lse * lse, mass = 0.0L;
    for (std::size_t j = 0; j < n; ++j) {
      const bool own = in.targets == nullptr && in.labels[i] == static_cast<std::int64_t>(j);
      const long double t = in.targets != nullptr ? in.targets[i * n + j] : own ? 1.0L : 0.0L;
      const long double w = in.class_weight != nullptr ? in.class_weight[j] : T{1};
      share[j] = w * ((1.0L - in.smoothing) * t + in.smoothing / static_cast<long double>(n));
      mass += share[j];
      value -= share[j] * row.log_softmax(j);
    }
    const long double scale = epsilon<T> * std::max(1.0L, mass + 2.0L * in.z_loss * std::abs(lse));
    good_values = good_values && std::abs(values[i] - value) <= scale * (1.0L + std::abs(value));
    good_values = good_values && std::abs(logsumexp[i] - lse) <= epsilon<T> * (1 + std::abs(lse));
    for (std::size_t j = 0; j < n; ++j) {
      const long double slope = (mass + 2.0L * in.z_loss * lse) * row.softmax(j) - share[j];
      good_gradients = good_gradients && std::abs(of_row[j] - slope) <= scale;
    }
  }
  expect(good_values, "values are within the contract");
  expect(good_gradients, "gradients are within the contract");
  expect(left_out, "a row that takes no part has value and gradient 0");
}

template <class T>
void test_types(Isa isa) {
  for (const std::size_t classes : {1u, 2u, 7u, 16u, 17u, 33u, 64u, 65u, 1000u}) {
    const Problem<T> problem(classes > 100 ? 3 : 35, classes);
    test_rows(problem.input(false, false, 0.0, 0.0), isa);
    test_rows(problem.input(false, true, 0.0, 0.0), isa);
    test_rows(problem.input(false, true, 0.1, 1e-3), isa);
    test_rows(problem.input(true, false, 0.0, 0.0), isa);
    test_rows(problem.input(true, true, 0.1, 1e-3), isa);
  }
  CrossEntropyInput<T> none = {};
  cross_entropy<T>(none, {nullptr, nullptr, nullptr}, 1, isa);
}

}  // namespace

void test_cross_entropy() {
  for (const Isa isa : supported_isas()) {
    test_types<float>(isa);
    test_types<double>(isa);
  }
}

}  // namespace logitkit::test
