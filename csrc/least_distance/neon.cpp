#include <arm_neon.h>

#include "least_distance/loops.h"

namespace logitkit::neon {
namespace {

constexpr std::size_t lanes = 2;

// Rows j .. j+R against v, with all R sums in flight.
template <std::size_t R>
inline void dots_of(const double* rows, std::size_t stride, const double* v, std::size_t n,
                    double* out) {
  float64x2_t sum_f64x2[R];
  for (std::size_t k = 0; k < R; ++k) sum_f64x2[k] = vdupq_n_f64(0.0);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const float64x2_t v_f64x2 = vld1q_f64(v + i);
    for (std::size_t k = 0; k < R; ++k)
      sum_f64x2[k] = vfmaq_f64(sum_f64x2[k], vld1q_f64(rows + k * stride + i), v_f64x2);
  }
  for (std::size_t k = 0; k < R; ++k) {
    out[k] = vaddvq_f64(sum_f64x2[k]);
    if (i < n) out[k] += rows[k * stride + i] * v[i];
  }
}

void dots(const double* rows, std::size_t stride, std::size_t count, const double* v, std::size_t n,
          double* out) {
  std::size_t j = 0;
  for (; j + 8 <= count; j += 8) dots_of<8>(rows + j * stride, stride, v, n, out + j);
  for (; j < count; ++j) dots_of<1>(rows + j * stride, stride, v, n, out + j);
}

// Columns i .. i+2V of y += sum_j coefficient[j] row_j.
template <std::size_t V>
inline void combine_at(const double* rows, std::size_t stride, std::size_t count,
                       const double* coefficient, double* y) {
  float64x2_t y_f64x2[V];
  for (std::size_t k = 0; k < V; ++k) y_f64x2[k] = vld1q_f64(y + k * lanes);
  for (std::size_t j = 0; j < count; ++j)
    for (std::size_t k = 0; k < V; ++k)
      y_f64x2[k] =
          vfmaq_n_f64(y_f64x2[k], vld1q_f64(rows + j * stride + k * lanes), coefficient[j]);
  for (std::size_t k = 0; k < V; ++k) vst1q_f64(y + k * lanes, y_f64x2[k]);
}

void combine(const double* rows, std::size_t stride, std::size_t count, const double* coefficient,
             std::size_t n, double* y) {
  std::size_t i = 0;
  for (; i + 8 * lanes <= n; i += 8 * lanes)
    combine_at<8>(rows + i, stride, count, coefficient, y + i);
  for (; i + lanes <= n; i += lanes) combine_at<1>(rows + i, stride, count, coefficient, y + i);
  for (; i < n; ++i)
    for (std::size_t j = 0; j < count; ++j) y[i] += coefficient[j] * rows[j * stride + i];
}

void rotate(double* x, double* y, std::size_t n, double c, double s) {
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const float64x2_t x_f64x2 = vld1q_f64(x + i), y_f64x2 = vld1q_f64(y + i);
    vst1q_f64(x + i, vfmaq_n_f64(vmulq_n_f64(y_f64x2, s), x_f64x2, c));
    vst1q_f64(y + i, vfmsq_n_f64(vmulq_n_f64(y_f64x2, c), x_f64x2, s));
  }
  if (i < n) {
    const double above = x[i], below = y[i];
    x[i] = c * above + s * below;
    y[i] = c * below - s * above;
  }
}

}  // namespace

const LeastDistanceLoops least_distance_loops = {dots, combine, rotate};

}  // namespace logitkit::neon
