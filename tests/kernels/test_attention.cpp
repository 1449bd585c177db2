// csrc/attention, for every instruction set of this machine
#include "attention/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "aligned.h"
#include "attention/half.h"
#include "attention/loops.h"
#include "expect.h"
#include "simd/flush_denormals.h"

namespace logitkit::test {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

// Sizes are exact, for the sanitizer to see an over-read.
template <class T>
std::vector<T> normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<T> distribution;
  std::vector<T> x(count);
  for (T& value : x) value = distribution(random);
  return x;
}

template <class T>
Rows<const void> heads_of(const std::vector<T>& x, std::size_t rows, std::size_t dim) {
  return {x.data(), 0, static_cast<std::ptrdiff_t>(rows * dim), static_cast<std::ptrdiff_t>(dim)};
}

// One sequence of `heads` heads, with all that may happen to a score.
template <class T>
struct Example {
  std::size_t heads, key_heads, queries, keys, dim, value_dim;
  std::int64_t offset, left, right;
  std::vector<T> query, key, value, bias, sinks, scale;
  std::vector<std::uint8_t> mask;
  bool is_plain = false;  // without soft cap, mask and bias

  Example(std::size_t n_queries, std::size_t n_keys, std::size_t n_dim, std::size_t n_value_dim)
      : heads(4),
        key_heads(2),
        queries(n_queries),
        keys(n_keys),
        dim(n_dim),
        value_dim(n_value_dim),
        offset(7),
        left(unlimited),
        right(unlimited),
        query(normal<T>(heads * queries * dim, 1)),
        key(normal<T>(key_heads * keys * dim, 2)),
        value(normal<T>(key_heads * keys * value_dim, 3)),
        bias(normal<T>(heads * queries * keys, 4)),
        sinks(normal<T>(heads, 5)),
        scale(1, static_cast<T>(1 / std::sqrt(static_cast<double>(dim)))),
        mask(queries * keys) {
    std::mt19937 random(6);
    for (std::uint8_t& bit : mask) bit = random() % 3 != 0;
    if (queries > 1) std::fill_n(mask.begin(), keys, std::uint8_t{0});
  }

  AttentionInput<T> input() const {
    AttentionInput<T> in;
    in.element = sizeof(T) == 4 ? Element::float32 : Element::float64;
    in.heads = heads;
    in.key_heads = key_heads;
    in.head_dim = dim;
    in.value_dim = value_dim;
    in.sequences.push_back({0, 0, queries, 0, 0, keys, offset});
    in.query = heads_of(query, queries, dim);
    in.key = heads_of(key, keys, dim);
    in.value = heads_of(value, keys, value_dim);
    in.left = left;
    in.right = right;
    in.scale = {scale.data(), 0, 0, 0};
    in.sinks = sinks.data();
    if (is_plain) return in;
    in.softcap = 3;
    in.mask = {mask.data(), 0, 0, static_cast<std::ptrdiff_t>(keys), 1};
    in.terms[0] = {bias.data(), 0, static_cast<std::ptrdiff_t>(queries * keys),
                   static_cast<std::ptrdiff_t>(keys), 1};
    return in;
  }

  // z[j] of a row, -inf where it is hidden.
  std::vector<double> logits(std::size_t h, std::size_t i) const {
    std::vector<double> z(keys, -inf);
    const auto position = static_cast<std::int64_t>(i) + offset;
    for (std::size_t j = 0; j < keys; ++j) {
      const std::int64_t distance = static_cast<std::int64_t>(j) - position;
      if (distance > right || -distance > left) continue;
      if (!is_plain && mask[i * keys + j] == 0) continue;
      double s = 0;
      for (std::size_t d = 0; d < dim; ++d)
        s += double{query[(h * queries + i) * dim + d]} * double{key[(h / 2 * keys + j) * dim + d]};
      s *= double{scale[0]};
      z[j] = is_plain ? s : 3 * std::tanh(s / 3) + double{bias[(h * queries + i) * keys + j]};
    }
    return z;
  }
};

template <class T>
void test_against_sums(const Example<T>& x, Isa isa) {
  std::vector<T> out(x.heads * x.queries * x.value_dim);
  std::vector<T> logsumexp(x.heads * x.queries), entropy(logsumexp), max_logit(logsumexp);
  AttentionOutput<T> to;
  const auto rows = static_cast<std::ptrdiff_t>(x.queries);
  const auto columns = static_cast<std::ptrdiff_t>(x.value_dim);
  to.out = {out.data(), 0, rows * columns, columns};
  to.logsumexp = {logsumexp.data(), 0, rows, 1};
  to.entropy = {entropy.data(), 0, rows, 1};
  to.max_logit = {max_logit.data(), 0, rows, 1};
  attention(x.input(), to, 2, isa);

  const double tolerance = 200 * std::numeric_limits<T>::epsilon();
  bool outputs = true, sums = true, entropies = true, largest = true;
  for (std::size_t h = 0; h < x.heads; ++h)
    for (std::size_t i = 0; i < x.queries; ++i) {
      const std::vector<double> z = x.logits(h, i);
      const std::size_t row = h * x.queries + i;
      const double sink = double{x.sinks[h]};
      double sum = std::exp(sink), top = -inf, mean = std::exp(sink) * sink;
      std::vector<double> o(x.value_dim);
      for (std::size_t j = 0; j < x.keys; ++j) {
        const double p = std::exp(z[j]);
        sum += p;
        if (p > 0) mean += p * z[j];
        top = std::max(top, z[j]);
        for (std::size_t d = 0; d < x.value_dim; ++d)
          o[d] += p * double{x.value[(h / 2 * x.keys + j) * x.value_dim + d]};
      }
      for (std::size_t d = 0; d < x.value_dim; ++d)
        outputs = outputs && std::abs(o[d] / sum - double{out[row * x.value_dim + d]}) < tolerance;
      sums = sums && std::abs(std::log(sum) - double{logsumexp[row]}) < tolerance;
      entropies =
          entropies && std::abs(std::log(sum) - mean / sum - double{entropy[row]}) < tolerance;
      largest = largest && (top == -inf ? double{max_logit[row]} == -inf
                                        : std::abs(top - double{max_logit[row]}) < tolerance);
    }
  expect(outputs, "the outputs are the weighted sums");
  expect(sums, "logsumexp");
  expect(entropies, "entropy");
  expect(largest, "the largest logit");
}

bool is_left_out(std::size_t queries, std::size_t keys) {
  return only_small() && queries * keys > 70 * 64;
}

template <class T>
void test_sizes(Isa isa) {
  for (const std::size_t keys : {1, 64, 130, 200}) {  // many queries: packed keys, if there are
    if (is_left_out(70, keys)) continue;
    Example<T> x(70, keys, 40, 33);
    test_against_sums(x, isa);
    x.left = 90;
    test_against_sums(x, isa);
  }
  for (const std::size_t queries : {1, 5, 16, 33, 48, 70})
    for (const std::size_t keys : {1, 63, 64, 65, 130}) {
      if (is_left_out(queries, keys)) continue;
      Example<T> x(queries, keys, 5 + queries % 7, 3 + keys % 9);
      test_against_sums(x, isa);
      x.right = 0;
      x.left = 20;
      test_against_sums(x, isa);
    }
}

// So few queries, of two heads each, that dimensions lie side by side in a vector, alone and with
// all that may happen to a score.
template <class T>
void test_few(Isa isa) {
  for (const std::size_t queries : {1, 2, 3, 4, 6, 8, 9, 12})
    for (const std::size_t keys : {1, 7, 64, 79}) {
      if (is_left_out(2 * queries, keys)) continue;
      Example<T> x(queries, keys, 1 + 7 * (queries % 5), 2 * queries + 3 * (keys % 8));
      x.is_plain = true;
      test_against_sums(x, isa);
      x.right = 0;
      test_against_sums(x, isa);
      x.is_plain = false;
      test_against_sums(x, isa);
    }
  for (const std::size_t dim : {64, 80}) {  // whole vectors of all instruction sets
    Example<T> x(4, 130, dim, dim);
    x.is_plain = true;
    test_against_sums(x, isa);
  }
}

// out, logsumexp and entropy of an example, and the gradients of their sum with some factors.
template <class T>
struct Pass {
  std::vector<T> out, logsumexp, entropy, grad_out, grad_logsumexp, grad_entropy;
  std::vector<T> grad_query, grad_key, grad_value, grad_bias;

  explicit Pass(const Example<T>& x)
      : out(x.heads * x.queries * x.value_dim),
        logsumexp(x.heads * x.queries),
        entropy(logsumexp),
        grad_out(normal<T>(out.size(), 7)),
        grad_logsumexp(normal<T>(logsumexp.size(), 8)),
        grad_entropy(normal<T>(logsumexp.size(), 9)),
        grad_query(x.query.size()),
        grad_key(x.key.size()),
        grad_value(x.value.size()),
        grad_bias(x.bias.size()) {}

  double forward(const Example<T>& x, Isa isa) {
    const auto rows = static_cast<std::ptrdiff_t>(x.queries);
    AttentionOutput<T> to;
    to.out = like<void>(out.data(), x.queries, x.value_dim);
    to.logsumexp = {logsumexp.data(), 0, rows, 1};
    to.entropy = {entropy.data(), 0, rows, 1};
    attention(x.input(), to, 2, isa);
    double loss = 0;
    for (std::size_t k = 0; k < out.size(); ++k) loss += double{out[k]} * double{grad_out[k]};
    for (std::size_t k = 0; k < entropy.size(); ++k)
      loss += double{logsumexp[k]} * double{grad_logsumexp[k]} +
              double{entropy[k]} * double{grad_entropy[k]};
    return loss;
  }

  void backward(const Example<T>& x, Isa isa) {
    const auto rows = static_cast<std::ptrdiff_t>(x.queries);
    AttentionGradient<T> to;
    to.out = like<const void>(out.data(), x.queries, x.value_dim);
    to.grad_out = like<const void>(grad_out.data(), x.queries, x.value_dim);
    to.logsumexp = {logsumexp.data(), 0, rows, 1};
    to.entropy = {entropy.data(), 0, rows, 1};
    to.grad_logsumexp = {grad_logsumexp.data(), 0, rows, 1};
    to.grad_entropy = {grad_entropy.data(), 0, rows, 1};
    to.grad_query = like<void>(grad_query.data(), x.queries, x.dim);
    to.grad_key = like<void>(grad_key.data(), x.keys, x.dim);
    to.grad_value = like<void>(grad_value.data(), x.keys, x.value_dim);
    to.grad_logits = grad_bias.data();
    to.logits_head = rows * static_cast<std::ptrdiff_t>(x.keys);
    to.logits_row = static_cast<std::ptrdiff_t>(x.keys);
    attention_gradient(x.input(), to, 2, isa);
  }

 private:
  template <class Data, class Element>
  static Rows<Data> like(Element* data, std::size_t rows, std::size_t dim) {
    return {data, 0, static_cast<std::ptrdiff_t>(rows * dim), static_cast<std::ptrdiff_t>(dim)};
  }
};

// Gradients of doubles against differences of the sum, along one random direction for each input.
void test_differences(Example<double> x, Isa isa) {
  Pass<double> pass(x);
  pass.forward(x, isa);
  pass.backward(x, isa);
  const auto agrees = [&](std::vector<double>& input, const std::vector<double>& gradient) {
    const std::vector<double> direction = normal<double>(input.size(), 10), before = input;
    double expected = 0, losses[2];
    for (std::size_t k = 0; k < input.size(); ++k) expected += direction[k] * gradient[k];
    constexpr double step = 1e-5;
    for (int side = 0; side < 2; ++side) {
      for (std::size_t k = 0; k < input.size(); ++k)
        input[k] = before[k] + (side == 0 ? step : -step) * direction[k];
      Pass<double> moved(x);
      losses[side] = moved.forward(x, isa);
    }
    input = before;
    const double difference = (losses[0] - losses[1]) / (2 * step);
    return std::abs(difference - expected) < 1e-6 * (1 + std::abs(expected));
  };
  expect(agrees(x.query, pass.grad_query), "the gradient of the query");
  expect(agrees(x.key, pass.grad_key), "the gradient of the key");
  expect(agrees(x.value, pass.grad_value), "the gradient of the value");
  expect(agrees(x.bias, pass.grad_bias), "the gradient of the bias");
}

// Gradients of floats against those of doubles.
void test_float_gradients(std::size_t queries, std::size_t keys, std::size_t dim,
                          std::size_t value_dim, Isa isa) {
  Example<float> narrow(queries, keys, dim, value_dim);
  Pass<float> pass(narrow);
  pass.forward(narrow, isa);
  pass.backward(narrow, isa);
  Example<double> wide(queries, keys, dim, value_dim);
  const auto widen = [](const std::vector<float>& from, std::vector<double>& to) {
    std::copy(from.begin(), from.end(), to.begin());
  };
  widen(narrow.query, wide.query);
  widen(narrow.key, wide.key);
  widen(narrow.value, wide.value);
  widen(narrow.bias, wide.bias);
  widen(narrow.sinks, wide.sinks);
  widen(narrow.scale, wide.scale);
  Pass<double> exact(wide);
  widen(pass.grad_out, exact.grad_out);
  widen(pass.grad_logsumexp, exact.grad_logsumexp);
  widen(pass.grad_entropy, exact.grad_entropy);
  exact.forward(wide, isa);
  exact.backward(wide, isa);
  const auto close = [](const std::vector<float>& a, const std::vector<double>& b) {
    double most = 0, error = 0;
    for (std::size_t k = 0; k < a.size(); ++k) {
      most = std::max(most, std::abs(b[k]));
      error = std::max(error, std::abs(double{a[k]} - b[k]));
    }
    return error <= 1e-5 * (1 + most);
  };
  expect(close(pass.grad_query, exact.grad_query), "the gradient of the query in float");
  expect(close(pass.grad_key, exact.grad_key), "the gradient of the key in float");
  expect(close(pass.grad_value, exact.grad_value), "the gradient of the value in float");
  expect(close(pass.grad_bias, exact.grad_bias), "the gradient of the bias in float");
}

void test_gradients(Isa isa) {
  for (const std::size_t queries : {1, 17, 70})
    for (const std::size_t keys : {1, 65, 130}) {
      if (is_left_out(queries, keys)) continue;
      Example<double> x(queries, keys, 5 + queries % 7, 3 + keys % 9);
      x.right = 0;
      x.left = 40;
      // A row that sees nothing has a logsumexp of the sink alone.
      test_differences(x, isa);
      test_float_gradients(queries, keys, 5 + queries % 7, 3 + keys % 9, isa);
    }
  if (is_left_out(170, 130)) return;
  test_float_gradients(170, 130, 40, 37, isa);  // enough for tile registers
}

std::uint16_t to_float16(float x, const AllAttentionLoops& loops) {
  std::uint16_t half;
  loops.narrow_float16(&x, 1, &half);
  return half;
}

// The weights of soften() are what loops.h says, over all that is not 0 and somewhat beyond.
template <class T>
void test_weights(Isa isa) {
  using Limits = std::numeric_limits<T>;
  const FlushDenormals flush(FlushDenormals::What::results_and_operands);
  const AttentionLoops<T>& loops = attention_loops_for<T>(isa);
  const std::size_t lanes = panel_vectors * loops.width;
  const T least = Limits::min_exponent - 1;
  Aligned<T> tile(tile_keys * lanes), row(4 * lanes);
  std::mt19937 random(7);
  std::uniform_real_distribution<T> logits(least - 4, T{0}), near(T{-2}, T{0});
  bool close = true, zeros = true;
  for (int round = 0; round < 50; ++round) {
    T z[tile_keys] = {0,         least,      least - T{0x1p-6},  least - T{0.5},
                      least - 1, T{-0x1p99}, -Limits::infinity()};
    for (std::size_t j = 7; j < tile_keys; ++j) z[j] = j % 2 == 0 ? logits(random) : near(random);
    for (std::size_t k = 0; k < tile_keys * lanes; ++k) tile.data()[k] = z[k / lanes];
    std::fill_n(row.data(), 4 * lanes, T{0});
    loops.soften(tile.data(), tile_keys, row.data(), row.data() + lanes, nullptr,
                 row.data() + 2 * lanes);
    for (std::size_t j = 0; j < tile_keys; ++j) {
      const T weight = tile.data()[j * lanes];
      const long double logit = z[j], exact = std::exp2(logit);
      const long double ulp = Limits::epsilon() * std::exp2(std::floor(logit));
      if (z[j] < least)
        zeros = zeros && weight * T{1} == T{0};
      else
        close = close && std::abs(weight - exact) <= 1.5L * ulp && (z[j] != 0 || weight == T{1});
    }
  }
  expect(close, "weights are powers of two");
  expect(zeros, "and 0 below the smallest normal number");
}

void test_float16(Isa isa) {
  const AllAttentionLoops& loops = attention_loops(isa);
  std::vector<std::uint16_t> all(0x10000), back(all.size());
  std::vector<float> wide(all.size());
  for (std::size_t k = 0; k < all.size(); ++k) all[k] = static_cast<std::uint16_t>(k);
  loops.widen_float16(all.data(), all.size(), wide.data());
  loops.narrow_float16(wide.data(), wide.size(), back.data());
  bool exact = true, same = true;
  for (std::size_t k = 0; k < all.size(); ++k) {
    const unsigned exponent = (k >> 10) & 31, mantissa = k & 1023;
    if (exponent == 31 && mantissa != 0) {
      exact = exact && std::isnan(wide[k]);
      same = same && (back[k] & 0x7fff) > 0x7c00;
      continue;
    }
    const double size = exponent == 31 ? inf
                        : exponent == 0
                            ? mantissa * 0x1p-24
                            : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
    exact = exact && double{wide[k]} == (k & 0x8000 ? -size : size);
    same = same && back[k] == k;
  }
  expect(exact, "float16 to float");
  expect(same, "float16 there and back");
  const auto half = [&](float x) { return to_float16(x, loops); };
  expect(half(65519.0f) == 0x7bff && half(65520.0f) == 0x7c00, "float16 overflow");
  expect(half(0x1.002p0f) == 0x3c00 && half(0x1.006p0f) == 0x3c02, "ties to even");
  expect(half(0x1p-25f) == 0 && half(0x1.8p-25f) == 1, "the smallest float16");
  expect(half(-0x1p30f) == 0xfc00 && half(-0.0f) == 0x8000, "signs");
}

// An example of bfloat16 against the same numbers in doubles.
void test_bfloat16_against_sums(const Example<float>& from, Isa isa) {
  Example<double> exact(from.queries, from.keys, from.dim, from.value_dim);
  exact.left = from.left, exact.right = from.right;
  const auto round = [](const std::vector<float>& x, std::vector<double>& wide) {
    std::vector<std::uint16_t> half(x.size());
    for (std::size_t k = 0; k < x.size(); ++k) {
      half[k] = to_bfloat16(x[k]);
      wide[k] = double{from_bfloat16(half[k])};
    }
    return half;
  };
  const std::vector<std::uint16_t> query = round(from.query, exact.query);
  const std::vector<std::uint16_t> key = round(from.key, exact.key);
  const std::vector<std::uint16_t> value = round(from.value, exact.value);
  std::copy(from.bias.begin(), from.bias.end(), exact.bias.begin());
  std::copy(from.sinks.begin(), from.sinks.end(), exact.sinks.begin());
  exact.scale[0] = double{from.scale[0]};
  AttentionInput<float> in = from.input();
  in.element = Element::bfloat16;
  in.query = heads_of(query, from.queries, from.dim);
  in.key = heads_of(key, from.keys, from.dim);
  in.value = heads_of(value, from.keys, from.value_dim);
  Pass<double> wide(exact);
  wide.forward(exact, isa);
  std::vector<std::uint16_t> out(wide.out.size());
  std::vector<float> logsumexp(wide.logsumexp.size()), entropy(logsumexp);
  AttentionOutput<float> to;
  const auto rows = static_cast<std::ptrdiff_t>(from.queries);
  const auto columns = static_cast<std::ptrdiff_t>(from.value_dim);
  to.out = {out.data(), 0, rows * columns, columns};
  to.logsumexp = {logsumexp.data(), 0, rows, 1};
  to.entropy = {entropy.data(), 0, rows, 1};
  attention(in, to, 2, isa);
  double largest = 0;
  for (const double x : exact.value) largest = std::max(largest, std::abs(x));
  bool outputs = true, sums = true;
  for (std::size_t k = 0; k < out.size(); ++k)
    outputs = outputs && std::abs(double{from_bfloat16(out[k])} - wide.out[k]) <= 0x1p-7 * largest;
  for (std::size_t k = 0; k < logsumexp.size(); ++k)
    sums = sums && std::abs(double{logsumexp[k]} - wide.logsumexp[k]) < 1e-5 &&
           std::abs(double{entropy[k]} - wide.entropy[k]) < 1e-5;
  expect(outputs, "the outputs of bfloat16 are within their rounding");
  expect(sums, "logsumexp and entropy of bfloat16 are those of floats");
}

void test_bfloat16_sizes(Isa isa) {
  for (const std::size_t queries : {1, 17, 33, 70})
    for (const std::size_t keys : {1, 15, 33, 64, 130}) {
      if (is_left_out(queries, keys)) continue;
      Example<float> x(queries, keys, 5 + queries % 40, 3 + keys % 40);
      test_bfloat16_against_sums(x, isa);
      x.right = 0;
      x.left = 20;
      test_bfloat16_against_sums(x, isa);
    }
}

void test_bfloat16() {
  bool same = true;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const std::uint16_t back = to_bfloat16(from_bfloat16(half));
    same = same && ((half & 0x7fff) > 0x7f80 ? (back & 0x7fff) > 0x7f80 : back == half);
  }
  expect(same, "bfloat16 there and back");
  expect(to_bfloat16(0x1.01p0f) == 0x3f80 && to_bfloat16(0x1.03p0f) == 0x3f82, "ties to even");
}

}  // namespace

void test_attention() {
  for (const Isa isa : supported_isas()) {
    test_sizes<float>(isa);
    test_sizes<double>(isa);
    test_few<float>(isa);
    test_few<double>(isa);
    test_gradients(isa);
    test_weights<float>(isa);
    test_weights<double>(isa);
    test_float16(isa);
    test_bfloat16_sizes(isa);
  }
  test_bfloat16();
}

}  // namespace logitkit::test
