// csrc/simd: the functions of one vector, as they are for any processor, and what the loops of
// csrc/sum_exp make of them with each instruction set of this machine
#include "simd/scalar.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "exact_row.h"
#include "expect.h"
#include "simd/double_double.h"
#include "simd/exp.h"
#include "simd/flush_denormals.h"
#include "simd/log.h"
#include "sum_exp/loops.h"

namespace logitkit::test {
namespace {

using scalar::F32;
using scalar::F64;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// ln 2 in two parts, the first of 33 bits: its product with an exponent is exact.
constexpr long double ln_2_high = 0x1.62e42fefp-1L, ln_2_low = 0x1.473de6af278ece6p-34L;

/// high + low = a number to 106 bits.
struct Known {
  double high, low;
};
double distance(DoubleDouble<F64> from, Known to) {
  return std::abs((from.high.v - to.high) + (from.low.v - to.low));
}
double size_of(Known known) { return std::max(std::abs(known.high), 0x1p-1000); }

// --- exp.h

template <class V>
void test_exp_parts_at(double at, double promised) {
  using T = typename V::Element;
  using C = ExpConstants<T>;
  const T x = static_cast<T>(at);
  const ExpParts<V> parts = exp_parts(V::all(x));
  const T n = parts.n.v - C::magic;
  const long double r = (static_cast<long double>(x) - n * ln_2_high) - n * ln_2_low;
  const double error = static_cast<double>(std::abs(parts.t.v - std::expm1(r)));
  expect(n == std::nearbyint(n), "n is an integer");
  expect(error <= promised && std::abs(parts.t.v) < 0.42, "t within its error");
}

template <class V>
void test_exp_parts(double promised) {
  using T = typename V::Element;
  const double limit = 0x1p17 * 0.69314718;  // and no further
  for (int i = 0; i <= 1000; ++i) {
    test_exp_parts_at<V>((i - 500) * 2e-3 * 3.0, promised);
    test_exp_parts_at<V>((i - 500) * 2e-3 * limit, promised);
  }
  // Where n changes, and where x nearly is n ln 2.
  for (const double n : {0.0, 1.0, 2.0, 127.0, 1023.0, 99999.0, 1048575.0})
    for (const double sign : {1.0, -1.0})
      for (const double off : {0.0, 0.4999999, 0.5, -0.5})
        for (const int beside : {-1, 0, 1}) {
          T x = static_cast<T>(sign * std::max(0.0, n + off) * 0.6931471805599453);
          if (beside != 0) x = std::nextafter(x, static_cast<T>(beside * inf));
          test_exp_parts_at<V>(double{x}, promised);
        }
  for (const double x : {0.0, -0.0, 1e-40, -1e-40}) {
    const ExpParts<V> parts = exp_parts(V::all(static_cast<T>(x)));
    expect(parts.n.v == ExpConstants<T>::magic && std::abs(parts.t.v) <= std::abs(x),
           "e^0 is exactly 1");
  }
  for (const double x : {nan, inf, -inf})
    expect(std::isnan(exp_parts(V::all(static_cast<T>(x))).t.v), "t of NaN, inf and -inf is NaN");
}

template <class V>
void test_powers(int lowest, int highest) {
  using T = typename V::Element;
  for (const double base : {0.0, 1.0, -7.0, 1048576.0, -1048576.0}) {
    const V bias = exponent_bias(V::all(static_cast<T>(base)));
    for (int n = lowest; n <= highest; ++n) {
      const V magic_n = V::all(ExpConstants<T>::magic + static_cast<T>(base + n));
      expect(power_of_two(magic_n, bias).v == std::ldexp(T{1}, n), "2^(n - base)");
    }
  }
  for (int n = lowest; n <= highest; ++n)
    expect(power_of_two(V::all(static_cast<T>(n))).v == std::ldexp(T{1}, n), "2^n");
  for (const double x : {0.0, 0.49, 0.51, -0.51, 1.5, 2.5, 1048576.4, -1048575.6, -2097151.0})
    expect(round(V::all(static_cast<T>(x))).v == std::nearbyint(static_cast<T>(x)), "rounds");
}

// --- double_double.h

void test_exact_operations() {
  const auto all = [](double x) { return F64::all(x); };
  const auto is = [](DoubleDouble<F64> x, double high, double low) {
    return x.high.v == high && x.low.v == low;
  };
  expect(is(two_sum(all(0x1p-60), all(1.0)), 1.0, 0x1p-60), "two_sum of a smaller first");
  expect(is(two_sum(all(1.0), all(-1.0 + 0x1p-53)), 0x1p-53, 0.0), "two_sum that cancels");
  expect(is(two_sum(all(1e16), all(1.5)), 1e16 + 2.0, -0.5), "two_sum that rounds up");
  expect(is(fast_two_sum(all(1.0), all(-0x1p-60)), 1.0, -0x1p-60), "fast_two_sum");
  expect(is(fast_two_sum(all(0.0), all(3.0)), 3.0, 0.0), "fast_two_sum of 0");
  expect(is(multiply(all(1.0 + 0x1p-30), all(1.0 + 0x1p-30)), 1.0 + 0x1p-29, 0x1p-60), "multiply");
  // 1/3 to 106 bits, times 3 and plus 2/3.
  const DoubleDouble<F64> third = {all(0x1.5555555555555p-2), all(0x1.5555555555555p-56)};
  const DoubleDouble<F64> three = {all(3.0), all(0.0)};
  expect(distance(third * three, {1.0, 0.0}) <= 0x1p-103, "a product within 2^-103");
  expect(distance(third + (third + third), {1.0, 0.0}) <= 0x1p-103, "sums within 2^-104");
  expect(distance(add_smaller(third * three, third),
                  {0x1.5555555555555p0, 0x1.5555555555555p-54}) <= 0x1p-102,
         "add_smaller");
}

// e^(x.high + x.low) = 2^n (1 + t)
struct KnownExp {
  Known x;
  double n;
  Known t;
};
constexpr KnownExp known_exps[] = {
    {{0.0, 0.0}, 0, {0.0, 0.0}},
    {{1.0, 0.0}, 1, {0x1.6fc2a2c515da5p-2, 0x1.355fb8ac404e8p-56}},
    {{-1.0, 0.0}, -1, {-0x1.0e95393a62190p-2, -0x1.ca8a4270fadf5p-56}},
    {{0x1p-30, 0.0}, 0, {0x1.0000000200000p-30, 0x1.55555556aaaabp-93}},
    {{-0x1p-60, 0.0}, 0, {-0x1p-60, 0x1p-121}},
    {{0x1.62e42fefa39efp-2, 0.0}, 0, {0x1.a827999fcef32p-2, -0x1.2e5843cd022b5p-59}},
    {{3.0, 0x1p-54}, 4, {0x1.05796fdbec419p-2, 0x1.962a7d091c325p-59}},
    {{-0x1.14ccccccccccdp+4, -0x1p-50}, -25, {0x1.dcb025b586cbcp-6, -0x1.23682d81a1c92p-60}},
    {{-0x1.259999999999ap+5, 0x1.cd2b297d889bcp-54},
     -53,
     {0x1.3316097ba3205p-5, 0x1.04a84a76ff1e9p-59}},
    {{700.25, 0x1p-45}, 1010, {0x1.7ec7265fd255ap-3, -0x1.0bf472978a044p-57}},
    {{-708.0, 0x1p-44}, -1021, {-0x1.06ea9baee69b0p-2, -0x1.cddb4b30140a5p-57}}};

void test_exact_exp() {
  for (const KnownExp& known : known_exps) {
    const ExactExpParts<F64> parts =
        exact_exp_parts<F64>({F64::all(known.x.high), F64::all(known.x.low)});
    expect(parts.n.v - ExpConstants<double>::magic == known.n, "n");
    expect(distance(parts.t, known.t) <= 0x1p-98, "t within 2^-98");
  }
}

// --- log.h

// log(count + x.high + x.low)
struct KnownLog {
  double count;
  Known x, log;
};
constexpr KnownLog known_logs[] = {
    {1, {0.0, 0.0}, {0.0, 0.0}},
    {1, {1e-300, 0.0}, {1e-300, 0.0}},
    {1, {0x1p-31, 0x1p-90}, {0x1.fffffffe00000p-32, 0x1.0aaaaaa89aaabp-90}},
    {1, {0x1p-30, 0.0}, {0x1.fffffffc00000p-31, 0x1.5555555155555p-92}},
    {1, {0x1.8p-30, 0x1p-84}, {0x1.7ffffffb80000p-30, 0x1.047ffff9ebc00p-84}},
    {1, {0.5, 0x1p-55}, {0x1.9f323ecbf984cp-2, 0x1.202f8b2f1256ap-56}},
    {1, {1.0, 0.0}, {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56}},
    {2, {0.0, 0.0}, {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56}},
    {3, {0.0, 0.0}, {0x1.193ea7aad030bp+0, -0x1.a256f99caabebp-54}},
    {10, {0.25, 0.0}, {0x1.29e43c6118f56p+1, 0x1.0f041bf99b9acp-55}},
    {1, {1e10, 0x1p-21}, {0x1.7069e2aa3184ep+4, 0x1.99ae039be874bp-50}},
    {1e6, {0x1.999999999999ap-4, 0.0}, {0x1.ba18a9ceafdf1p+3, -0x1.a58ca26d684e6p-52}},
    {0x1p52, {0.5, 0.0}, {0x1.205966f2b4f12p+5, 0x1.7dca0480f5c1ap-49}}};

bool is_exact_log(DoubleDouble<F64> actual, const KnownLog& known) {
  const bool small = known.count == 1 && known.x.high < 0x1p-30;
  const double promised = small ? 0x1p-84 * size_of(known.log) : 0x1p-100;
  // A pair of doubles itself has no more than 106 bits.
  return distance(actual, known.log) <= std::max(promised, 0x1p-102 * std::abs(known.log.high));
}

void test_exact_log() {
  for (const KnownLog& known : known_logs)
    expect(is_exact_log(exact_log<F64>(F64::all(known.count),
                                       {F64::all(known.x.high), F64::all(known.x.low)}),
                        known),
           "the logarithm within 2^-100");
}

/// log(sum + rest) + base ln 2 against long double, less what base adds.
bool is_log(double sum, double rest, double base, double high, double low) {
  const long double without_base =
      ((static_cast<long double>(high) - base * ln_2_high) - base * ln_2_low) + low;
  const long double truth =
      std::log(static_cast<long double>(sum)) + std::log1p(static_cast<long double>(rest) / sum);
  const long double rounding = 0x1p-62L * (1.0L + std::abs(truth));  // of long double itself
  const long double all = truth + base * (ln_2_high + ln_2_low);
  return std::abs(without_base - truth) <= 0x1p-54L + 0x1p-100L * std::abs(all) + rounding;
}

void test_log() {
  const auto test_at = [](double v, double rest, double base) {
    const DoubleDouble<F64> result = log(F64::all(v), F64::all(rest), F64::all(base));
    expect(is_log(v, rest, base, result.high.v, result.low.v), "the logarithm within 2^-54");
    expect(result.high.v + result.low.v == result.high.v, "normalised");
  };
  for (const double base : {0.0, 1.0, -1.0, 60.0, -1021.0, 123456.0, 1048575.0, -1048575.0}) {
    for (int i = 0; i < 3000; i += only_small() ? 10 : 1) test_at(0.4 + i * 1.1e-3, 0.0, base);
    for (const double v : {0x1p-1022, 0x1p-500, 0x1p60, 0x1.fffffffffffffp1023, 1.0, 2.0, 0.5})
      for (const double rest : {0.0, v * 0x1p-53, -v * 0x1p-54}) test_at(v, rest, base);
    // Around sqrt(1/2) and sqrt(2), where the exponent is cut off, and around 1.
    for (const double center : {0x1.6a09e667f3bcdp-1, 0x1.6a09e667f3bcdp0, 1.0})
      for (const double v : {std::nextafter(center, 0.0), center, std::nextafter(center, 9.0),
                             center - 0x1p-40, center + 0x1p-40})
        for (const double rest : {0.0, 0x1p-53, -0x1p-54}) test_at(v, rest, base);
  }
}

// --- the loops

void test_log_loops(Isa isa) {
  const LogLoops& loops = sum_exp_loops(isa).log;
  for (const std::size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 33}) {
    std::vector<double> exponent(n), sum(n), rest(n), max(n), high(n + 1, 5.0), low(n + 1, 5.0);
    for (std::size_t i = 0; i < n; ++i) {
      exponent[i] = static_cast<double>(i * i) - 20.0;
      sum[i] = 0.5 + 1.37 * static_cast<double>(i * 5 % 7);
      rest[i] = sum[i] * 0x1p-30;  // the loop normalises
    }
    loops.log(n, {exponent.data(), sum.data(), rest.data(), max.data()}, high.data(), low.data());
    for (std::size_t i = 0; i < n; ++i)
      expect(is_log(sum[i], rest[i], exponent[i], high[i], low[i]), "log loop within 2^-54");
    expect(high[n] == 5.0 && low[n] == 5.0, "the log loop writes no more");

    std::vector<double> count(n);
    high.assign(n + 1, 5.0);
    low.assign(n + 1, 5.0);
    const auto known_of = [](std::size_t i) -> const KnownLog& {
      return known_logs[i % (sizeof known_logs / sizeof known_logs[0])];
    };
    for (std::size_t i = 0; i < n; ++i) {
      count[i] = known_of(i).count;
      high[i] = known_of(i).x.high;
      low[i] = known_of(i).x.low;
    }
    loops.log_exactly(n, {count.data(), high.data(), low.data()});
    for (std::size_t i = 0; i < n; ++i)
      expect(is_exact_log({F64::all(high[i]), F64::all(low[i])}, known_of(i)),
             "exact log loop within 2^-100");
    expect(high[n] == 5.0 && low[n] == 5.0, "the exact log loop writes no more");
  }
}

/// sum_j e^(x_j - max) over the terms below max.
struct KnownSum {
  double x[4];
  double count;
  Known sum;
};
constexpr KnownSum known_sums[] = {
    {{0.0, -1.0, -2.0, -0.5}, 1, {0x1.1c184603af70cp+0, 0x1.939210902686dp-54}},
    {{0.0, -17.3, -36.7, -0.001}, 1, {0x1.ff7cff5e646a8p-1, 0x1.899f48ae12f51p-56}},
    {{-3.0, -3.0, -4.0, -703.0}, 2, {0x1.78b56362cef38p-2, -0x1.ca8a4270fadf5p-57}},
    {{0.001, -0.001, 0.002, 0.0}, 1, {0x1.7f3b9f059f13fp+1, 0x1.95332dcb68486p-55}}};

void test_exact_sums(Isa isa) {
  // Each item has the four terms `repeat` times, so all of the sums are `repeat` times as large:
  // powers of two, which change no digit.
  for (const KnownSum& known : known_sums)
    for (const std::size_t repeat : {1, 16, only_small() ? 64 : 4096})
      for (const std::size_t items : {1, 3, 9}) {
        const std::size_t terms = 4 * repeat;
        const double largest = *std::max_element(known.x, known.x + 4);
        std::vector<double> columns(terms * items), rows(terms * items);
        for (std::size_t j = 0; j < terms; ++j)
          for (std::size_t i = 0; i < items; ++i)
            columns[j * items + i] = rows[i * terms + j] = known.x[j % 4];
        for (const Block<double>& block : {Block<double>{columns.data(), items, terms, 1, items},
                                           Block<double>{rows.data(), items, terms, terms, 1}}) {
          const std::vector<double> max(items, largest);
          std::vector<double> count(items), high(items), low(items);
          sum_exp_loops(isa).f64.sum_exactly(block, max.data(),
                                             {count.data(), high.data(), low.data()});
          const double r = static_cast<double>(repeat);
          for (std::size_t i = 0; i < items; ++i) {
            expect(count[i] == r * known.count, "the terms that equal max are counted");
            const DoubleDouble<F64> mean = {F64::all(high[i] / r), F64::all(low[i] / r)};
            expect(distance(mean, known.sum) <= 0x1p-100 * known.sum.high, "within 2^-100");
          }
        }
      }
}

/// e^x and its parts, term by term: items of one term, as columns.
template <class T>
void test_single_terms(const SumExpLoops<T>& loops) {
  constexpr bool is_double = sizeof(T) == sizeof(double);
  const double limit = is_double ? 745.0 : 103.0;
  std::vector<T> x;
  const int points = only_small() ? 300 : 3000;
  for (int i = 0; i <= points; ++i) x.push_back(static_cast<T>((i - points) * limit / points));
  for (const double of_all : {1e-3, 0.3, 20.0, 700.0, -9e4, 9e4})
    x.push_back(static_cast<T>(of_all));
  const std::size_t n = x.size();
  const Block<T> columns = {x.data(), n, 1, 1, n};
  std::vector<double> memory(4 * n);
  double* m = memory.data();
  const SumExp sums = {m, m + n, m + 2 * n, m + 3 * n};
  const auto expect_sums = [&](double promised) {
    bool holds = true;
    for (std::size_t i = 0; i < n; ++i) {
      // sum 2^exponent = e^x: the exponent goes to the other side.
      const long double r = (static_cast<long double>(x[i]) - sums.exponent[i] * ln_2_high) -
                            sums.exponent[i] * ln_2_low;
      const long double truth = std::exp(r),
                        sum = static_cast<long double>(sums.sum[i]) + sums.rest[i];
      holds = holds && std::abs(sum - truth) <= promised * truth;
    }
    expect(holds, "e^x within the error of its loop");
  };
  const double narrow = is_double ? 0x1p-51 : 0x1p-22, wide = 0x1p-51;
  loops.sum(columns, sums);
  expect_sums(narrow / 2);  // of one term; the promise is for eight
  loops.sum_and_max(columns, sums);
  expect_sums(narrow / 2);
  loops.sum_wide(columns, sums);
  expect_sums(wide / 2);

  // And as softmax writes it, from e^700 2^-1000 to the smallest denormal number.
  for (const double exponent : {0.0, 1.0, -40.0, 1000.0})
    for (const double scale : {1.0, 0.5, 0.7, 0.9999}) {
      const double in_t = double{static_cast<T>(scale)},
                   rest = in_t * (is_double ? 0x1p-54 : 0x1p-25);
      const std::vector<double> exponents(n, exponent), scales(n, in_t), rests(n, rest);
      std::vector<T> y(n, T{5});
      loops.softmax(columns, {exponents.data(), scales.data(), rests.data()}, y.data(),
                    Store::cached);
      bool holds = true;
      for (std::size_t i = 0; i < n; ++i) {
        const long double r =
            (static_cast<long double>(x[i]) - exponent * ln_2_high) - exponent * ln_2_low;
        if (std::abs(x[i]) > 2000 || r > 0) continue;  // results are at most 1
        const long double truth = std::exp(r) * (static_cast<long double>(in_t) + rest);
        holds = holds && error_in_ulp(y[i], truth) <= 1.6;
      }
      expect(holds, "e^x scale within 1.6 ulp");
    }
}

void test_max(Isa isa) {
  const float inf32 = static_cast<float>(inf);
  for (const std::size_t terms : {0, 1, 5, 16, 64, 65, 200})
    for (const std::size_t items : {1, 3, 40}) {
      std::vector<float> x(terms * items);
      for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = i % 7 == 0 ? -inf32 : 1e-42f * static_cast<float>(i * 31 % 101);
      for (const Block<float>& block : {Block<float>{x.data(), items, terms, 1, items},
                                        Block<float>{x.data(), items, terms, terms, 1}}) {
        std::vector<double> max(items + 1, 5.0);
        if (terms > 0 || items == 1) sum_exp_loops(isa).f32.max(block, max.data());
        for (std::size_t i = 0; i < items && terms > 0; ++i) {
          float truth = -inf32;
          for (std::size_t j = 0; j < terms; ++j)
            truth = std::max(truth, x[i * block.item_step + j * block.term_step]);
          expect(max[i] == double{truth}, "max, also of denormal numbers");
        }
        expect(max[items] == 5.0, "max writes no more");
      }
    }
}

// --- flush_denormals.h

void test_flush() {
#if defined(__x86_64__) || (defined(__aarch64__) && defined(__GNUC__))
  volatile double smallest = std::numeric_limits<double>::min(), denormal = smallest / 2.0;
  const auto results = [&] { return smallest / 4.0 > 0.0; };
  const auto operands = [&] { return denormal * 2.0 > 0.0; };
  expect(results() && operands(), "denormals before");
  {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    expect(!results() && !operands(), "neither results nor operands");
    {
      const FlushDenormals inner(FlushDenormals::What::results);
      expect(!operands(), "what is off stays off");
    }
    expect(!results() && !operands(), "as before the inner one");
  }
  expect(results() && operands(), "denormals again");
  {
    const FlushDenormals flush(FlushDenormals::What::results);
    expect(operands(), "operands stay");
  }
  expect(results() && operands(), "and again");
#endif
}

}  // namespace

void test_simd() {
  test_exp_parts<F32>(5e-8);
  test_exp_parts<F64>(1e-16);
  test_powers<F32>(-126, 127);
  test_powers<F64>(-1022, 1023);
  test_exact_operations();
  test_exact_exp();
  test_exact_log();
  test_log();
  test_flush();
  for (const Isa isa : supported_isas()) {
    test_log_loops(isa);
    test_exact_sums(isa);
    test_single_terms(sum_exp_loops(isa).f32);
    test_single_terms(sum_exp_loops(isa).f64);
    test_max(isa);
  }
}

}  // namespace logitkit::test
