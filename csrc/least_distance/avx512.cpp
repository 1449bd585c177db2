#include <immintrin.h>

#include "least_distance/loops.h"

namespace logitkit::avx512 {
namespace {

constexpr std::size_t lanes = 8;

// The first n lanes, n < 8.
inline __mmask8 first(std::size_t n) { return static_cast<__mmask8>((1u << n) - 1u); }

// Rows j .. j+R against v, with all R sums in flight.
template <std::size_t R>
inline void dots_of(const double* rows, std::size_t stride, const double* v, std::size_t n,
                    double* out) {
  __m512d sum_f64x8[R];
  for (std::size_t k = 0; k < R; ++k) sum_f64x8[k] = _mm512_setzero_pd();
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const __m512d v_f64x8 = _mm512_loadu_pd(v + i);
    for (std::size_t k = 0; k < R; ++k)
      sum_f64x8[k] = _mm512_fmadd_pd(_mm512_loadu_pd(rows + k * stride + i), v_f64x8, sum_f64x8[k]);
  }
  if (i < n) {
    const __mmask8 rest = first(n - i);
    const __m512d v_f64x8 = _mm512_maskz_loadu_pd(rest, v + i);
    for (std::size_t k = 0; k < R; ++k)
      sum_f64x8[k] = _mm512_fmadd_pd(_mm512_maskz_loadu_pd(rest, rows + k * stride + i), v_f64x8,
                                     sum_f64x8[k]);
  }
  for (std::size_t k = 0; k < R; ++k) out[k] = _mm512_reduce_add_pd(sum_f64x8[k]);
}

// One row, with four sums in flight.
inline double dot(const double* row, const double* v, std::size_t n) {
  __m512d sum_f64x8[4];
  for (std::size_t k = 0; k < 4; ++k) sum_f64x8[k] = _mm512_setzero_pd();
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (std::size_t k = 0; k < 4; ++k)
      sum_f64x8[k] = _mm512_fmadd_pd(_mm512_loadu_pd(row + i + k * lanes),
                                     _mm512_loadu_pd(v + i + k * lanes), sum_f64x8[k]);
  for (; i < n; i += lanes) {
    const __mmask8 here = n - i >= lanes ? 0xff : first(n - i);
    sum_f64x8[0] = _mm512_fmadd_pd(_mm512_maskz_loadu_pd(here, row + i),
                                   _mm512_maskz_loadu_pd(here, v + i), sum_f64x8[0]);
  }
  return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(sum_f64x8[0], sum_f64x8[1]),
                                            _mm512_add_pd(sum_f64x8[2], sum_f64x8[3])));
}

void dots(const double* rows, std::size_t stride, std::size_t count, const double* v, std::size_t n,
          double* out) {
  std::size_t j = 0;
  for (; j + 8 <= count; j += 8) dots_of<8>(rows + j * stride, stride, v, n, out + j);
  for (; j + 2 <= count; j += 2) dots_of<2>(rows + j * stride, stride, v, n, out + j);
  if (j < count) out[j] = dot(rows + j * stride, v, n);
}

// Columns i .. i+8V of y += sum_j coefficient[j] row_j.
template <std::size_t V>
inline void combine_at(const double* rows, std::size_t stride, std::size_t count,
                       const double* coefficient, __mmask8 last, double* y) {
  __m512d y_f64x8[V];
  for (std::size_t k = 0; k < V; ++k)
    y_f64x8[k] = _mm512_maskz_loadu_pd(k + 1 < V ? 0xff : last, y + k * lanes);
  for (std::size_t j = 0; j < count; ++j) {
    const __m512d coefficient_f64x8 = _mm512_set1_pd(coefficient[j]);
    for (std::size_t k = 0; k < V; ++k)
      y_f64x8[k] = _mm512_fmadd_pd(
          coefficient_f64x8,
          _mm512_maskz_loadu_pd(k + 1 < V ? 0xff : last, rows + j * stride + k * lanes),
          y_f64x8[k]);
  }
  for (std::size_t k = 0; k < V; ++k)
    _mm512_mask_storeu_pd(y + k * lanes, k + 1 < V ? 0xff : last, y_f64x8[k]);
}

void combine(const double* rows, std::size_t stride, std::size_t count, const double* coefficient,
             std::size_t n, double* y) {
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    combine_at<4>(rows + i, stride, count, coefficient, 0xff, y + i);
  for (; i + lanes <= n; i += lanes)
    combine_at<1>(rows + i, stride, count, coefficient, 0xff, y + i);
  if (i < n) combine_at<1>(rows + i, stride, count, coefficient, first(n - i), y + i);
}

void rotate(double* x, double* y, std::size_t n, double c, double s) {
  const __m512d c_f64x8 = _mm512_set1_pd(c), s_f64x8 = _mm512_set1_pd(s);
  for (std::size_t i = 0; i < n; i += lanes) {
    const __mmask8 here = n - i >= lanes ? 0xff : first(n - i);
    const __m512d x_f64x8 = _mm512_maskz_loadu_pd(here, x + i);
    const __m512d y_f64x8 = _mm512_maskz_loadu_pd(here, y + i);
    _mm512_mask_storeu_pd(x + i, here,
                          _mm512_fmadd_pd(c_f64x8, x_f64x8, _mm512_mul_pd(s_f64x8, y_f64x8)));
    _mm512_mask_storeu_pd(y + i, here,
                          _mm512_fnmadd_pd(s_f64x8, x_f64x8, _mm512_mul_pd(c_f64x8, y_f64x8)));
  }
}

}  // namespace

const LeastDistanceLoops least_distance_loops = {dots, combine, rotate};

}  // namespace logitkit::avx512
