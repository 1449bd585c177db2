// Philox 4x32-10 and the laws of laws.h for one thread of a GPU: the same operations in the same
// order, each of them rounded as there, so that the bits are the same.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/rounded.h"
#include "random/law_constants.h"
#include "random/random_cuda.h"

namespace logitkit::cuda {

/// What the blocks of a row share: the key, and the counter but for its first word.
struct RowStream {
  std::uint32_t seed_low, seed_high;
  std::uint32_t row_low, row_high, step;
};

inline __device__ RowStream stream_of(const Rows& rows, std::size_t row) {
  const auto id =
      rows.row_ids != nullptr ? static_cast<std::uint64_t>(rows.row_ids[row]) : std::uint64_t{row};
  return {static_cast<std::uint32_t>(rows.seed), static_cast<std::uint32_t>(rows.seed >> 32),
          static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32), rows.step};
}

/// The 64 bits of an element.
struct ElementBits {
  std::uint32_t low, high;
};

/// Those of elements 2 b and 2 b + 1 of a row, b being the block.
struct BlockBits {
  ElementBits even, odd;
};

inline __device__ BlockBits philox(const RowStream& stream, std::uint32_t block) {
  std::uint32_t c0 = block, c1 = stream.row_low, c2 = stream.row_high, c3 = stream.step;
  std::uint32_t low = stream.seed_low, high = stream.seed_high;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{c0} * 0xD2511F53u;
    const std::uint64_t second = std::uint64_t{c2} * 0xCD9E8D57u;
    c0 = static_cast<std::uint32_t>(second >> 32) ^ c1 ^ low;
    c1 = static_cast<std::uint32_t>(second);
    c2 = static_cast<std::uint32_t>(first >> 32) ^ c3 ^ high;
    c3 = static_cast<std::uint32_t>(first);
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return {{c0, c1}, {c2, c3}};
}

inline __device__ std::uint64_t whole(ElementBits x) { return std::uint64_t{x.high} << 32 | x.low; }
inline __device__ bool has_high_bit(ElementBits x) { return x.high >> 31 != 0; }

/// The bits as wide as a number, of which the first ones count.
template <class T>
__device__ typename LawConstants<T>::Word head(ElementBits x);
template <>
inline __device__ std::uint32_t head<float>(ElementBits x) {
  return x.high;
}
template <>
inline __device__ std::uint64_t head<double>(ElementBits x) {
  return whole(x);
}

/// u = (bits + 1/2) / 2^64 if the highest bit is clear, else 1 - u: below 1/2, to its last digit.
template <class T>
__device__ T smaller_side(ElementBits x);
template <>
inline __device__ float smaller_side<float>(ElementBits x) {
  const std::uint32_t sign = has_high_bit(x) ? ~0u : 0u;
  const auto high = static_cast<float>(static_cast<std::int32_t>(x.high ^ sign));
  const auto low = static_cast<float>(static_cast<std::int32_t>((x.low ^ sign) >> 1));
  return product(fused(high, 0x1p31f, sum(low, 0.25f)), 0x1p-63f);
}
template <>
inline __device__ double smaller_side<double>(ElementBits x) {
  const std::uint64_t sign = has_high_bit(x) ? ~std::uint64_t{0} : 0;
  const auto bits = static_cast<double>(static_cast<std::int64_t>(whole(x) ^ sign));
  return product(sum(bits, 0.5), 0x1p-64);
}

/// c[0] + x (c[1] + x (...))
template <const auto& c, std::size_t k = 0, class T>
__device__ T polynomial(T x) {
  constexpr T first = c[k];
  if constexpr (k + 1 == sizeof(c) / sizeof(c[0]))
    return first;
  else
    return fused(polynomial<c, k + 1>(x), x, first);
}

/// -log(1 + z) - k ln 2, for z between sqrt(1/2) - 1 and sqrt(2) - 1.
inline __device__ float minus_log(float k, float z) {
  const float log = fused(product(z, z), polynomial<LawConstants<float>::log>(z), z);
  return fused(k, static_cast<float>(-ln_2), -log);
}
inline __device__ double minus_log(double k, double z) {
  const double s = quotient(z, sum(2.0, z)), w = product(s, s);
  const double half_square = product(product(0.5, z), z);
  const double series = fused(w, polynomial<LawConstants<double>::log>(w), half_square);
  const double rest = fused(-s, series, half_square);
  return fused(k, -ln_2, difference(rest, z));
}

/// y = 2^k m, sqrt(1/2) <= m < sqrt(2), for normal y > 0.
template <class T>
struct Reduced {
  T k, m;
};
template <class T>
__device__ Reduced<T> reduced(T y) {
  using C = LawConstants<T>;
  using Word = typename C::Word;
  constexpr int bias = sizeof(T) == 4 ? 127 : 1023;
  const Word one = bits_of(T(1)), bits = bits_of(y);
  const Word biased = (bits - bits_of(C::half_root) + one) >> C::mantissa;
  const T m = from_bits(static_cast<Word>(bits + one - (biased << C::mantissa)));
  return {static_cast<T>(static_cast<int>(biased) - bias), m};
}

/// u, as what is left to 1 if that is the smaller side.
template <class T>
__device__ T from_side(ElementBits x, T side) {
  return has_high_bit(x) ? difference(T(1), side) : side;
}

/// -log u.
template <class T>
__device__ T exponential(ElementBits x) {
  const T side = smaller_side<T>(x), y = from_side(x, side);
  const Reduced<T> u = reduced(y);
  // Near 1, what rounding takes from u - 1 = -(1 - u) would be all of it.
  return minus_log(u.k, y > LawConstants<T>::half_root ? -side : difference(u.m, T(1)));
}

/// What a law makes of the bits of elements 2 b and 2 b + 1.
struct UniformLaw {
  template <class T>
  __device__ static void draw(const BlockBits& x, T& even, T& odd) {
    even = of<T>(x.even);
    odd = of<T>(x.odd);
  }
  template <class T>
  __device__ static T of(ElementBits x) {
    constexpr T below_one = LawConstants<T>::below_one;
    const T u = from_side(x, smaller_side<T>(x));
    return u < below_one ? u : below_one;
  }
};

struct ExponentialLaw {
  template <class T>
  __device__ static void draw(const BlockBits& x, T& even, T& odd) {
    even = exponential<T>(x.even);
    odd = exponential<T>(x.odd);
  }
};

struct GumbelLaw {
  template <class T>
  __device__ static void draw(const BlockBits& x, T& even, T& odd) {
    even = of<T>(x.even);
    odd = of<T>(x.odd);
  }
  template <class T>
  __device__ static T of(ElementBits x) {
    const Reduced<T> e = reduced(exponential<T>(x));
    return minus_log(e.k, difference(e.m, T(1)));
  }
};

/// Box and Muller: r cos(theta) and r sin(theta).
struct NormalLaw {
  template <class T>
  __device__ static void draw(const BlockBits& x, T& even, T& odd) {
    using C = LawConstants<T>;
    using Word = typename C::Word;
    constexpr int width = 8 * sizeof(T);
    constexpr T shift = T(1) - C::half_unit;
    const T e = exponential<T>(x.even);
    const T r = root(sum(e, e));
    // The first bits: sign of the cosine, sign of the sine, exchange. The others are t in (0, 1)
    // for an angle of t pi / 4: as digits of a number in [1, 2), and half a unit of them.
    const Word turn = head<T>(x.odd);
    const Word digits = static_cast<Word>(turn << 3) >> (width - C::mantissa);
    const T t = difference(from_bits(static_cast<Word>(digits | bits_of(T(1)))), shift);
    const T w = product(t, t);
    const T sin = product(t, polynomial<C::sin>(w)), cos = fused(polynomial<C::cos>(w), w, T(1));
    constexpr Word highest = Word{1} << (width - 1);
    const bool exchange = (turn << 2 & highest) != 0;
    const T of_even = product(r, exchange ? sin : cos), of_odd = product(r, exchange ? cos : sin);
    even = from_bits(static_cast<Word>(bits_of(of_even) ^ (turn & highest)));
    odd = from_bits(static_cast<Word>(bits_of(of_odd) ^ (turn << 1 & highest)));
  }
};

/// The numbers of the bits alone.
struct BitsLaw {
  __device__ static void draw(const BlockBits& x, std::uint64_t& even, std::uint64_t& odd) {
    even = whole(x.even);
    odd = whole(x.odd);
  }
};

/// Elements first, ..., first + count - 1 of a row, for even `first` and `count`.
template <class Law, int count, class T>
__device__ void draw(const RowStream& stream, std::uint64_t first, T (&x)[count]) {
#pragma unroll
  for (int k = 0; k < count; k += 2)
    Law::draw(philox(stream, static_cast<std::uint32_t>((first + k) / 2)), x[k], x[k + 1]);
}

}  // namespace logitkit::cuda
