// A row of terms and what softmax and its relatives make of it, in long double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "sum_exp/loops.h"

namespace logitkit::test {

/// The unit in the last place of T at a number.
template <class T>
double ulp(double of) {
  using Limits = std::numeric_limits<T>;
  const int exponent =
      of == 0.0 ? Limits::min_exponent - 1 : std::max(std::ilogb(of), Limits::min_exponent - 1);
  return std::ldexp(1.0, exponent - (Limits::digits - 1));
}

/// The distance of a result from the truth, in ulp of T. The truth may be beyond T's range.
template <class T>
double error_in_ulp(T actual, long double truth) {
  if (static_cast<long double>(actual) == truth || actual == static_cast<T>(truth)) return 0.0;
  if (std::isnan(actual)) return std::numeric_limits<double>::infinity();
  const auto error = static_cast<double>(static_cast<long double>(actual) - truth);
  return std::abs(error) / ulp<T>(static_cast<double>(truth));
}

/// Sums by halves, so that millions of equal terms do not add up their errors.
inline long double pairwise_sum(const long double* x, std::size_t n) {
  if (n < 8) {
    long double sum = 0.0L;
    for (std::size_t i = 0; i < n; ++i) sum += x[i];
    return sum;
  }
  return pairwise_sum(x, n / 2) + pairwise_sum(x + n / 2, n - n / 2);
}

/// A row without NaN and +inf, with one finite term at least. The results are good for tests
/// to a few percent of an ulp of double where long double has 64 bits.
template <class T>
class ExactRow {
 public:
  explicit ExactRow(std::vector<T> terms) : x(std::move(terms)), exp_(x.size()) {
    max = *std::max_element(x.begin(), x.end());
    std::size_t largest = 0;
    std::vector<long double> others;
    for (std::size_t j = 0; j < x.size(); ++j) {
      exp_[j] = j > 0 && x[j] == x[j - 1] ? exp_[j - 1] : std::exp(distance(j));
      if (distance(j) == 0.0L)
        ++largest;
      else
        others.push_back(exp_[j]);
    }
    const long double rest = pairwise_sum(others.data(), others.size());
    sum_ = static_cast<long double>(largest) + rest;
    log_sum = largest == 1 ? std::log1p(rest) : std::log(sum_);
  }

  std::vector<T> x;
  long double max;
  long double log_sum;  // logsumexp - max

  long double softmax(std::size_t j) const { return exp_[j] / sum_; }
  long double log_softmax(std::size_t j) const { return distance(j) - log_sum; }

 private:
  long double distance(std::size_t j) const { return static_cast<long double>(x[j]) - max; }

  std::vector<long double> exp_;
  long double sum_;
};

/// Rows whose bases rise, cancel, overflow or drift.
template <class T>
std::vector<ExactRow<T>> hard_rows() {
  constexpr double inf = std::numeric_limits<double>::infinity();
  constexpr double largest = std::numeric_limits<T>::max();
  constexpr bool is_double = sizeof(T) == sizeof(double);
  std::vector<ExactRow<T>> rows;
  const auto number = [](std::size_t j) { return static_cast<double>(j); };
  const auto add = [&](std::size_t n, auto term) {
    std::vector<T> x(n);
    for (std::size_t j = 0; j < n; ++j) x[j] = static_cast<T>(term(j));
    rows.emplace_back(std::move(x));
  };
  const auto add_terms = [&](const std::vector<double>& x) {
    add(x.size(), [&](std::size_t j) { return x[j]; });
  };

  // The base is raised at almost every step, or never after the first; each step is beyond
  // what a base covers, or within.
  for (const double step : {0.5, 35.0, 45.0, 350.0, -45.0, -0.5})
    for (const std::size_t n : {9, 64, 300})
      add(n, [&](std::size_t j) { return step * (number(j) - 100.0); });
  // Nothing but -inf for long, then nothing but -inf again.
  for (const std::size_t n : {20, 64, 500})
    add(n, [&](std::size_t j) {
      return j >= n / 2 && j < n / 2 + 3 ? 5.0 + 1.0 / (1.0 + number(j)) : -inf;
    });
  add(200, [&](std::size_t j) { return j % 3 == 0 ? -700.0 - 0.1 * number(j) : -inf; });

  // Where the loops end and plain ones begin.
  for (const double sign : {1.0, -1.0})
    for (const double beyond : {-2000.0, -60.0, -1.0, 0.0, 1.0, 60.0, 2000.0})
      add(40, [&](std::size_t j) {
        return sign * (exponent_limit * 0.6931471805599453 + beyond) - 1.5 * number(j * 7 % 40);
      });
  add_terms({1e30, 1e30, -1e30, 0.0});
  add_terms({-1e30, -1e30});
  add_terms({largest, largest, largest});
  add_terms({largest, -largest, 0.0});
  add_terms({-largest, -largest});
  add_terms({-largest, 3.0, 1.0});

  // Equal terms: every addition rounds the same way.
  for (const double value : {0.1, 1.0 / 3, -14.0, 100.3})
    for (const std::size_t n : {2, 9, 63, 300, 1500}) add(n, [&](std::size_t) { return value; });
  // A maximum, and many terms that are each about to be rounded away beside it.
  for (const double below : {0.7, 2.3, 9.7, 16.7, 17.3, 18.1, 36.7, 38.0})
    for (const std::size_t n : {4, 16, 33, 64, 65, 1000})
      for (const double max : {-0.77, 12.3})
        add(n, [&](std::size_t j) { return j == n / 3 ? max : max - below; });

  // Terms beside a maximum of zero: the logarithms are small, the exponentials denormal.
  const double denormal = is_double ? 709.0 : 88.0;
  for (const double top : {0.0, 1e-40, -3e-42, 2.0})
    for (const std::size_t n : {5, 64, 200})
      add(n, [&](std::size_t j) {
        return j == 2 ? top : -denormal - (is_double ? 37.0 : 16.0) * number(j) / number(n);
      });
  // What is beside the maximum is far above the first terms, and as far below the maximum.
  for (const std::size_t n : {9, 16, 64, 200, 3000})
    for (const std::size_t at : {n - 1, n / 2})
      add(n, [&](std::size_t j) {
        const double below = is_double ? 600.0 : 75.0;
        return j == at ? 1.5 : j < n / 4 ? 1.5 - 1.5 * below : 1.5 - below - 0.1 * number(j % 7);
      });
  add_terms({0.0, is_double ? -708.3 : -87.0});
  add_terms({0.0, is_double ? -730.0 : -95.0});
  add_terms({0.0, -1e6});
  add_terms({1e-42, 0.0, -1e-41, 1e-39});
  return rows;
}

}  // namespace logitkit::test
