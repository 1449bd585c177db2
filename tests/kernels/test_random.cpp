// Philox against its published answers, the tails of the laws, and the update of a sampler.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "diffusion_update/diffusion_update.h"
#include "expect.h"
#include "random/loops.h"
#include "random/random.h"
#include "random/words_scalar.h"

#include "random/laws.h"

namespace logitkit::test {
namespace {

// Random123, tests/kat_vectors, "philox4x32 10".
struct KnownAnswer {
  std::uint32_t counter[4], key[2], words[4];
};
constexpr KnownAnswer known_answers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

std::uint64_t join(std::uint32_t low, std::uint32_t high) {
  return low | std::uint64_t{high} << 32;
}

void test_known_answers(Isa isa) {
  for (const KnownAnswer& known : known_answers) {
    const auto& c = known.counter;
    const PhiloxStream stream = philox_stream(join(known.key[0], known.key[1]), c[3]);
    std::uint64_t bits[2];
    random_loops(isa).bits({&stream, join(c[1], c[2]), 2 * std::uint64_t{c[0]}, 2}, bits);
    expect(bits[0] == join(known.words[0], known.words[1]), "Philox gives the published words");
    expect(bits[1] == join(known.words[2], known.words[3]), "Philox gives the published words");
  }
}

// Bits at the ends and in the middle, where rounding would give 0, 1 or an infinity.
void test_tails() {
  using namespace scalar;
  const double ln_2_65 = 65 * std::log(2.0);
  const Bits64<scalar::U64> least = {{0}}, most = {{~std::uint64_t{0}}};
  expect(UniformLaw::of<F64>(least).v == 0x1p-65, "least uniform double");
  expect(UniformLaw::of<F64>(most).v == 1 - 0x1p-53, "largest uniform double");
  expect(std::abs(exponential<F64>(least).v - ln_2_65) < 1e-14, "largest exponential double");
  expect(std::abs(exponential<F64>(most).v / 0x1p-65 - 1) < 1e-15, "least exponential double");
  expect(std::abs(GumbelLaw::of(exponential<F64>(most)).v - ln_2_65) < 1e-14, "largest Gumbel");
  const Bits32<scalar::U32> low = {{0}, {0}}, high = {{~0u}, {~0u}};
  expect(UniformLaw::of<F32>(low).v == 0x1p-65f, "least uniform float");
  expect(UniformLaw::of<F32>(high).v == 1 - 0x1p-24f, "largest uniform float");
  expect(std::abs(exponential<F32>(low).v - ln_2_65) < 1e-5, "largest exponential float");
  expect(std::abs(exponential<F32>(high).v / 0x1p-65f - 1) < 1e-6f, "least exponential float");
  expect(std::abs(GumbelLaw::of(exponential<F32>(high)).v - ln_2_65) < 1e-5, "largest Gumbel");
  // Around 1/2, where the sides change.
  for (const std::uint64_t near : {~std::uint64_t{0} >> 1, std::uint64_t{1} << 63}) {
    const double e = exponential<F64>(Bits64<scalar::U64>{{near}}).v;
    expect(std::abs(e - std::log(2.0)) < 1e-15, "exponential double at one half");
    const auto head = static_cast<std::uint32_t>(near >> 32);
    const auto rest = static_cast<std::uint32_t>(near);
    const double f = exponential<F32>(Bits32<scalar::U32>{{rest}, {head}}).v;
    expect(std::abs(f - std::log(2.0)) < 1e-7, "exponential float at one half");
  }
}

template <class T>
void test_same_bits(Isa isa) {
  const std::int64_t ids[] = {3, -1};
  const Rows rows = {7, 1, ids, 2};
  constexpr std::size_t count = 1003;
  for (const Law law : {Law::uniform, Law::exponential, Law::gumbel, Law::normal}) {
    std::vector<T> expected(2 * count), actual(2 * count);
    random_numbers(law, rows, count, expected.data(), 1, Isa::scalar);
    random_numbers(law, rows, count, actual.data(), 2, isa);
    expect(std::memcmp(expected.data(), actual.data(), 2 * count * sizeof(T)) == 0,
           "every instruction set draws the same bits");
  }
  std::vector<T> x(2 * count, T{1}), noise(2 * count), out(2 * count);
  const T one = 1;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  diffusion_update<T>({x.data(), nullptr, {&one, 0}, {&one, 0}, {&one, 0}, -infinity, infinity},
                      rows, count, out.data(), 1, isa);
  random_numbers(Law::normal, rows, count, noise.data(), 1, isa);
  bool same = true;
  for (std::size_t i = 0; i < 2 * count; ++i) same = same && out[i] == noise[i] + 1;
  expect(same, "an update adds the noise of random_numbers");

  std::vector<T> logits(2 * count, T{0}), values(2 * 5);
  std::vector<std::int64_t> argmax(2), top(2 * 5), scalar_top(2 * 5);
  gumbel_argmax(logits.data(), rows, count, argmax.data(), 1, isa);
  gumbel_top_k(logits.data(), rows, count, 5, values.data(), top.data(), 2, isa);
  gumbel_top_k(logits.data(), rows, count, 5, values.data(), scalar_top.data(), 1, Isa::scalar);
  expect(top == scalar_top, "every instruction set draws the same classes");
  expect(argmax[0] == top[0] && argmax[1] == top[5], "the argmax is the first of the top");
}

/// Arrays as long as they are said to be, for the sanitizer.
template <class T>
void test_combine(Isa isa) {
  const std::int64_t ids[] = {3, -4};
  const double factors[] = {2.0, -1.0}, one = 1.0;
  for (const std::size_t count : {std::size_t{1}, std::size_t{65}, std::size_t{16385}}) {
    const Rows rows = {5, 6, ids, 2};
    const std::vector<T> x(2 * count, T{1}), y(2 * count, T{4}), z(2 * count, T{8});
    std::vector<T> out(2 * count), noise(2 * count);
    const Term<T> terms[] = {
        {x.data(), {factors, 1}}, {y.data(), {&one, 0}}, {z.data(), {&one, 0}}};
    random_numbers(Law::normal, rows, count, noise.data(), 1, isa);
    for (std::size_t n = 1; n <= 3; ++n) {
      const T others = n == 1 ? T{0} : n == 2 ? T{4} : T{12};
      combine(terms, n, {nullptr, 0}, rows, count, out.data(), 1, isa);
      bool same = true;
      for (std::size_t i = 0; i < 2 * count; ++i)
        same = same && out[i] == static_cast<T>(factors[i / count]) + others;
      expect(same, "a combination is the sum of its terms");
      combine(terms, n, {&one, 0}, rows, count, out.data(), 1, isa);
      for (std::size_t i = 0; i < 2 * count; ++i)
        same = same && out[i] == static_cast<T>(factors[i / count]) + others + noise[i];
      expect(same, "and of the noise of random_numbers");
    }
    expect(!has_nan(out.data(), out.size(), isa), "numbers are no NaN");
    out.back() = std::numeric_limits<T>::quiet_NaN();
    expect(has_nan(out.data(), out.size(), isa), "NaN is found at the end");
  }
}

}  // namespace

void test_random() {
  test_tails();
  for (const Isa isa : supported_isas()) {
    test_known_answers(isa);
    test_same_bits<float>(isa);
    test_same_bits<double>(isa);
    test_combine<float>(isa);
    test_combine<double>(isa);
  }
}

}  // namespace logitkit::test
