// Cross-entropy of a linear layer's logits on a GPU, where they are not stored. Specification:
// python/logitkit/reference/losses/_linear_cross_entropy.py
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/element.h"
#include "gemm/arithmetic_cuda.h"

namespace logitkit::cuda {

/// A linear layer and the targets of its rows, as in linear_cross_entropy.h. S is float, double,
/// __half or __nv_bfloat16; half types are computed in float.
template <class S>
struct LayerLossInput {
  const S *input, *weight, *bias;  // [row][depth], [class][depth], [class] or null
  std::size_t rows, classes, depth;
  Compute<S> softcap;               // 0: none
  const std::int64_t* labels;       // [row]; a negative one says that the row takes no part
  const S *targets, *class_weight;  // [row][class], [class]; or null
};

/// What is written for each row that takes part; null: not wanted.
struct LayerLossStats {
  double *logsumexp, *entropy, *target, *total;
  std::int64_t* best;
};

/// Of row i, with p = softmax(z):
///   G = (base[i] + slope[i] logsumexp[i]) p - target,
/// where the target is peak[i] for the label, or class_weight peak[i] t with targets; and
/// class_weight spread[i] more for every class, if `spread` is not null.
struct LayerLossFactors {
  const double *base, *slope, *peak, *spread, *logsumexp;
};

/// The gradients of input, weight and bias; null: not wanted.
template <class S>
struct LayerLossGradient {
  S *input, *weight, *bias;
};

/// Bytes of workspace for the statistics.
template <class S>
std::size_t linear_cross_entropy_workspace(std::size_t rows, std::size_t classes);

/// The statistics of all rows.
///   Error:    with s the error of a logit, which is that of a score in linear_argmax_cuda.h and
///             4 u (|bias| + |z|): logsumexp within s + 128 u, entropy within
///             (2 s + 128 u) (1 + log classes), target and total within sum |t| (s + 128 u |z|),
///             where u is 2^-53 for double and 2^-24 for the others
///   Specials: classes of z = -inf do not count, and terms of target or weight 0 are 0. A row with
///             +inf has logsumexp +inf, one with NaN has NaN. The target of a label that is no
///             class is NaN.
///   Bits:     those of a row depend on the row and the layer alone.
///   Memory:   40 bytes for each row and for each of at most 32 parts of the classes
template <class S>
cudaError_t linear_cross_entropy(const LayerLossInput<S>& input, const LayerLossStats& stats,
                                 Arithmetic arithmetic, void* workspace, cudaStream_t stream);

/// Bytes of workspace for the gradients of chunks of classes that take `chunk_bytes`.
template <class S>
std::size_t linear_cross_entropy_gradient_workspace(std::size_t rows, std::size_t classes,
                                                    std::size_t depth, std::size_t chunk_bytes);

/// The gradients of all rows, which compute the logits once more.
///   Error:   of G, relative to the largest term of its sum, s + 64 u, and of half types its
///            rounding to S; the gradients add its products in Compute<S>
///   Bits:    do not depend on `chunk_bytes`; of the gradient of a row of the input, they depend on
///            the row and the layer alone.
///   Memory:  G of as many classes as fit `chunk_bytes`, or of 256 classes if that is more; and of
///            half types 4 bytes for each element of the input, if these are not all classes
template <class S>
cudaError_t linear_cross_entropy_gradient(const LayerLossInput<S>& input,
                                          const LayerLossFactors& factors,
                                          const LayerLossGradient<S>& gradient,
                                          std::size_t chunk_bytes, Arithmetic arithmetic,
                                          void* workspace, cudaStream_t stream);

}  // namespace logitkit::cuda
