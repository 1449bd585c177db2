#include "least_distance/loops.h"

namespace logitkit::scalar {
namespace {

// Four sums, so that the additions do not wait for each other.
double dot(const double* a, const double* b, std::size_t n) {
  double sum[4] = {0.0, 0.0, 0.0, 0.0};
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (std::size_t k = 0; k < 4; ++k) sum[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void dots(const double* rows, std::size_t stride, std::size_t count, const double* v, std::size_t n,
          double* out) {
  for (std::size_t j = 0; j < count; ++j) out[j] = dot(rows + j * stride, v, n);
}

void combine(const double* rows, std::size_t stride, std::size_t count, const double* coefficient,
             std::size_t n, double* y) {
  for (std::size_t j = 0; j < count; ++j)
    for (std::size_t i = 0; i < n; ++i) y[i] += coefficient[j] * rows[j * stride + i];
}

void rotate(double* x, double* y, std::size_t n, double c, double s) {
  for (std::size_t i = 0; i < n; ++i) {
    const double above = x[i], below = y[i];
    x[i] = c * above + s * below;
    y[i] = c * below - s * above;
  }
}

}  // namespace

const LeastDistanceLoops least_distance_loops = {dots, combine, rotate};

}  // namespace logitkit::scalar
