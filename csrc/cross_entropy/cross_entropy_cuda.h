// Cross-entropy of logits on a GPU. Specification: python/logitkit/reference/losses/
// _cross_entropy.py
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/element.h"

namespace logitkit::cuda {

/// Dense rows of logits x, and their targets, as in cross_entropy.h; S is float, double, __half or
/// __nv_bfloat16, and half types are computed in float. The target of class j of row i is
/// w_j ((1 - smoothing) t_ij + smoothing / classes).
template <class S>
struct CrossEntropyInput {
  const S* logits;  // [row][class]
  std::size_t rows, classes;
  const std::int64_t* labels;  // of a row that takes no part, negative
  const S* targets;            // t, [row][class], in place of labels; or null
  const S* class_weight;       // w, [class]; null: 1
  double smoothing, z_loss;
};

/// What is written of each row; null: not wanted.
template <class S>
struct CrossEntropyOutput {
  double *values, *logsumexp;
  S* gradient;  // of each value, [row][class]
};

/// values[i] = sum_j target_ij (logsumexp(x_i) - x_ij) + z_loss logsumexp(x_i)^2.
///   Error:    of values and logsumexp within e (1 + |result|) of Compute<S> before a row's terms,
///             with e = 2^-21 for float and 2^-49 for double; of the gradient
///             e sum_j |target_ij|, and its rounding to S
///   Specials: logits of -inf have p = 0; terms of target 0 are 0. The value of a row with NaN or
///             +inf, or with -inf alone, is not finite, and neither is its gradient. Of a label
///             that is no class the value is NaN.
///   Bits:     those of a row depend on the row alone, and on whether rows begin at multiples of
///             16 bytes.
///   Traffic:  two reads of the logits and of targets, of which the second one is of what caches
///             keep, and one write of the gradient; without gradient, targets and smoothing one
///             read.
template <class S>
cudaError_t cross_entropy(const CrossEntropyInput<S>& input, const CrossEntropyOutput<S>& output,
                          cudaStream_t stream);

}  // namespace logitkit::cuda
