// csrc/linear_argmax, for every instruction set of this machine
#include "linear_argmax/linear_argmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"

namespace logitkit::test {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

// Sizes are exact, for the sanitizer to see an over-read.
std::vector<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> x(count);
  for (float& value : x) value = distribution(random);
  return x;
}

// Of depths that are short, that have parts, and that are cut.
void test_against_scores(Isa isa, std::size_t d) {
  constexpr std::size_t m = 101, n = 150, k = 9;
  const std::vector<float> x = normal(m * d, 6), weight = normal(n * d, 7), bias = normal(n, 8);
  std::vector<float> values(m), top(m * k);
  std::vector<std::int64_t> indices(m), top_indices(m * k);
  linear_argmax({x.data(), m, d}, {weight.data(), n, d}, bias.data(), values.data(), indices.data(),
                2, isa);
  linear_topk({x.data(), m, d}, {weight.data(), n, d}, bias.data(), k, top.data(),
              top_indices.data(), 2, isa);
  bool largest = true, same = true, sorted = true;
  for (std::size_t i = 0; i < m; ++i) {
    double best = -inf;
    for (std::size_t j = 0; j < n; ++j) {
      double score = bias[j];
      for (std::size_t l = 0; l < d; ++l) score += double{x[i * d + l]} * double{weight[j * d + l]};
      best = std::max(best, score);
    }
    largest = largest && std::abs(best - double{values[i]}) <= 1e-6 * static_cast<double>(d);
    same = same && top[i * k] == values[i] && top_indices[i * k] == indices[i];
    sorted = sorted && std::is_sorted(top.rbegin() + static_cast<std::ptrdiff_t>((m - 1 - i) * k),
                                      top.rbegin() + static_cast<std::ptrdiff_t>((m - i) * k));
  }
  expect(largest, "the maximum is the largest score");
  expect(same, "the first of the top k is the maximum");
  expect(sorted, "the top k descend");
}

}  // namespace

void test_linear_argmax() {
  for (const Isa isa : supported_isas())
    for (const std::size_t d : {21u, 70u, 1100u}) test_against_scores(isa, d);
}

}  // namespace logitkit::test
