#include <immintrin.h>

#include "least_distance/loops.h"

namespace logitkit::avx2 {
namespace {

constexpr std::size_t lanes = 4;

// The first n lanes, n <= 4.
inline __m256i first(std::size_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)),
                            _mm256_setr_epi64x(0, 1, 2, 3));
}

inline double sum(__m256d v_f64x4) {
  const __m128d pair =
      _mm_add_pd(_mm256_castpd256_pd128(v_f64x4), _mm256_extractf128_pd(v_f64x4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

// Rows j .. j+R against v, with all R sums in flight.
template <std::size_t R>
inline void dots_of(const double* rows, std::size_t stride, const double* v, std::size_t n,
                    double* out) {
  __m256d sum_f64x4[R];
  for (std::size_t k = 0; k < R; ++k) sum_f64x4[k] = _mm256_setzero_pd();
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const __m256d v_f64x4 = _mm256_loadu_pd(v + i);
    for (std::size_t k = 0; k < R; ++k)
      sum_f64x4[k] = _mm256_fmadd_pd(_mm256_loadu_pd(rows + k * stride + i), v_f64x4, sum_f64x4[k]);
  }
  if (i < n) {
    const __m256i rest = first(n - i);
    const __m256d v_f64x4 = _mm256_maskload_pd(v + i, rest);
    for (std::size_t k = 0; k < R; ++k)
      sum_f64x4[k] =
          _mm256_fmadd_pd(_mm256_maskload_pd(rows + k * stride + i, rest), v_f64x4, sum_f64x4[k]);
  }
  for (std::size_t k = 0; k < R; ++k) out[k] = sum(sum_f64x4[k]);
}

// One row, with four sums in flight.
inline double dot(const double* row, const double* v, std::size_t n) {
  __m256d sum_f64x4[4];
  for (std::size_t k = 0; k < 4; ++k) sum_f64x4[k] = _mm256_setzero_pd();
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (std::size_t k = 0; k < 4; ++k)
      sum_f64x4[k] = _mm256_fmadd_pd(_mm256_loadu_pd(row + i + k * lanes),
                                     _mm256_loadu_pd(v + i + k * lanes), sum_f64x4[k]);
  for (; i < n; i += lanes) {
    const __m256i here = first(n - i);
    sum_f64x4[0] = _mm256_fmadd_pd(_mm256_maskload_pd(row + i, here),
                                   _mm256_maskload_pd(v + i, here), sum_f64x4[0]);
  }
  return sum(_mm256_add_pd(_mm256_add_pd(sum_f64x4[0], sum_f64x4[1]),
                           _mm256_add_pd(sum_f64x4[2], sum_f64x4[3])));
}

void dots(const double* rows, std::size_t stride, std::size_t count, const double* v, std::size_t n,
          double* out) {
  std::size_t j = 0;
  for (; j + 8 <= count; j += 8) dots_of<8>(rows + j * stride, stride, v, n, out + j);
  for (; j + 2 <= count; j += 2) dots_of<2>(rows + j * stride, stride, v, n, out + j);
  if (j < count) out[j] = dot(rows + j * stride, v, n);
}

// Columns i .. i+4V of y += sum_j coefficient[j] row_j, whole vectors.
template <std::size_t V>
inline void combine_at(const double* rows, std::size_t stride, std::size_t count,
                       const double* coefficient, double* y) {
  __m256d y_f64x4[V];
  for (std::size_t k = 0; k < V; ++k) y_f64x4[k] = _mm256_loadu_pd(y + k * lanes);
  for (std::size_t j = 0; j < count; ++j) {
    const __m256d coefficient_f64x4 = _mm256_set1_pd(coefficient[j]);
    for (std::size_t k = 0; k < V; ++k)
      y_f64x4[k] = _mm256_fmadd_pd(coefficient_f64x4,
                                   _mm256_loadu_pd(rows + j * stride + k * lanes), y_f64x4[k]);
  }
  for (std::size_t k = 0; k < V; ++k) _mm256_storeu_pd(y + k * lanes, y_f64x4[k]);
}

void combine(const double* rows, std::size_t stride, std::size_t count, const double* coefficient,
             std::size_t n, double* y) {
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    combine_at<4>(rows + i, stride, count, coefficient, y + i);
  for (; i + lanes <= n; i += lanes) combine_at<1>(rows + i, stride, count, coefficient, y + i);
  if (i == n) return;
  const __m256i rest = first(n - i);
  __m256d y_f64x4 = _mm256_maskload_pd(y + i, rest);
  for (std::size_t j = 0; j < count; ++j)
    y_f64x4 = _mm256_fmadd_pd(_mm256_set1_pd(coefficient[j]),
                              _mm256_maskload_pd(rows + j * stride + i, rest), y_f64x4);
  _mm256_maskstore_pd(y + i, rest, y_f64x4);
}

void rotate(double* x, double* y, std::size_t n, double c, double s) {
  const __m256d c_f64x4 = _mm256_set1_pd(c), s_f64x4 = _mm256_set1_pd(s);
  for (std::size_t i = 0; i < n; i += lanes) {
    const __m256i here = first(n - i);
    const __m256d x_f64x4 = _mm256_maskload_pd(x + i, here);
    const __m256d y_f64x4 = _mm256_maskload_pd(y + i, here);
    _mm256_maskstore_pd(x + i, here,
                        _mm256_fmadd_pd(c_f64x4, x_f64x4, _mm256_mul_pd(s_f64x4, y_f64x4)));
    _mm256_maskstore_pd(y + i, here,
                        _mm256_fnmadd_pd(s_f64x4, x_f64x4, _mm256_mul_pd(c_f64x4, y_f64x4)));
  }
}

}  // namespace

const LeastDistanceLoops least_distance_loops = {dots, combine, rotate};

}  // namespace logitkit::avx2
