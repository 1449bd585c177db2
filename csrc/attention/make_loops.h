// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/loops.h"
#include "simd/exp.h"
#include "simd/exp2.h"
#include "simd/prefetch.h"

namespace logitkit {
namespace {

using std::size_t;

template <class V>
constexpr size_t lanes_of = panel_vectors * V::width;

/// p, about which the compiler forgets how it was made: it otherwise keeps the address of each
/// element in a register of its own, of which there are not so many.
template <class P>
inline P* opaque(P* p) {
#if defined(__GNUC__)
  __asm__("" : "+r"(p));
#endif
  return p;
}

template <class V>
inline V load_columns(const typename V::Element* x, size_t n) {
  return n >= V::width ? V::load(x) : V::load_first(x, n, V::all(0));
}

/// The constants that depend on the element.
template <class Element>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float lowest = -0x1.fffffep+127f, infinity = __builtin_inff();
  static constexpr float no_power = -256.0f;  // 2^x is 0 below
  static constexpr float saturated = 20.0f;   // tanh(x / 2) is 1 above
};
template <>
struct Limits<double> {
  static constexpr double lowest = -0x1.fffffffffffffp+1023, infinity = __builtin_inf();
  static constexpr double no_power = -2048.0;
  static constexpr double saturated = 40.0;
};

template <class V>
void pack(const typename V::Element* const* rows, const typename V::Element* factors, size_t count,
          size_t depth, typename V::Element* panel) {
  for (size_t i = 0; i < count; i += V::width)
    for (size_t d = 0; d < depth; d += V::width) {
      V block[V::width];
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k)
        block[k] = i + k < count
                       ? load_columns<V>(rows[i + k] + d, depth - d) * V::all(factors[i + k])
                       : V::all(0);
      transpose(block);
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k)
        if (d + k < depth) block[k].store(panel + (d + k) * lanes_of<V> + i);
    }
}

template <class V>
void unpack(const typename V::Element* panel, const typename V::Element* factors, size_t count,
            size_t depth, typename V::Element* const* rows) {
  for (size_t i = 0; i < count; i += V::width) {
    const V factor = V::load(factors + i);
    for (size_t d = 0; d < depth; d += V::width) {
      V block[V::width];
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k)
        block[k] = d + k < depth ? V::load(panel + (d + k) * lanes_of<V> + i) * factor : V::all(0);
      transpose(block);
#pragma GCC unroll 16
      for (size_t k = 0; k < V::width; ++k) {
        if (i + k >= count) continue;
        if (depth - d >= V::width)
          block[k].store(rows[i + k] + d);
        else
          block[k].store_first(rows[i + k] + d, depth - d);
      }
    }
  }
}

/// The scores of `rows` keys against `vectors` vectors of queries, all in registers.
template <class V, size_t rows, size_t vectors>
inline void score_rows(const typename V::Element* panel, const typename V::Element* const* keys,
                       size_t depth, typename V::Element* tile) {
  const typename V::Element* key[rows];
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j) {
    key[j] = keys[j];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sum[j][v] = V::all(0);
  }
  // Counting takes turns on the ports of the multiply-adds: 5 % lost where it is not unrolled.
#pragma GCC unroll 4
  for (size_t d = 0; d < depth; ++d) {
    V query[vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) query[v] = V::load(panel + d * lanes_of<V> + v * V::width);
#pragma GCC unroll 16
    for (size_t j = 0; j < rows; ++j) {
      const V element = V::all(key[j][d]);
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) sum[j][v] = multiply_add(query[v], element, sum[j][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sum[j][v].store(tile + j * lanes_of<V> + v * V::width);
}

/// `rows` dimensions of the weighted sum of values. The sum over a tile begins at 0, for its
/// error does then not grow with the number of tiles.
template <class V, size_t rows, size_t vectors>
inline void weigh_rows(const typename V::Element* tile, const typename V::Element* const* values,
                       size_t dim, size_t count, const typename V::Element* factor,
                       typename V::Element* out) {
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (size_t d = 0; d < rows; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) sum[d][v] = V::all(0);
#pragma GCC unroll 4
  for (size_t j = 0; j < count; ++j) {
    const typename V::Element* value = opaque(values[j] + dim);
    V weight[vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) weight[v] = V::load(tile + j * lanes_of<V> + v * V::width);
#pragma GCC unroll 16
    for (size_t d = 0; d < rows; ++d) {
      const V element = V::all(value[d]);
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) sum[d][v] = multiply_add(weight[v], element, sum[d][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t d = 0; d < rows; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      typename V::Element* to = out + d * lanes_of<V> + v * V::width;
      multiply_add(V::load(to), V::load(factor + v * V::width), sum[d][v]).store(to);
    }
}

/// Calls f with a constant number of rows at a time, `most` as long as there are so many, then
/// halves: f(begin, constant).
template <size_t most, class F>
inline void in_blocks(size_t rows, const F& f) {
  size_t begin = 0;
  for (; begin + most <= rows; begin += most) f.template run<most>(begin);
  if constexpr (most > 8)
    if (rows - begin >= 8) f.template run<8>(begin), begin += 8;
  if constexpr (most > 4)
    if (rows - begin >= 4) f.template run<4>(begin), begin += 4;
  if (rows - begin >= 2) f.template run<2>(begin), begin += 2;
  if (rows - begin >= 1) f.template run<1>(begin);
}

template <class V, size_t vectors>
struct ScoreBlock {
  const typename V::Element* panel;
  const typename V::Element* const* keys;
  size_t depth;
  typename V::Element* tile;
  template <size_t rows>
  void run(size_t begin) const {
    score_rows<V, rows, vectors>(panel, keys + begin, depth, tile + begin * lanes_of<V>);
  }
};

template <class V, size_t vectors>
struct WeighBlock {
  const typename V::Element* tile;
  const typename V::Element* const* values;
  size_t count;
  const typename V::Element* factor;
  typename V::Element* out;
  template <size_t rows>
  void run(size_t begin) const {
    weigh_rows<V, rows, vectors>(tile, values, begin, count, factor, out + begin * lanes_of<V>);
  }
};

/// Blocks::rows_of_3, rows_of_2 and rows_of_1 rows by so many vectors fill the registers; the
/// addresses of more than 8 keys do not fit the others.
constexpr size_t with_addresses(size_t rows) { return rows < 8 ? rows : 8; }

template <class V, class Blocks>
void score(const typename V::Element* panel, const typename V::Element* const* keys, size_t count,
           size_t depth, size_t first, size_t vectors, typename V::Element* tile) {
  panel += first * V::width;
  tile += first * V::width;
  if (vectors == 3)
    in_blocks<with_addresses(Blocks::rows_of_3)>(count, ScoreBlock<V, 3>{panel, keys, depth, tile});
  else if (vectors == 2)
    in_blocks<with_addresses(Blocks::rows_of_2)>(count, ScoreBlock<V, 2>{panel, keys, depth, tile});
  else
    in_blocks<with_addresses(Blocks::rows_of_1)>(count, ScoreBlock<V, 1>{panel, keys, depth, tile});
}

template <class V, class Blocks>
void weigh(const typename V::Element* tile, const typename V::Element* const* values, size_t count,
           size_t depth, size_t first, size_t vectors, const typename V::Element* factor,
           typename V::Element* out) {
  tile += first * V::width;
  factor += first * V::width;
  out += first * V::width;
  if (vectors == 3)
    in_blocks<Blocks::rows_of_3>(depth, WeighBlock<V, 3>{tile, values, count, factor, out});
  else if (vectors == 2)
    in_blocks<Blocks::rows_of_2>(depth, WeighBlock<V, 2>{tile, values, count, factor, out});
  else
    in_blocks<Blocks::rows_of_1>(depth, WeighBlock<V, 1>{tile, values, count, factor, out});
}

/// How many bytes ahead rows are asked for where memory is what takes the time. Keys are read in
/// blocks of V::width rows, and less ahead is better for them. Found by measuring 64 dimensions.
constexpr size_t key_bytes_ahead = 2048, value_bytes_ahead = 5120;

/// The scores of V::width keys against one query.
template <class V>
inline V score_few_keys(const typename V::Element* query, const typename V::Element* const* keys,
                        size_t depth) {
  V sum[V::width];
#pragma GCC unroll 16
  for (size_t j = 0; j < V::width; ++j) sum[j] = V::all(0);
  size_t d = 0;
  for (; d + V::width <= depth; d += V::width) {
    const V element = V::load(query + d);
#pragma GCC unroll 16
    for (size_t j = 0; j < V::width; ++j)
      sum[j] = multiply_add(element, V::load(keys[j] + d), sum[j]);
  }
  if (d < depth)
    for (size_t j = 0; j < V::width; ++j)
      sum[j] = multiply_add(V::load(query + d), load_columns<V>(keys[j] + d, depth - d), sum[j]);
  return sums_of_lanes(sum);
}

template <class V>
void score_few(const typename V::Element* queries, size_t rows, size_t stride,
               const typename V::Element* const* keys, size_t count, size_t depth,
               typename V::Element* tile) {
  const typename V::Element* some[V::width];
  for (size_t j = 0; j < count; j += V::width) {
    const size_t n = count - j < V::width ? count - j : V::width;
    for (size_t k = 0; k < V::width; ++k) {
      some[k] = keys[j + (k < n ? k : n - 1)];
      // Rows of one head usually lie one after the other.
      for (size_t d = 0; d < depth; d += 64 / sizeof(typename V::Element))
        prefetch(some[k] + d + key_bytes_ahead / sizeof(typename V::Element));
    }
    for (size_t i = 0; i < rows; ++i) {
      typename V::Element scores[V::width];
      score_few_keys<V>(queries + i * stride, some, depth).store(scores);
      for (size_t k = 0; k < n; ++k) tile[(j + k) * lanes_of<V> + i] = scores[k];
    }
  }
}

/// Up to `vectors` vectors of dimensions of the weighted sum of values for one query.
template <class V, size_t vectors>
inline void weigh_few_dims(const typename V::Element* weights,
                           const typename V::Element* const* values, size_t dim, size_t count,
                           size_t depth, typename V::Element factor, typename V::Element* out) {
  V even[vectors], odd[vectors];
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; ++v) even[v] = odd[v] = V::all(0);
  const auto add = [&](size_t j, V(&sum)[vectors]) {
    const V weight = V::all(weights[j * lanes_of<V>]);
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      const size_t d = dim + v * V::width;
      prefetch(values[j] + d + value_bytes_ahead / sizeof(typename V::Element));
      sum[v] = multiply_add(weight, load_columns<V>(values[j] + d, depth - d), sum[v]);
    }
  };
  size_t j = 0;
  for (; j + 2 <= count; j += 2) {
    add(j, even);
    add(j + 1, odd);
  }
  if (j < count) add(j, even);
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; ++v) {
    typename V::Element* to = out + dim + v * V::width;
    multiply_add(V::load(to), V::all(factor), even[v] + odd[v]).store(to);
  }
}

template <class V>
void weigh_few(const typename V::Element* tile, size_t rows,
               const typename V::Element* const* values, size_t count, size_t depth,
               const typename V::Element* factor, typename V::Element* out, size_t stride) {
  for (size_t i = 0; i < rows; ++i)
    for (size_t d = 0; d < depth;) {
      if (depth - d > 3 * V::width) {
        weigh_few_dims<V, 4>(tile + i, values, d, count, depth, factor[i], out + i * stride);
        d += 4 * V::width;
      } else {
        weigh_few_dims<V, 1>(tile + i, values, d, count, depth, factor[i], out + i * stride);
        d += V::width;
      }
    }
}

/// tanh(x) = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x. The parts of the exponential keep
/// the digits of e^2|x| - 1 where x is small.
template <class V>
inline V tanh(V x) {
  using L = Limits<typename V::Element>;
  const V zero = V::all(0), twice = x + x;
  const V size = min(V::all(L::saturated), max(twice, zero - twice));
  const ExpParts<V> e = exp_parts(size);
  const V power = power_of_two(e.n, exponent_bias(zero));
  const V expm1 = multiply_add(power, e.t, power - V::all(1));
  const V result = expm1 / (expm1 + V::all(2));
  return select(greater(zero, x), zero - result, result);
}

template <class V>
void cap(typename V::Element* tile, size_t count, typename V::Element cap) {
  for (size_t k = 0; k < count * lanes_of<V>; k += V::width)
    (V::all(cap) * tanh(V::load(tile + k))).store(tile + k);
}

template <class V>
void slope(typename V::Element* tile, size_t count, const typename V::Element* slopes,
           const typename V::Element* positions) {
  for (size_t j = 0; j < count; ++j)
    for (size_t i = 0; i < lanes_of<V>; i += V::width) {
      const V ahead = V::load(positions + i) - V::all(static_cast<typename V::Element>(j));
      const V distance = max(ahead, V::all(0) - ahead);
      typename V::Element* z = tile + j * lanes_of<V> + i;
      fnma(V::load(slopes + i), distance, V::load(z)).store(z);
    }
}

template <class V>
void add(typename V::Element* tile, size_t count, const typename V::Element* terms,
         typename V::Element factor) {
  using L = Limits<typename V::Element>;
  const V lowest = V::all(L::lowest);
  for (size_t k = 0; k < count * lanes_of<V>; k += V::width) {
    const V term = V::load(terms + k);
    // A finite term stays finite, though not its product: the lowest number is a popular mask,
    // and a row with nothing else is no empty row.
    const V sum = V::load(tile + k) + max(lowest, term * V::all(factor));
    select(greater(lowest, term), V::all(-L::infinity), sum).store(tile + k);
  }
}

template <class V>
void hide(typename V::Element* tile, size_t count, const typename V::Element* begins,
          const typename V::Element* ends) {
  const V hidden = V::all(-Limits<typename V::Element>::infinity);
  for (size_t j = 0; j < count; ++j) {
    const V key = V::all(static_cast<typename V::Element>(j));
    for (size_t i = 0; i < lanes_of<V>; i += V::width) {
      typename V::Element* z = tile + j * lanes_of<V> + i;
      const V not_past = select(greater(V::load(ends + i), key), V::load(z), hidden);
      select(greater(V::load(begins + i), key), hidden, not_past).store(z);
    }
  }
}

template <class V, bool with_mean>
inline void soften_lanes(typename V::Element* tile, size_t count, typename V::Element* max_,
                         typename V::Element* sum_, typename V::Element* mean_,
                         typename V::Element* factor) {
  using L = Limits<typename V::Element>;
  constexpr size_t stride = lanes_of<V>, step = 4;
  const V before = V::load(max_);
  V top[step] = {before, before, before, before};
  size_t j = 0;
  for (; j + step <= count; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) top[k] = max(top[k], V::load(tile + (j + k) * stride));
  for (; j < count; ++j) top[0] = max(top[0], V::load(tile + j * stride));
  const V now = max(max(top[0], top[1]), max(top[2], top[3]));
  const V change = before - now;
  const V rescale = exp2(change);
  V sum[step], mean[step];
#pragma GCC unroll 4
  for (size_t k = 0; k < step; ++k) sum[k] = mean[k] = V::all(0);
  const auto one = [&](size_t row, size_t k) {
    const V z = V::load(tile + row * stride) - now;
    const V p = exp2(z);
    p.store(tile + row * stride);
    sum[k] = sum[k] + p;
    // The bound keeps 0 * -inf away; it is an operand so that a NaN stays.
    if constexpr (with_mean) mean[k] = multiply_add(p, max(V::all(L::no_power), z), mean[k]);
  };
  for (j = 0; j + step <= count; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) one(j + k, k);
  for (; j < count; ++j) one(j, 0);
  const V old_sum = V::load(sum_);
  if constexpr (with_mean) {
    const V moved = multiply_add(max(V::all(L::no_power), change), old_sum, V::load(mean_));
    const V tile_mean = (mean[0] + mean[1]) + (mean[2] + mean[3]);
    multiply_add(moved, rescale, tile_mean).store(mean_);
  }
  multiply_add(old_sum, rescale, (sum[0] + sum[1]) + (sum[2] + sum[3])).store(sum_);
  now.store(max_);
  rescale.store(factor);
}

template <class V>
void soften(typename V::Element* tile, size_t count, typename V::Element* max,
            typename V::Element* sum, typename V::Element* mean, typename V::Element* factor) {
  if (mean != nullptr)
    soften_lanes<V, true>(tile, count, max, sum, mean, factor);
  else
    soften_lanes<V, false>(tile, count, max, sum, mean, factor);
}

template <class V, bool with_slopes>
inline void grade_lanes(typename V::Element* tile, typename V::Element* gradients, size_t count,
                        const typename V::Element* logsumexp_, const typename V::Element* terms_,
                        const typename V::Element* slopes_) {
  const V logsumexp = V::load(logsumexp_), terms = V::load(terms_), zero = V::all(0);
  const V slopes = with_slopes ? V::load(slopes_) : zero;
  const V no_power = V::all(Limits<typename V::Element>::no_power);
#pragma GCC unroll 4
  for (size_t j = 0; j < count; ++j) {
    typename V::Element *z = tile + j * lanes_of<V>, *g = gradients + j * lanes_of<V>;
    const V t = V::load(z) - logsumexp;
    const V p = exp2(t);
    p.store(z);
    V sum = V::load(g) + terms;
    if constexpr (with_slopes) sum = fnma(slopes, max(no_power, t), sum);
    // What is hidden has no gradient, were its product infinite; a NaN of p stays.
    select(greater(p, zero), p * sum, p).store(g);
  }
}

template <class V>
void grade(typename V::Element* tile, typename V::Element* gradients, size_t count,
           const typename V::Element* logsumexp, const typename V::Element* terms,
           const typename V::Element* slopes) {
  if (slopes != nullptr)
    grade_lanes<V, true>(tile, gradients, count, logsumexp, terms, slopes);
  else
    grade_lanes<V, false>(tile, gradients, count, logsumexp, terms, slopes);
}

template <class V>
void uncap(typename V::Element* gradients, const typename V::Element* capped, size_t count,
           typename V::Element cap) {
  for (size_t k = 0; k < count * lanes_of<V>; k += V::width) {
    const V tanh = V::load(capped + k) / V::all(cap);
    const V slope = fnma(tanh, tanh, V::all(1)), zero = V::all(0);
    // A hidden score may be NaN. Its gradient is 0, and stays so if this factor is a number.
    (V::load(gradients + k) * select(greater(slope, zero), slope, zero)).store(gradients + k);
  }
}

/// `rows` keys by `vectors` vectors of dimensions of the weighted sum over queries.
template <class V, size_t rows, size_t vectors>
inline void spread_rows(const typename V::Element* tile, const typename V::Element* queries,
                        size_t first, size_t end, size_t depth, typename V::Element* out) {
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) sum[j][v] = V::all(0);
#pragma GCC unroll 4
  for (size_t i = first; i < end; ++i) {
    const typename V::Element* weight = opaque(tile + i);
    V query[vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) query[v] = V::load(queries + i * depth + v * V::width);
#pragma GCC unroll 16
    for (size_t j = 0; j < rows; ++j) {
      const V element = V::all(weight[j * lanes_of<V>]);
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v) sum[j][v] = multiply_add(query[v], element, sum[j][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t j = 0; j < rows; ++j)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      typename V::Element* to = out + j * depth + v * V::width;
      (V::load(to) + sum[j][v]).store(to);
    }
}

template <class V, size_t vectors>
struct SpreadBlock {
  const typename V::Element *tile, *queries;
  size_t first, end, depth;
  typename V::Element* out;
  template <size_t rows>
  void run(size_t begin) const {
    spread_rows<V, rows, vectors>(tile + begin * lanes_of<V>, queries, first, end, depth,
                                  out + begin * depth);
  }
};

template <class V, class Blocks>
void spread(const typename V::Element* tile, const typename V::Element* queries, size_t count,
            size_t depth, size_t first, size_t end, typename V::Element* out) {
  for (size_t d = 0; d < depth;) {
    const size_t vectors = (depth - d) / V::width;
    const auto block = [&](auto sized) {
      sized.tile = tile, sized.queries = queries + d, sized.first = first, sized.end = end;
      sized.depth = depth, sized.out = out + d;
      return sized;
    };
    if (Blocks::rows_of_4 > 0 && vectors >= 4) {
      in_blocks<Blocks::rows_of_4 + (Blocks::rows_of_4 == 0)>(count, block(SpreadBlock<V, 4>()));
      d += 4 * V::width;
    } else if (vectors >= 3) {
      in_blocks<Blocks::rows_of_3>(count, block(SpreadBlock<V, 3>()));
      d += 3 * V::width;
    } else if (vectors == 2) {
      in_blocks<Blocks::rows_of_2>(count, block(SpreadBlock<V, 2>()));
      d += 2 * V::width;
    } else {
      in_blocks<Blocks::rows_of_1>(count, block(SpreadBlock<V, 1>()));
      d += V::width;
    }
  }
}

template <class V>
bool finite(const typename V::Element* const* rows, size_t count, size_t depth) {
  V zeros = V::all(0);
  for (size_t j = 0; j < count; ++j)
    for (size_t d = 0; d < depth; d += V::width)
      zeros = multiply_add(load_columns<V>(rows[j] + d, depth - d), V::all(0), zeros);
  // 0 * inf is NaN, which is neither above nor below.
  return !any(greater(zeros, V::all(0))) &&
         largest_lane(select(greater(V::all(1), zeros), V::all(0), V::all(1))) == 0;
}

template <class V>
bool any_visible(const typename V::Element* tile, size_t count, size_t vectors) {
  const V hidden = V::all(Limits<typename V::Element>::lowest);
  for (size_t j = 0; j < count; ++j)
    for (size_t v = 0; v < vectors; ++v) {
      const V below = select(greater(hidden, V::load(tile + j * lanes_of<V> + v * V::width)),
                             V::all(0), V::all(1));
      if (any(greater(below, V::all(0)))) return true;
    }
  return false;
}

template <class F32>
void widen_float16(const std::uint16_t* from, size_t n, float* to) {
  F32 wide;
  size_t i = 0;
  for (; i + F32::width <= n; i += F32::width) {
    load_float16(from + i, wide);
    wide.store(to + i);
  }
  if (i == n) return;
  std::uint16_t rest[F32::width] = {};
  for (size_t k = 0; i + k < n; ++k) rest[k] = from[i + k];
  load_float16(rest, wide);
  wide.store_first(to + i, n - i);
}

template <class F32>
void narrow_float16(const float* from, size_t n, std::uint16_t* to) {
  size_t i = 0;
  for (; i + F32::width <= n; i += F32::width) store_float16(F32::load(from + i), to + i);
  if (i == n) return;
  std::uint16_t rest[F32::width];
  store_float16(load_columns<F32>(from + i, n - i), rest);
  for (size_t k = 0; i + k < n; ++k) to[i + k] = rest[k];
}

template <class V, class Blocks>
constexpr AttentionLoops<typename V::Element> make_loops_of() {
  return {V::width, pack<V>,   score<V, Blocks>,  cap<V>,    slope<V>,      add<V>,
          hide<V>,  soften<V>, weigh<V, Blocks>,  unpack<V>, score_few<V>,  weigh_few<V>,
          grade<V>, uncap<V>,  spread<V, Blocks>, finite<V>, any_visible<V>};
}

template <class F32, class F64, class Blocks>
constexpr AllAttentionLoops make_loops() {
  return {make_loops_of<F32, Blocks>(), make_loops_of<F64, Blocks>(), widen_float16<F32>,
          narrow_float16<F32>};
}

}  // namespace
}  // namespace logitkit
