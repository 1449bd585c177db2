// The loops of loops.h, made of the vectors of one instruction set. Include only from files
// with an instruction set of their own, after that one's words.
#pragma once

#include "diffusion_update/loops.h"
#include "random/laws.h"

namespace logitkit {
namespace {

/// The coefficients of a row in all lanes.
template <class V, bool two>
struct Coefficients {
  explicit Coefficients(const UpdateRow<typename V::Element>& row)
      : a(V::all(row.a)), b(V::all(row.b)), lower(V::all(row.lower)), upper(V::all(row.upper)) {}

  /// a x + b y
  [[gnu::always_inline]] V sum(V x, V y) const { return two ? fma(b, y, a * x) : a * x; }
  /// The value stands second, as a NaN has to stay one.
  [[gnu::always_inline]] V bounded(V value) const { return min(upper, max(lower, value)); }

  V a, b, lower, upper;
};

template <class V, bool two, bool large>
[[gnu::always_inline]] inline void update_row(const UpdateRow<typename V::Element>& row,
                                              size_t count) {
  using T = typename V::Element;
  const Coefficients<V, two> coefficients(row);
  const auto value = [&](size_t j, size_t n) {
    const V x = load_some(row.x + j, n, V::all(0));
    const V y = two ? load_some(row.y + j, n, V::all(0)) : x;
    return coefficients.bounded(coefficients.sum(x, y));
  };
  // Up to where vectors of the result are aligned. NumPy's arrays tend to lie alike, so that
  // those of x and y are aligned there too.
  const size_t beyond = reinterpret_cast<size_t>(row.out) % sizeof(V);
  const size_t head = beyond == 0 ? 0 : (sizeof(V) - beyond) / sizeof(T);
  size_t j = head < count ? head : count;
  if (j > 0) store_some(value(0, j), row.out, j);
  constexpr size_t unrolled = 4;
  for (; j + unrolled * V::width <= count; j += unrolled * V::width) {
    V values[unrolled];
#pragma GCC unroll 4
    for (size_t k = 0; k < unrolled; ++k) values[k] = value(j + k * V::width, V::width);
#pragma GCC unroll 4
    for (size_t k = 0; k < unrolled; ++k) {
      if (large)
        stream(values[k], row.out + j + k * V::width);
      else
        values[k].store(row.out + j + k * V::width);
    }
  }
  for (; j < count; j += V::width) {
    const size_t n = count - j < V::width ? count - j : V::width;
    store_some(value(j, n), row.out + j, n);
  }
  if (large) end_stream(coefficients.a);
}

template <class V, bool large>
void update(const UpdateRow<typename V::Element>& row, size_t count) {
  if (row.y != nullptr)
    update_row<V, true, large>(row, count);
  else
    update_row<V, false, large>(row, count);
}

template <class V, bool two>
[[gnu::always_inline]] inline void update_row_with_noise(const UpdateRow<typename V::Element>& row,
                                                         const Draw& draw) {
  const Coefficients<V, two> coefficients(row);
  const V c = V::all(row.c);
  for_each_vector<V, NormalLaw>(draw, [&](V noise, size_t j, size_t n) {
    const V x = load_some(row.x + j, n, V::all(0));
    const V y = two ? load_some(row.y + j, n, V::all(0)) : x;
    const V value = fma(c, noise, coefficients.sum(x, y));
    store_some(coefficients.bounded(value), row.out + j, n);
  });
}

template <class V>
void update_with_noise(const UpdateRow<typename V::Element>& row, const Draw& draw) {
  if (row.y != nullptr)
    update_row_with_noise<V, true>(row, draw);
  else
    update_row_with_noise<V, false>(row, draw);
}

/// A sum of squares is NaN where one of them is: infinite ones have the same sign.
template <class V>
bool has_nan(const typename V::Element* x, size_t count) {
  constexpr size_t unrolled = 4;
  V sums[unrolled] = {V::all(0), V::all(0), V::all(0), V::all(0)};
  size_t j = 0;
  for (; j + unrolled * V::width <= count; j += unrolled * V::width) {
#pragma GCC unroll 4
    for (size_t k = 0; k < unrolled; ++k) {
      const V value = V::load(x + j + k * V::width);
      sums[k] = fma(value, value, sums[k]);
    }
  }
  for (; j < count; j += V::width) {
    const V value = load_some(x + j, count - j < V::width ? count - j : V::width, V::all(0));
    sums[0] = fma(value, value, sums[0]);
  }
  const V sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  typename V::Element lanes[V::width];
  sum.store(lanes);
  for (const auto lane : lanes)
    if (lane != lane) return true;
  return false;
}

template <class F32, class F64>
constexpr AllUpdateLoops make_update_loops() {
  return {{update<F32, false>, update<F32, true>, update_with_noise<F32>, has_nan<F32>},
          {update<F64, false>, update<F64, true>, update_with_noise<F64>, has_nan<F64>}};
}

}  // namespace
}  // namespace logitkit
