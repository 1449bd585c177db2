// Random numbers on a GPU, and choices by them: the streams of random.h, bit by bit.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/element.h"

namespace logitkit::cuda {

/// uniform, exponential, gumbel, normal, in the order of logitkit::Law.
enum class RandomLaw { uniform, exponential, gumbel, normal };

/// Which rows of which stream; `row_ids` has as many ids as there are rows, on the device. Null:
/// they are 0, 1, ...
struct Rows {
  std::uint64_t seed;
  std::uint32_t step;
  const std::int64_t* row_ids;
  std::size_t count;
};

// All functions queue work on `stream`, with arrays on its device. Rows times the chunks of 1024
// elements of each are fewer than 2^31, and no row has more than 2^33 elements. No result depends
// on which rows are drawn together.

/// out[r * count + j] = the 64 bits of element j of row r.
cudaError_t random_bits(const Rows& rows, std::size_t count, std::uint64_t* out,
                        cudaStream_t stream);

/// The same for numbers of a law. T is float or double.
///   Error, range:  those of logitkit::random_numbers(), with the same bits
template <class T>
cudaError_t random_numbers(RandomLaw law, const Rows& rows, std::size_t count, T* out,
                           cudaStream_t stream);

/// Bytes of memory on the device that gumbel_argmax() and gumbel_top_k() need (k = 1 for the
/// first).
template <class S>
std::size_t gumbel_workspace(std::size_t rows, std::size_t count, std::size_t k);

/// indices[r] = the j of the largest logits[r * count + j] + Gumbel noise of element j, the first
/// of equal ones; -1 if all logits are -inf, or one is NaN or +inf. S is float, double, __half or
/// __nv_bfloat16: half ones count as floats, with the noise of floats. The same choices as those
/// of logitkit::gumbel_argmax(). count > 0.
///   Traffic:  one read of the logits
template <class S>
cudaError_t gumbel_argmax(const S* logits, const Rows& rows, std::size_t count,
                          std::int64_t* indices, void* workspace, cudaStream_t stream);

/// The k <= count largest of these in descending order, as logitkit::gumbel_top_k() gives them:
/// values[r * k + i], indices[r * k + i]. Meant for small k: work grows like count + k count /
/// 4096.
template <class S>
cudaError_t gumbel_top_k(const S* logits, const Rows& rows, std::size_t count, std::size_t k,
                         Compute<S>* values, std::int64_t* indices, void* workspace,
                         cudaStream_t stream);

}  // namespace logitkit::cuda
