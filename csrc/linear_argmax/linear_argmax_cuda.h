// Largest scores of a linear layer on a GPU. Specification: python/logitkit/reference/
// _linear_argmax.py
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/element.h"
#include "gemm/arithmetic_cuda.h"

namespace logitkit::cuda {

/// x (rows, depth), weight (classes, depth) and bias (classes) or null, dense and of one type; the
/// scores are s[i, j] = sum_k x[i, k] * weight[j, k] + bias[j]. `classes` is from 1 to 2^31 - 256.
template <class S>
struct LinearScores {
  const S *x, *weight, *bias;
  std::size_t rows, classes, depth;
};

/// Bytes of workspace for the k largest.
template <class S>
std::size_t linear_topk_workspace(std::size_t rows, std::size_t classes, std::size_t k);

/// The k <= classes largest scores of each row in descending order, values[i][r] and indices[i][r];
/// of equal scores the lowest index comes first, and NaN is above all. S is float, double, __half
/// or __nv_bfloat16; the scores of half types are sums in float, and values are not rounded to S.
///   Error:    Arithmetic::own: each score is the sum of its products in the order of k, rounded
///             once more by the bias, as on a processor (csrc/linear_argmax/linear_argmax.h).
///             Arithmetic::tensor, and half types: within c (depth + 16) 2^-23 sum_k |x_k weight_k|
///             with c = 3.5 and 1.1 (csrc/gemm/tensor_tile_cuda.h), and 2^-24 |s| for the bias
///   Bits:     s[i, j] depends on row i and row j alone.
///   Memory:   with one product for every 16 of k; the workspace is of some 8 k bytes for each row
///             and for each of up to 131072 rows more
template <class S>
cudaError_t linear_topk(const LinearScores<S>& scores, std::size_t k, Compute<S>* values,
                        std::int64_t* indices, Arithmetic arithmetic, void* workspace,
                        cudaStream_t stream);

}  // namespace logitkit::cuda
