// The distribution of argmax(mu + scale * noise) on a GPU, as noise_argmax.h has it.
//
// All functions take dense rows of n >= 1 logits on the device, each with a finite maximum; -inf
// leaves a class out. The work is done in double, by one block of threads for each row, whose
// classes are all evaluated at all nodes: O(n nodes), some hundred nodes, and some for each class
// whose logit lies within the integrals of Laplace, uniform, Cauchy or tabulated noise. Where an
// eighth as many points can stand for 256 classes or more (class_cells_cuda.h; not of Laplace and
// uniform noise), these are evaluated instead, and the classes passed over: some 230 points for
// 50,000 normal logits. 0 < scale < inf. The bits of a row do not depend on the others. Logits more
// than 2^50 scales below the largest count as that far where tails are heavy (Cauchy, tabulated);
// normal noise, 1e154. Names are those of noise_argmax.h, for arrays on the device: of Noise and
// its table the two structs lie on the host, the polynomials on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/element.h"
#include "noise_argmax/loops.h"

namespace logitkit::cuda {

/// Rows of logits and their noise; S is float, double, __half or __nv_bfloat16.
template <class S>
struct NoisyLogits {
  const S* logits;
  std::size_t rows, classes;
  Noise noise;
  double scale;
};

/// Bytes of memory on the device that each of the functions needs.
std::size_t noise_argmax_workspace(std::size_t rows, std::size_t classes);

/// probabilities[i] = P(argmax = i), or their logarithms.
///   Error:    relative for probabilities, absolute for logarithms: 1e-9 in double and 1e-5 in
///             float where the probability is above 1e-30; below 1e-299 it is 0. Where tails are
///             heavy, the spread of a row in units of the scale times 2^-50 comes to that. Half
///             types are computed as floats are, and rounded.
template <class S>
cudaError_t noise_argmax(const NoisyLogits<S>& x, bool logarithms, S* out, void* workspace,
                         cudaStream_t stream);

/// gradients[m] = sum_i cotangents[i] d probabilities[i] / d logits[m].
///   Error:    2e-9 max |cotangents| / scale in double, 2e-6 in float
template <class S>
cudaError_t noise_argmax_vjp(const NoisyLogits<S>& x, const S* cotangents, S* gradients,
                             void* workspace, cudaStream_t stream);

/// values[row] = E max(mu + scale * noise), whose gradient is the probabilities; infinite for
/// Cauchy noise, and for tails as heavy.
///   Error:    1e-9 (scale + |value|) in double, 1e-6 in float
template <class S>
cudaError_t noise_argmax_expected_max(const NoisyLogits<S>& x, S* values, void* workspace,
                                      cudaStream_t stream);

/// log_probs[row] = log P(argmax = index[row]), on nodes for this class alone; and gradients, if
/// they are not null: d log_probs[row] / d logits[row, m]. An index that is out of range gives
/// NaN.
///   Error:    1e-12 max(1, |log_prob|) in double down to -1e4, 2e-6 in float; of gradients 1e-9
///             and 2e-6 of the largest
///             With heavy tails this is for logits that differ by 1e7 scales at most.
///   Specials: -inf where the class cannot win, with a gradient of zero
template <class S>
cudaError_t noise_argmax_log_prob(const NoisyLogits<S>& x, const std::int64_t* index, S* log_probs,
                                  S* gradients, void* workspace, cudaStream_t stream);

}  // namespace logitkit::cuda
