// csrc/logsumexp, for every instruction set of this machine
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

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <class T>
double exact(const std::vector<T>& x) {
  long double max = -inf;
  for (const T value : x) max = std::max(max, static_cast<long double>(value));
  if (!std::isfinite(static_cast<double>(max))) return static_cast<double>(max);
  long double sum = 0.0;
  for (const T value : x) sum += std::exp(static_cast<long double>(value) - max);
  return static_cast<double>(max + std::log(sum));
}

/// logsumexp of one item that lies `step` elements apart, between items of NaN.
template <class T>
double of_item(const std::vector<T>& x, std::size_t step, Isa isa) {
  std::vector<T> array(x.size() * step, static_cast<T>(nan));  // exact, for the sanitizer
  for (std::size_t j = 0; j < x.size(); ++j) array[j * step + step / 2] = x[j];
  std::vector<T> out(step, T{0});
  logsumexp(array.data(), {1, x.size(), step}, out.data(), 1, isa);
  for (std::size_t i = 0; i < step; ++i)
    if (i != step / 2)
      expect(x.empty() ? out[i] == -inf : std::isnan(out[i]), "items do not touch each other");
  return double{out[step / 2]};
}

template <class T>
double ulp(double of) {
  const T rounded = std::abs(static_cast<T>(of));
  return double{std::nextafter(rounded, std::numeric_limits<T>::infinity())} - double{rounded};
}

// Around the vector widths, the unrolled steps, short rows and strips of columns.
template <class T>
void test_lengths(Isa isa) {
  std::mt19937 random(1);
  for (const std::size_t n : {1,  2,  3,  4,  5,  7,  8,  9,   15,  16,  17,  31,  32,
                              33, 63, 64, 65, 66, 95, 96, 127, 128, 129, 255, 257, 1100}) {
    for (const double spread : {0.01, 3.0, 40.0}) {
      for (const std::size_t step : {1, 3, 17}) {
        std::normal_distribution<double> normal(2.0, spread);
        std::vector<T> x(n);
        for (T& value : x) value = static_cast<T>(normal(random));
        const double truth = exact(x);
        const double tolerance = std::max(ulp<T>(truth), 1e-17);  // of the truth, where tiny
        expect(std::abs(of_item(x, step, isa) - truth) <= tolerance, "within 1 ulp");
      }
    }
  }
}

template <class T>
void test_specials(Isa isa) {
  for (const std::size_t step : {1, 5}) {
    expect(of_item<T>({}, step, isa) == -inf, "no terms");
    for (const std::size_t n : {1, 17, 70, 1500}) {
      std::vector<T> x(n, static_cast<T>(-inf));
      expect(of_item(x, step, isa) == -inf, "all -inf");
      x.back() = T{2};
      expect(of_item(x, step, isa) == 2.0, "-inf counts nothing");
      x.front() = static_cast<T>(inf);
      expect(of_item(x, step, isa) == inf, "inf propagates");
      x[n / 2] = static_cast<T>(nan);
      expect(std::isnan(of_item(x, step, isa)), "NaN propagates, also past inf");
    }
    const double largest = std::numeric_limits<T>::max();
    for (const double value : {largest, -largest, 1e30, -1e7, 0.0, 1e-40})
      expect(of_item<T>({static_cast<T>(value)}, step, isa) == double{static_cast<T>(value)},
             "one term is its own logsumexp");
  }
}

template <class T>
void test_cancellation(Isa isa) {
  const T p = static_cast<T>(std::log(0.3L)), q = static_cast<T>(std::log(0.7L));
  const long double truth =
      std::log(std::exp(static_cast<long double>(p)) + std::exp(static_cast<long double>(q)));
  // long double knows the truth to 2^-64 only.
  const double tolerance = ulp<T>(static_cast<double>(truth)) + 0x1p-62;
  expect(std::abs(of_item<T>({p, q}, 1, isa) - static_cast<double>(truth)) <= tolerance,
         "log p and log(1 - p)");
  const auto tiny = static_cast<T>(std::exp(-60.0L));
  expect(std::abs(of_item<T>({T{0}, T{-60}}, 1, isa) / double{tiny} - 1.0) < 1e-6, "log1p");
}

template <class T>
void test_threads_do_not_change_bits(Isa isa) {
  for (const Layout layout : {Layout{700, 133, 1}, Layout{1, 100'000, 1}, Layout{3, 99, 600}}) {
    std::vector<T> x(layout.outer * layout.terms * layout.inner);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 7919 % 1000) / T{50};
    std::vector<T> serial(layout.outer * layout.inner), parallel(serial.size());
    logsumexp(x.data(), layout, serial.data(), 1, isa);
    for (const std::size_t threads : {2, 3, 8}) {
      logsumexp(x.data(), layout, parallel.data(), threads, isa);
      expect(std::memcmp(serial.data(), parallel.data(), serial.size() * sizeof(T)) == 0,
             "same bits");
    }
  }
}

template <class T>
void test_all(Isa isa) {
  test_lengths<T>(isa);
  test_specials<T>(isa);
  test_cancellation<T>(isa);
  test_threads_do_not_change_bits<T>(isa);
}

}  // namespace

void test_logsumexp() {
  for (const Isa isa : supported_isas()) {
    test_all<float>(isa);
    test_all<double>(isa);
  }
}

}  // namespace logitkit::test
