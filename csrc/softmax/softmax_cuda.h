// Log-sum-exp, softmax and its statistics on a GPU. Specification: python/logitkit/reference/
// _logsumexp.py, _softmax.py and _softmax_stats.py
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/element.h"
#include "sum_exp/lines_cuda.h"

namespace logitkit::cuda {

// S is float, double, __half or __nv_bfloat16; half types are computed in float and rounded once.
// Lines are those of a dense array; all memory is that of the device whose stream is given. Calls
// return when the work is queued. The bits of a line depend on its terms and on whether memory is
// aligned for packs of 16 bytes, not on the other lines.
//   Error:    with e = 2^-21 for float and 2^-49 for double: logsumexp and log_softmax within
//             e (1 + |result|), softmax within (2 + max - x_i) ulp, statistics as on a processor
//             with this e
//   Specials: those on a processor, exactly
//   Traffic:  one read of x and, of softmax, one write; softmax of lines that are not in one piece
//             or have more than 16384 terms, of double more than 512, reads twice.

/// Bytes of workspace that all of them need; for statistics, twice as many.
template <class S>
std::size_t softmax_workspace(const Lines& lines);

template <class S>
cudaError_t logsumexp(const S* x, const Lines& lines, S* out, void* workspace, cudaStream_t stream);

template <class S>
cudaError_t softmax(const S* x, const Lines& lines, S* y, void* workspace, cudaStream_t stream);

template <class S>
cudaError_t log_softmax(const S* x, const Lines& lines, S* y, void* workspace, cudaStream_t stream);

/// One number for each line, in the type that is computed in.
template <class T>
struct LineStats {
  T *logsumexp, *entropy, *max, *sum_of_squares;
};

/// Of softmax(scale x), where a term of -inf counts nothing for any scale.
template <class S>
cudaError_t softmax_stats(const S* x, const Lines& lines, Compute<S> scale,
                          const LineStats<Compute<S>>& out, void* workspace, cudaStream_t stream);

}  // namespace logitkit::cuda
