// The loops over classes and nodes that the integrals of argmax(logits + noise) are made of.
#pragma once

#include <cstddef>

#include "isa.h"

namespace logitkit {

/// The noise laws that have kernels; reference: python/logitkit/distributions/_noise.py.
enum class NoiseLaw { normal, logistic, laplace, cauchy, uniform, exponential, tabulated };

/// A smooth symmetric law with one peak in a table: for s = asinh(x / width), cell by cell of
/// length `step` from s = `low` on, the coefficients of polynomials in t, which goes from -1 to 1
/// in a cell. Tails may be heavy: P(noise > u) decreases like u^-tail_index.
struct NoiseTable {
  static constexpr std::size_t terms = 10;
  double width, low, step, tail_index;
  std::size_t cells;
  const double* log_cdf;    // [cells][terms], log F
  const double* log_ratio;  // the same, log (f / F)
};

/// A law, with its table if that is what it is.
struct Noise {
  NoiseLaw law;
  const NoiseTable* table = nullptr;
};

/// The terms of the Chebyshev expansions that stand for the classes of a cell.
constexpr std::size_t cell_terms = 14;

/// Loops of one instruction set. All arrays are of doubles, of any size and alignment.
struct NoiseLoops {
  /// sums[k] = sum_c weights[c] log F(nodes[k] - points[c])
  void (*log_cdf_sums)(const Noise& noise, const double* points, const double* weights,
                       std::size_t points_count, const double* nodes, std::size_t nodes_count,
                       double* sums);
  /// sums[k] = sum_c weights[c] r(nodes[k] - points[c]), r = f / F
  void (*ratio_sums)(const Noise& noise, const double* points, const double* weights,
                     std::size_t points_count, const double* nodes, std::size_t nodes_count,
                     double* sums);
  /// The transposed product: integrals[c] = sum_k weights[k] r(nodes[k] - points[c])
  void (*ratio_integrals)(const Noise& noise, const double* nodes, const double* weights,
                          std::size_t nodes_count, const double* points, std::size_t points_count,
                          double* integrals);
  /// moments[k] = sum_j factors[j] T_k(t[j]), k < cell_terms; factors may be null, for 1
  void (*chebyshev_moments)(const double* t, const double* factors, std::size_t count,
                            double* moments);
  /// values[j] = sum_k coefficients[k] T_k(t[j]); exp() of that if `exponential`, for values <= 0
  void (*chebyshev_values)(const double* coefficients, bool exponential, const double* t,
                           std::size_t count, double* values);
};

/// The loops of `isa`, which this build must have.
const NoiseLoops& noise_loops(Isa isa);

namespace scalar { extern const NoiseLoops noise_loops; }
namespace neon { extern const NoiseLoops noise_loops; }
namespace avx2 { extern const NoiseLoops noise_loops; }
namespace avx512 { extern const NoiseLoops noise_loops; }

}  // namespace logitkit
