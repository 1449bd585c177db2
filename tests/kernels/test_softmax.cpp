// csrc/softmax, for every instruction set of this machine
#include "softmax/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "exact_row.h"
#include "expect.h"
#include "simd/flush_denormals.h"

namespace logitkit::test {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double max_error = 2.0;  // ulp

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
struct Map {
  void (*run)(const T*, const Layout&, T*, std::size_t, Isa);
  long double (ExactRow<T>::*truth)(std::size_t) const;
  const char* name;
};
template <class T>
const Map<T> maps[2] = {{softmax<T>, &ExactRow<T>::softmax, "softmax"},
                        {log_softmax<T>, &ExactRow<T>::log_softmax, "log_softmax"}};

/// The results of one item that lies `step` elements apart, between items of NaN, in place.
template <class T>
std::vector<T> of_item(const Map<T>& map, const std::vector<T>& x, std::size_t step, Isa isa) {
  std::vector<T> array(x.size() * step, static_cast<T>(nan));  // exact, for the sanitizer
  for (std::size_t j = 0; j < x.size(); ++j) array[j * step + step / 2] = x[j];
  map.run(array.data(), {1, x.size(), step}, array.data(), 1, isa);
  std::vector<T> result(x.size());
  bool others = true;
  for (std::size_t j = 0; j < x.size(); ++j) {
    result[j] = array[j * step + step / 2];
    for (std::size_t i = 0; i < step; ++i)
      others = others && (i == step / 2 || std::isnan(array[j * step + i]));
  }
  expect(others, "items do not touch each other");
  return result;
}

template <class T>
void expect_contract(const ExactRow<T>& row, std::size_t step, Isa isa) {
  if (only_small() && row.x.size() > 300) return;
  for (const Map<T>& map : maps<T>) {
    const std::vector<T> actual = of_item(map, row.x, step, isa);
    double worst = 0.0;
    std::size_t at = 0;
    for (std::size_t j = 0; j < row.x.size(); ++j) {
      if (j > 0 && row.x[j] == row.x[j - 1] && actual[j] == actual[j - 1]) continue;
      const auto truth = (row.*map.truth)(j);
      constexpr double almost_zero = 4 * double{std::numeric_limits<T>::min()};
      if (truth < 0 && -truth < almost_zero && -actual[j] >= 0 && -actual[j] < almost_zero)
        continue;  // log_softmax, closer to zero than its contract reaches
      const double error = error_in_ulp(actual[j], truth);
      if (error <= worst) continue;
      worst = error;
      at = j;
    }
    expect(worst <= max_error, "within 2 ulp");
    if (!(worst <= max_error))
      std::printf(
          "  %s, isa %d, %zu bytes: %.3g ulp at x[%zu] = %.17g of %zu terms up to %.17Lg, step "
          "%zu\n",
          map.name, static_cast<int>(isa), sizeof(T), worst, at, double{row.x[at]}, row.x.size(),
          row.max, step);
  }
}

// Around the vector widths, the unrolled steps, short rows, rows made at once and strips of
// columns.
template <class T>
std::vector<ExactRow<T>> random_rows() {
  std::mt19937 random(1);
  std::vector<ExactRow<T>> rows;
  for (const std::size_t n : {1,  2,  3,  4,  5,  7,  8,   9,   15,  16,  17,  31,  32,  33,
                              63, 64, 65, 66, 95, 96, 127, 128, 129, 255, 257, 900, 2049})
    for (const double spread : {0.01, 5.0, 15.0, 40.0}) {
      std::normal_distribution<double> normal(2.0, spread);
      std::vector<T> x(n);
      for (T& value : x) value = static_cast<T>(normal(random));
      rows.emplace_back(std::move(x));
    }
  return rows;
}

/// Rows of several segments, whose largest terms lie in one, in two, or next to a border.
template <class T>
std::vector<ExactRow<T>> long_rows() {
  std::vector<ExactRow<T>> rows;
  for (const double spread : {0.5, 20.0})
    for (const std::vector<std::size_t>& largest :
         {std::vector<std::size_t>{}, {39'000}, {5, 20'000}, {16'383, 16'384}}) {
      std::mt19937 random(static_cast<unsigned>(largest.size()));
      std::normal_distribution<double> normal(-3.0, spread);
      std::vector<T> x(40'001);
      for (T& value : x) value = static_cast<T>(normal(random));
      for (const std::size_t at : largest) x[at] = static_cast<T>(spread * 8.0);
      rows.emplace_back(std::move(x));
    }
  return rows;
}

template <class T>
void test_specials(Isa isa) {
  const Map<T>&exp = maps<T>[0], &log = maps<T>[1];
  const auto all_nan = [](const std::vector<T>& y) {
    return std::all_of(y.begin(), y.end(), [](T value) { return std::isnan(value); });
  };
  for (const std::size_t step : {1, 5, 40}) {
    of_item<T>(exp, {}, step, isa);
    of_item<T>(log, {}, step, isa);
    for (const std::size_t n : {2, 17, 70, 1500}) {
      std::vector<T> x(n, static_cast<T>(-inf));
      expect(all_nan(of_item(exp, x, step, isa)), "softmax of nothing but -inf");
      expect(all_nan(of_item(log, x, step, isa)), "log_softmax of nothing but -inf");
      x.back() = T{2};
      std::vector<T> y = of_item(exp, x, step, isa), z = of_item(log, x, step, isa);
      expect(y.back() == T{1} && z.back() == T{0}, "one term has it all");
      expect(y.front() == T{0} && z.front() == static_cast<T>(-inf), "-inf gets nothing");
      x.front() = static_cast<T>(inf);
      expect(all_nan(of_item(exp, x, step, isa)), "softmax beside inf");
      z = of_item(log, x, step, isa);
      expect(std::isnan(z.front()), "log_softmax of inf");
      for (std::size_t j = 1; j < n; ++j)
        expect(z[j] == static_cast<T>(-inf), "log_softmax beside inf");
      x[n / 2] = static_cast<T>(nan);
      expect(all_nan(of_item(exp, x, step, isa)), "softmax beside NaN");
      expect(all_nan(of_item(log, x, step, isa)), "log_softmax beside NaN, also past inf");
    }
    for (const double value : {1e38, -1e38, 8e5, -8e5, 0.0, 1e-40}) {
      const std::vector<T> x = {static_cast<T>(value)};
      expect(of_item(exp, x, step, isa)[0] == T{1}, "softmax of one term is 1");
      expect(of_item(log, x, step, isa)[0] == T{0}, "log_softmax of one term is 0");
    }
  }
}

template <class T>
std::vector<T> noise(std::size_t size) {
  std::vector<T> x(size);
  for (std::size_t i = 0; i < size; ++i) x[i] = static_cast<T>(i * 7919 % 1000) / T{50};
  return x;
}

template <class T>
void test_threads_and_place_do_not_change_bits(Isa isa) {
  const Layout long_row = {1, 40'000, 1};  // of two segments
  for (const Layout layout :
       {Layout{300, 133, 1}, Layout{2, 133, 100}, Layout{9, 17, 1}, Layout{2, 5, 40}, long_row}) {
    const std::vector<T> x = noise<T>(layout.outer * layout.terms * layout.inner);
    for (const Map<T>& map : maps<T>) {
      std::vector<T> serial(x.size()), in_place(x), parallel(x.size());
      map.run(x.data(), layout, serial.data(), 1, isa);
      map.run(in_place.data(), layout, in_place.data(), 2, isa);
      expect(same_bits(serial, in_place), "same bits from two threads, in place");
      if (layout.terms == long_row.terms) continue;
      map.run(x.data(), layout, parallel.data(), 3, isa);
      expect(same_bits(serial, parallel), "same bits from three threads");
    }
  }
}

/// Rows of which some leave the usual way, the others beside them.
template <class T>
std::vector<T> mixed_rows(std::size_t rows, std::size_t terms) {
  std::vector<T> x = noise<T>(rows * terms);
  constexpr double limit = 1e5;  // of terms that the loops are made for
  const double odd[] = {nan, inf, -inf, 70.0, 400.0, -300.0, 1200.0, limit, -limit, 1e-40};
  for (std::size_t i = 0; i < rows; i += 1 + i % 5) {
    const double value = odd[i % 10];
    T* row = &x[i * terms];
    row[i * 31 % terms] = static_cast<T>(value);
    if (i % 3 == 0) std::fill_n(row + terms / 2, terms - terms / 2, static_cast<T>(value));
  }
  return x;
}

template <class T>
void test_rows_do_not_depend_on_each_other(Isa isa) {
  constexpr std::size_t streamed = (std::size_t{1} << 21) / sizeof(T);
  const Layout layouts[] = {{45, 1, 1},   {100, 3, 1},  {45, 8, 1},
                            {77, 15, 1},  {150, 16, 1}, {streamed / 64 + 5, 64, 1},
                            {45, 64, 1},  {45, 67, 1},  {20, 200, 1},
                            {9, 1000, 1}, {5, 3000, 1}, {streamed / 100 + 1, 101, 1}};
  for (const Layout layout : layouts) {
    const std::size_t terms = layout.terms;
    if (only_small() && layout.outer * terms > streamed) continue;
    const std::vector<T> x = mixed_rows<T>(layout.outer, terms);
    std::vector<T> y(x.size() + 3), alone(terms);
    for (const Map<T>& map : maps<T>) {
      for (const std::size_t offset : {0, 3}) {  // aligned or not
        map.run(x.data(), layout, y.data() + offset, 1, isa);
        bool same = true;
        for (std::size_t i = 0; i < std::min<std::size_t>(layout.outer, 300); ++i) {
          map.run(&x[i * terms], {1, terms, 1}, alone.data(), 1, isa);
          same = same && std::memcmp(alone.data(), &y[i * terms + offset], terms * sizeof(T)) == 0;
        }
        expect(same, "a row is what it is alone");
      }
    }
  }
}

/// Whether denormal operands and results are numbers to this thread.
bool has_denormals() {
  volatile float smallest_normal = std::numeric_limits<float>::min(), denormal = 1e-42f;
  return smallest_normal / 4.0f > 0.0f && denormal * 0x1p40f > 0.0f;
}

template <class T>
void test_denormals_of_the_caller(Isa isa) {
  const std::vector<T> x = noise<T>(333);
  std::vector<T> y(x.size()), again(x.size());
  for (const Map<T>& map : maps<T>) {
    map.run(x.data(), {3, 111, 1}, y.data(), 1, isa);
    expect(has_denormals(), "the caller keeps its denormals");
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const bool before = has_denormals();
    map.run(x.data(), {3, 111, 1}, again.data(), 1, isa);
    expect(has_denormals() == before, "or has none, as before");
    expect(same_bits(y, again), "same bits");
  }
}

template <class T>
void test_all(Isa isa) {
  using Rows = std::vector<ExactRow<T>>;
  static const Rows random = random_rows<T>(), hard = hard_rows<T>(),
                    longest = only_small() ? Rows{} : long_rows<T>();
  for (const ExactRow<T>& row : random)
    for (const std::size_t step : {1, 3, 17})
      if (row.x.size() * step < 50'000) expect_contract(row, step, isa);
  for (const ExactRow<T>& row : hard)
    for (const std::size_t step : {1, 3}) expect_contract(row, step, isa);
  for (const ExactRow<T>& row : longest)
    for (const std::size_t step : {1, 2}) expect_contract(row, step, isa);
  test_specials<T>(isa);
  test_threads_and_place_do_not_change_bits<T>(isa);
  test_rows_do_not_depend_on_each_other<T>(isa);
  test_denormals_of_the_caller<T>(isa);
}

}  // namespace

void test_softmax() {
  for (const Isa isa : supported_isas()) {
    test_all<float>(isa);
    test_all<double>(isa);
  }
}

}  // namespace logitkit::test
