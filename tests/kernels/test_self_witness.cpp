// csrc/self_witness, for every instruction set of this machine
#include "self_witness/self_witness.h"

#include <algorithm>
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

void test_against_margins(Isa isa) {
  constexpr std::size_t n = 210, r = 70;
  std::vector<float> z = normal(n * r, 9);
  std::copy_n(z.begin(), r, z.begin() + r);  // twins: neither is its own witness
  constexpr double error = (r + 8) * 0x1p-24;
  std::vector<float> tails(witness_tails(r) * n), squares(n), slack(n, inf);
  expect(prepare_self_witness({z.data(), n, r}, error, tails.data(), squares.data(), 2) == n,
         "rows are finite");
  self_witness({z.data(), n, r}, tails.data(), squares.data(), 0, n, slack.data(), 2, isa);
  bool sound = true, complete = true;
  for (std::size_t i = 0; i < n; ++i) {
    double margin = inf;
    for (std::size_t j = 0; j < n; ++j) {
      double to_j = 0.0;
      for (std::size_t l = 0; l < r; ++l)
        to_j += double{z[i * r + l]} * (double{z[i * r + l]} - double{z[j * r + l]});
      if (j != i) margin = std::min(margin, to_j);
    }
    sound = sound && (slack[i] == 0.0f || double{slack[i]} <= margin);
    complete = complete && (margin < 0.01 || slack[i] > 0.0f);
  }
  expect(sound, "a positive slack bounds the margin");
  expect(complete, "a clear margin is found");
  expect(slack[0] == 0.0f && slack[1] == 0.0f, "twins are not settled");
}

}  // namespace

void test_self_witness() {
  for (const Isa isa : supported_isas()) test_against_margins(isa);
}

}  // namespace logitkit::test
