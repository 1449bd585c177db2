// What every instruction set supplies for least distance programming.
#pragma once

#include <cstddef>

namespace logitkit {

/// The straight loops that every instruction set writes for itself, in float64.
/// Any n and any alignment; rows are `stride` apart.
struct LeastDistanceLoops {
  /// out[j] = row_j . v for j < count.
  void (*dots)(const double* rows, std::size_t stride, std::size_t count, const double* v,
               std::size_t n, double* out);
  /// y += sum_j coefficient[j] row_j.
  void (*combine)(const double* rows, std::size_t stride, std::size_t count,
                  const double* coefficient, std::size_t n, double* y);
  /// (x, y) <- (c x + s y, c y - s x).
  void (*rotate)(double* x, double* y, std::size_t n, double c, double s);
};

namespace scalar { extern const LeastDistanceLoops least_distance_loops; }
namespace avx2 { extern const LeastDistanceLoops least_distance_loops; }
namespace avx512 { extern const LeastDistanceLoops least_distance_loops; }
namespace neon { extern const LeastDistanceLoops least_distance_loops; }

}  // namespace logitkit
