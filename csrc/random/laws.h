// The laws that random bits are turned to, for the vectors of one instruction set. Each operation
// is one of IEEE 754, so that all instruction sets give the same bits. Include only from files
// with an instruction set of their own, after that one's words.
#pragma once

#include <cstddef>

#include "random/law_constants.h"
#include "random/philox.h"
#include "simd/exp.h"

namespace logitkit {
namespace {

using std::size_t;

template <class V>
using WordsOf = decltype(as_words(V::all(0)));

/// The four words of a block in the low halves of lanes; what stands above them is arbitrary.
template <class U64>
struct Words {
  U64 w[4];
};

template <class U64>
[[gnu::always_inline]] inline Words<U64> philox(U64 block, const Draw& draw) {
  U64 c0 = block, c1 = U64::all(draw.row & 0xffffffffu), c2 = U64::all(draw.row >> 32);
  U64 c3 = U64::all(draw.stream->step);
#pragma GCC unroll 10
  for (size_t round = 0; round < 10; ++round) {
    const U64 first = multiply_low(c0, U64::all(0xD2511F53u));
    const U64 second = multiply_low(c2, U64::all(0xCD9E8D57u));
    c0 = second.template right<32>() ^ c1 ^ U64::all(draw.stream->key[0][round]);
    c1 = second;
    c2 = first.template right<32>() ^ c3 ^ U64::all(draw.stream->key[1][round]);
    c3 = first;
  }
  return {{c0, c1, c2, c3}};
}

/// The 64 bits of an element, as the numbers of one type want them.
template <class U64>
struct Bits64 {
  U64 bits;
  U64 head() const { return bits; }
};
template <class U32>
struct Bits32 {
  U32 low, high;
  U32 head() const { return high; }
};

/// The bits of elements 2 b and 2 b + 1, for V::width blocks b.
template <class Bits>
struct Pair {
  Bits even, odd;
};
template <class V>
[[gnu::always_inline]] inline auto bits_of_blocks(const Draw& draw, std::uint64_t block) {
  using U64 = WordsOf<typename V::Wide>;
  using U = WordsOf<V>;
  if constexpr (sizeof(typename V::Element) == 8) {
    const Words<U64> x = philox(U64::counting(block, 1), draw);
    return Pair<Bits64<U>>{{merge_low(x.w[0], x.w[1])}, {merge_low(x.w[2], x.w[3])}};
  } else {
    // Even blocks in one vector and odd ones in the next, so that their halves merge in order.
    constexpr size_t parts = V::width / V::Wide::width;
    U64 x[4][parts];
#pragma GCC unroll 2
    for (size_t p = 0; p < parts; ++p) {
      const Words<U64> part = philox(U64::counting(block + p, parts), draw);
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) x[k][p] = part.w[k];
    }
    U merged[4];
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) merge_low(x[k], merged[k]);
    return Pair<Bits32<U>>{{merged[0], merged[1]}, {merged[2], merged[3]}};
  }
}

/// u = (bits + 1/2) / 2^64 if the highest bit is clear, else 1 - u: below 1/2, to its last digit.
template <class V, class U64>
inline V smaller_side(Bits64<U64> x) {
  const V whole = to_float(x.bits ^ x.bits.sign());
  return (whole + all<V>(0.5)) * all<V>(0x1p-64);
}
template <class V, class U32>
inline V smaller_side(Bits32<U32> x) {
  const U32 sign = x.high.sign();
  const V high = to_float(x.high ^ sign), low = to_float((x.low ^ sign).template right<1>());
  return fma(high, all<V>(0x1p31f), low + all<V>(0.25f)) * all<V>(0x1p-63f);
}

/// c[0] + x (c[1] + x (...))
template <class V, size_t terms>
[[gnu::always_inline]] inline V polynomial(const typename V::Element (&c)[terms], V x) {
  V sum = all<V>(c[terms - 1]);
#pragma GCC unroll 16
  for (size_t k = terms - 1; k > 0; --k) sum = fma(sum, x, all<V>(c[k - 1]));
  return sum;
}

/// -log(1 + z) - k ln 2, for z between sqrt(1/2) - 1 and sqrt(2) - 1.
template <class V>
[[gnu::always_inline]] inline V minus_log(V k, V z) {
  using C = LawConstants<typename V::Element>;
  const V minus_ln_2 = all<V>(static_cast<typename V::Element>(-ln_2));
  if constexpr (sizeof(typename V::Element) == 4) {
    // log(1 + z) = z + z^2 P(z)
    const V log = fma(z * z, polynomial(C::log, z), z);
    return fms(k, minus_ln_2, log);
  } else {
    // log(1 + z) = z - (z^2 / 2 - s (z^2 / 2 + s^2 P(s^2))), s = z / (2 + z)
    const V s = z / (all<V>(2) + z), w = s * s;
    const V half_square = all<V>(0.5) * z * z;
    const V rest = fnma(s, fma(w, polynomial(C::log, w), half_square), half_square);
    return fma(k, minus_ln_2, rest - z);
  }
}

/// y = 2^k m, sqrt(1/2) <= m < sqrt(2), for normal y > 0.
template <class V>
struct Reduced {
  V k, m;
};
template <class V>
[[gnu::always_inline]] inline Reduced<V> reduced(V y) {
  using C = LawConstants<typename V::Element>;
  using E = ExpConstants<typename V::Element>;
  const V one = all<V>(1), magic = all<V>(E::magic);
  const auto biased =
      as_words(add_bits(sub_bits(y, all<V>(C::half_root)), one)).template right<C::mantissa>();
  const V m = sub_bits(add_bits(y, one), as_float(biased.template left<C::mantissa>()));
  const V k = add_bits(as_float(biased), magic) - all<V>(E::magic + E::bias);
  return {k, m};
}

/// -log u.
///   Error:  2^-22 of the result in float, 2^-51 in double
template <class V, class Bits>
[[gnu::always_inline]] inline V exponential(Bits x) {
  const V one = all<V>(1), half_root = all<V>(LawConstants<typename V::Element>::half_root);
  const V side = smaller_side<V>(x);
  const V y = select_signed(x.head(), one - side, side);  // u
  const Reduced<V> u = reduced(y);
  // Near 1, what rounding takes from u - 1 = -(1 - u) would be all of it.
  const V z = select(greater(y, half_root), all<V>(0) - side, u.m - one);
  return minus_log(u.k, z);
}

struct UniformLaw {
  template <class V, class Bits>
  [[gnu::always_inline]] static void draw(Pair<Bits> x, V& even, V& odd) {
    even = of<V>(x.even);
    odd = of<V>(x.odd);
  }
  template <class V, class Bits>
  static V of(Bits x) {
    const V side = smaller_side<V>(x);
    const V u = select_signed(x.head(), all<V>(1) - side, side);
    return min(u, all<V>(LawConstants<typename V::Element>::below_one));
  }
};

struct ExponentialLaw {
  template <class V, class Bits>
  [[gnu::always_inline]] static void draw(Pair<Bits> x, V& even, V& odd) {
    even = exponential<V>(x.even);
    odd = exponential<V>(x.odd);
  }
};

struct GumbelLaw {
  template <class V, class Bits>
  [[gnu::always_inline]] static void draw(Pair<Bits> x, V& even, V& odd) {
    even = of(exponential<V>(x.even));
    odd = of(exponential<V>(x.odd));
  }
  template <class V>
  [[gnu::always_inline]] static V of(V exponential) {
    const Reduced<V> e = reduced(exponential);
    return minus_log(e.k, e.m - all<V>(1));
  }
};

/// Box and Muller: r cos(theta) and r sin(theta).
struct NormalLaw {
  template <class V, class Bits>
  [[gnu::always_inline]] static void draw(Pair<Bits> x, V& even, V& odd) {
    using C = LawConstants<typename V::Element>;
    using U = WordsOf<V>;
    const V e = exponential<V>(x.even);
    const V r = sqrt(e + e);
    // The first bits: sign of the cosine, sign of the sine, exchange. The others are t in (0, 1)
    // for an angle of t pi / 4: as digits of a number in [1, 2), and half a unit of them.
    const U turn = x.odd.head();
    const U digits =
        turn.template left<3>().template right<8 * sizeof(C::half_unit) - C::mantissa>();
    const V t = as_float(digits | as_words(all<V>(1))) - all<V>(1 - C::half_unit);
    const V w = t * t;
    const V sin = t * polynomial(C::sin, w), cos = fma(w, polynomial(C::cos, w), all<V>(1));
    const U exchange = turn.template left<2>(), sign = as_words(all<V>(-0.0f));
    const U even_sign = turn & sign, odd_sign = turn.template left<1>() & sign;
    even = as_float(as_words(r * select_signed(exchange, sin, cos)) ^ even_sign);
    odd = as_float(as_words(r * select_signed(exchange, cos, sin)) ^ odd_sign);
  }
};

/// The first n <= V::width elements of x, and those of `rest` in the other lanes.
template <class V>
inline V load_some(const typename V::Element* x, size_t n, V rest) {
  return n == V::width ? V::load(x) : V::load_first(x, n, rest);
}
template <class V>
inline void store_some(V v, typename V::Element* x, size_t n) {
  if (n == V::width)
    v.store(x);
  else
    v.store_first(x, n);
}

/// Calls use(v, j, n) for vectors v of a row, whose n <= V::width first lanes are the elements
/// draw.first + j, ...
template <class V, class Law, class Use>
[[gnu::always_inline]] inline void for_each_vector(const Draw& draw, const Use& use) {
  constexpr size_t step = 2 * V::width;
  const auto next = [&](size_t j, V& first, V& second) {
    V even, odd;
    Law::template draw<V>(bits_of_blocks<V>(draw, (draw.first + j) / 2), even, odd);
    zip(even, odd, first, second);
  };
  V first, second;
  size_t j = 0;
  for (; j + step <= draw.count; j += step) {
    next(j, first, second);
    use(first, j, V::width);
    use(second, j + V::width, V::width);
  }
  if (j == draw.count) return;
  next(j, first, second);
  const size_t rest = draw.count - j;
  use(first, j, rest < V::width ? rest : V::width);
  if (rest > V::width) use(second, j + V::width, rest - V::width);
}

}  // namespace
}  // namespace logitkit
