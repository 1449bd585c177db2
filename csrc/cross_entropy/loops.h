// The loops over a row of logits and their targets that every instruction set supplies for
// cross_entropy.
#pragma once

#include <cstddef>

#include "isa.h"

namespace logitkit {

/// The targets of one row: share_j = weights[j] (peak targets[j] + spread). Null `targets` are
/// 0, null `weights` 1.
template <class T>
struct Shares {
  const T* targets;
  const T* weights;
  double peak, spread;
};

/// The sum of shares, and that of each times its distance from the maximum.
struct SharedDistance {
  double mass, distance;
};

template <class T>
struct CrossEntropyLoops {
  /// sum_j share_j and sum_j share_j (max - x_j), for j < n. Terms of share 0 are 0.
  ///   Error:  2^-22 in float and 2^-51 in double, relative to the sum of absolute terms
  SharedDistance (*distance)(const T* x, std::size_t n, double max, const Shares<T>& shares);
  /// y_j = factor y_j - share_j.
  void (*grade)(T* y, std::size_t n, double factor, const Shares<T>& shares);
};

struct AllCrossEntropyLoops {
  CrossEntropyLoops<float> float32;
  CrossEntropyLoops<double> float64;
};

/// The loops of `isa`, which this build must have.
const AllCrossEntropyLoops& cross_entropy_loops(Isa isa);

namespace scalar { extern const AllCrossEntropyLoops cross_entropy_loops; }
namespace neon { extern const AllCrossEntropyLoops cross_entropy_loops; }
namespace avx2 { extern const AllCrossEntropyLoops cross_entropy_loops; }
namespace avx512 { extern const AllCrossEntropyLoops cross_entropy_loops; }

}  // namespace logitkit
