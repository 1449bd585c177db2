// csrc/softmax_stats, for every instruction set of this machine
#include "softmax_stats/softmax_stats.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "exact_row.h"
#include "expect.h"

namespace logitkit::test {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <class T>
struct Arrays {
  explicit Arrays(std::size_t items) : memory(4 * items, T{7}), items(items) {}
  SoftmaxStats<T> pointers() {
    T* p = memory.data();
    return {p, p + items, p + 2 * items, p + 3 * items};
  }
  std::vector<T> memory;
  std::size_t items;
};

struct Stats {
  long double logsumexp, entropy, max, sum_of_squares;
};

/// The statistics of one item that lies `step` elements apart, between items of NaN.
template <class T>
Stats of_item(const std::vector<T>& x, std::size_t step, T scale, Isa isa) {
  std::vector<T> array(x.size() * step, static_cast<T>(nan));  // exact, for the sanitizer
  for (std::size_t j = 0; j < x.size(); ++j) array[j * step + step / 2] = x[j];
  Arrays<T> out(step);
  const SoftmaxStats<T> to = out.pointers();
  softmax_stats(array.data(), {1, x.size(), step}, scale, to, 1, isa);
  bool others = true;
  for (std::size_t i = 0; i < step; ++i)
    for (const T* p : {to.logsumexp, to.entropy, to.max, to.sum_of_squares})
      others = others && (x.empty() || i == step / 2 || std::isnan(p[i]));
  expect(others, "items do not touch each other");
  const std::size_t i = step / 2;
  return {to.logsumexp[i], to.entropy[i], to.max[i], to.sum_of_squares[i]};
}

/// What the contract speaks of.
struct Exact {
  Stats stats;
  long double size;  // of the largest |z|
};

template <class T>
Exact exact(const std::vector<T>& x, T scale) {
  std::vector<long double> p, mean, squares;
  Exact result = {{0, 0, -inf, 0}, 0};
  const auto z = [&](std::size_t j) { return static_cast<long double>(x[j]) * scale; };
  for (std::size_t j = 0; j < x.size(); ++j) {
    if (std::isinf(x[j])) continue;
    result.stats.max = std::max(result.stats.max, z(j));
    result.size = std::max(result.size, std::abs(z(j)));
  }
  for (std::size_t j = 0; j < x.size(); ++j) {
    if (std::isinf(x[j])) continue;
    const long double distance = z(j) - result.stats.max;
    p.push_back(std::exp(distance));
    mean.push_back(p.back() * distance);
    squares.push_back(p.back() * p.back());
  }
  const auto total = [](const std::vector<long double>& v) {
    return pairwise_sum(v.data(), v.size());
  };
  const long double sum = total(p);
  result.stats.logsumexp = result.stats.max + std::log(sum);
  result.stats.entropy = std::log(sum) - total(mean) / sum;
  result.stats.sum_of_squares = total(squares) / sum / sum;
  return result;
}

template <class T>
void expect_contract(const std::vector<T>& x, std::size_t step, T scale, Isa isa) {
  const long double e = sizeof(T) == sizeof(float) ? 0x1p-22L : 0x1p-50L;
  const Exact truth = exact(x, scale);
  const Stats actual = of_item(x, step, scale, isa);
  const auto within = [](long double a, long double b, long double error) {
    return a == b || std::abs(a - b) <= error;
  };
  const Stats& t = truth.stats;
  const long double error =
      e * (1 + truth.size + std::log(static_cast<long double>(std::max<std::size_t>(1, x.size()))));
  const bool log = within(actual.logsumexp, t.logsumexp, error);
  const bool entropy = within(actual.entropy, t.entropy, error);
  const bool squares = within(actual.sum_of_squares, t.sum_of_squares, error * t.sum_of_squares);
  expect(log, "logsumexp within its error");
  expect(entropy && actual.entropy >= 0, "entropy within its error");
  expect(squares && actual.sum_of_squares <= 1, "sum of squares within its error");
  expect(actual.max == static_cast<T>(t.max), "max");
  if (!log || !entropy || !squares || actual.max != static_cast<T>(t.max))
    std::printf(
        "  isa %d, %zu bytes, %zu terms from %.9g up to %.9Lg, scale %g, step %zu: in e "
        "logsumexp %.3Lg, entropy %.3Lg, squares %.3Lg relative\n",
        static_cast<int>(isa), sizeof(T), x.size(), double{x[0]}, t.max, double{scale}, step,
        (actual.logsumexp - t.logsumexp) / e, (actual.entropy - t.entropy) / e,
        (actual.sum_of_squares / t.sum_of_squares - 1) / e);
}

template <class T>
void test_lengths(Isa isa) {
  std::mt19937 random(1);
  for (const std::size_t n : {1,  2,  3,  4,  5,  7,  8,  9,   15,  16,  17,  31,  32,
                              33, 63, 64, 65, 66, 95, 96, 127, 128, 129, 255, 257, 900})
    for (const double spread : {0.01, 3.0, 40.0}) {
      std::normal_distribution<double> normal(2.0, spread);
      std::vector<T> x(n);
      for (T& value : x) value = static_cast<T>(normal(random));
      for (const std::size_t step : {1, 3, 17}) expect_contract(x, step, T{1}, isa);
      for (const double scale : {0.0, 1e-3, 0.7, 30.0})
        expect_contract(x, 1, static_cast<T>(scale), isa);
    }
}

template <class T>
void test_hard_rows(Isa isa) {
  static const std::vector<ExactRow<T>> rows = hard_rows<T>();
  for (const ExactRow<T>& row : rows)
    if (std::abs(row.max) <= std::sqrt(double{std::numeric_limits<T>::max()}))
      for (const std::size_t step : {1, 3}) expect_contract(row.x, step, T{1}, isa);
}

template <class T>
void test_specials(Isa isa) {
  const auto is = [](const Stats& s, double log, double entropy, double max, double squares) {
    const auto same = [](long double a, double b) {
      return a == b || (std::isnan(a) && std::isnan(b));
    };
    return same(s.logsumexp, log) && same(s.entropy, entropy) && same(s.max, max) &&
           same(s.sum_of_squares, squares);
  };
  for (const std::size_t step : {1, 5, 40})
    for (const T scale : {T{1}, T{0}, T{3}}) {
      expect(is(of_item<T>({}, step, scale, isa), -inf, 0, -inf, 0), "no terms");
      for (const std::size_t n : {2, 17, 70, 1500}) {
        std::vector<T> x(n, static_cast<T>(-inf));
        expect(is(of_item(x, step, scale, isa), -inf, 0, -inf, 0), "a masked row");
        x.back() = T{2};
        expect_contract(x, step, scale, isa);  // -inf counts nothing
        x.front() = static_cast<T>(inf);
        if (scale > 0) expect(is(of_item(x, step, scale, isa), inf, nan, inf, nan), "inf");
        x[n / 2] = static_cast<T>(nan);
        expect(is(of_item(x, step, scale, isa), nan, nan, nan, nan), "NaN, also past inf");
      }
    }
}

template <class T>
void test_threads_do_not_change_bits(Isa isa) {
  for (const Layout layout : {Layout{300, 133, 1}, Layout{1, 40'000, 1}, Layout{2, 133, 100}}) {
    std::vector<T> x(layout.outer * layout.terms * layout.inner);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 7919 % 1000) / T{50};
    Arrays<T> serial(layout.outer * layout.inner), parallel(serial.items);
    softmax_stats(x.data(), layout, T{1}, serial.pointers(), 1, isa);
    for (const std::size_t threads : {2, 3}) {
      if (threads == 3 && layout.terms > 30'000) continue;
      softmax_stats(x.data(), layout, T{1}, parallel.pointers(), threads, isa);
      expect(std::memcmp(serial.memory.data(), parallel.memory.data(),
                         serial.memory.size() * sizeof(T)) == 0,
             "same bits");
    }
  }
}

template <class T>
void test_all(Isa isa) {
  test_lengths<T>(isa);
  test_hard_rows<T>(isa);
  test_specials<T>(isa);
  test_threads_do_not_change_bits<T>(isa);
}

}  // namespace

void test_softmax_stats() {
  for (const Isa isa : supported_isas()) {
    test_all<float>(isa);
    test_all<double>(isa);
  }
}

}  // namespace logitkit::test
