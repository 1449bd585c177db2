// csrc/logsumexp and csrc/simd/exp_*, for every instruction set of this machine
#include "logsumexp/logsumexp.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"

namespace logitkit::test {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

double exact(const float* x, std::size_t n) {
  double max = -inf;
  for (std::size_t j = 0; j < n; ++j) max = std::max(max, double{x[j]});
  if (!std::isfinite(max)) return max;
  double sum = 0.0;
  for (std::size_t j = 0; j < n; ++j) sum += std::exp(x[j] - max);
  return max + std::log(sum);
}

float of_row(const std::vector<float>& x, Isa isa) {
  float out = nan;
  logsumexp(x.data(), 1, x.size(), &out, 1, isa);
  return out;
}

// Every exponential that the loops add up, one at a time: 1 ulp.
void test_exp(Isa isa) {
  const auto exp = [&](float x) { return logsumexp_loops(isa).sum_exp(&x, 1, 0.0f); };
  bool within = true;
  for (float x = -87.25f; x < 88.72f; x += 0.0007f) {
    const double truth = std::exp(double{x});
    const auto rounded = static_cast<float>(truth);
    const double ulp = double{std::nextafter(rounded, inf)} - double{rounded};
    within = within && std::abs(exp(x) - truth) <= ulp;
  }
  expect(within, "exp is within 1 ulp");
  expect(exp(0.0f) == 1.0 && exp(-0.0f) == 1.0, "exp(0) is exactly 1");
  expect(exp(-inf) == 0.0 && exp(inf) == inf && std::isnan(exp(nan)), "specials of exp");
  expect(exp(0x1.62e42ep+6f) < inf && exp(0x1.62e430p+6f) == inf, "exp overflows where it should");
  expect(exp(-200.0f) < 1e-37, "exp underflows to zero");
}

// Around the vector widths, the step of a partial sum, and the block.
void test_lengths(Isa isa) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 5.0f);
  for (const std::size_t n : {1,  2,  3,  4,  5,  7,   8,   9,   15,   16,   17,   31,
                              32, 33, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 5000}) {
    std::vector<float> x(n);  // its size is exact, for the sanitizer to see an over-read
    for (float& value : x) value = normal(random);
    const double truth = exact(x.data(), n);
    const double error = std::abs(double{of_row(x, isa)} - truth);
    expect(error <= 1e-6 * std::max(1.0, std::abs(truth)), "within the contract");
  }
}

void test_specials(Isa isa) {
  expect(of_row({}, isa) == -inf, "an empty row");
  for (const std::size_t n : {1, 17, 1500}) {
    std::vector<float> x(n, -inf);
    expect(of_row(x, isa) == -inf, "all -inf");
    x.back() = 2.0f;
    expect(of_row(x, isa) == 2.0f, "-inf counts nothing");
    x.front() = inf;
    expect(of_row(x, isa) == inf, "inf propagates");
    x[n / 2] = nan;
    expect(std::isnan(of_row(x, isa)), "NaN propagates, also past inf");
  }
}

void test_threads_do_not_change_bits(Isa isa) {
  const std::size_t rows = 700, cols = 333;
  std::vector<float> x(rows * cols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1000) / 50.0f;
  std::vector<float> serial(rows), parallel(rows);
  logsumexp(x.data(), rows, cols, serial.data(), 1, isa);
  for (const std::size_t threads : {2, 3, 8}) {
    logsumexp(x.data(), rows, cols, parallel.data(), threads, isa);
    expect(std::memcmp(serial.data(), parallel.data(), rows * sizeof(float)) == 0, "same bits");
  }
}

}  // namespace

void test_logsumexp() {
  for (const Isa isa : supported_isas()) {
    test_exp(isa);
    test_lengths(isa);
    test_specials(isa);
    test_threads_do_not_change_bits(isa);
  }
}

}  // namespace logitkit::test
