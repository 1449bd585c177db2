// Scaled softmax attention on a GPU. Specification: python/logitkit/reference/_attention.py
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "attention/attention.h"
#include "cuda/element.h"

namespace logitkit::cuda {

/// What attention is computed of: see logitkit::AttentionInput. Elements are of type S, and all
/// memory is that of the device.
template <class S>
struct AttentionInput {
  using T = Compute<S>;
  int heads, key_heads, head_dim, value_dim;
  /// Null: sequence b is `alike` of batch b of query and key. Otherwise `alike` has the largest
  /// number of queries and of keys.
  const Sequence* sequences = nullptr;
  std::size_t sequence_count;
  Sequence alike;
  Rows<const S> query, key, value;
  const std::int32_t* block_table = nullptr;
  std::int64_t max_blocks = 0;
  int block_size = 1;
  std::int64_t left = unlimited, right = unlimited;
  Rows<const T> scale;
  T softcap = 0;
  const T* slopes = nullptr;
  const T* sinks = nullptr;
  Scores<std::uint8_t> mask;
  Scores<T> terms[2];
};

template <class S>
struct AttentionOutput {
  Rows<S> out;
  Rows<Compute<S>> logsumexp, entropy, max_logit;  // null: not wanted
};

/// Attention as logitkit::attention() defines it, queued on a stream. Sequences have fewer than
/// 2^31 queries, keys and rows of a head.
///
/// float16 and bfloat16 are multiplied by tensor cores and summed in float; float is multiplied by
/// them as the sum of two numbers of 11 bits (three products). Where they do not serve - double,
/// more than 256 dimensions, a device below compute capability 8.0 (7.5 for float16) or with too
/// little shared memory - a warp goes over the keys of a row by itself, which is exact and slow.
///   Error:     with u = 2^-24, v = 2^-21 for float, 2^-23 for half types, and s = (v
///              sqrt(head_dim) max scale |q| |k| + 8 u max |term|, slope |i + offset - j|) for the
///              logits: logsumexp and max_logit within s + 8 u max(1, |result|); of n keys, out
///              within (2 s + (32 + n) u + w) max |value|, as tensor cores cut off what they add
///              (gemm/tensor_tile_cuda.h), where w is 0 for float, 2^-10 for float16 and 2^-7 for
///              bfloat16, whose weights are rounded before they are multiplied; entropy within
///              (2 s + 32 u) (1 + log n). double: as on a processor, with 4 u for u.
///   Specials:  those on a processor; but a float that is infinite and seen may make NaN, as may
///              one above 2^127. Results of exp below 2^-126 count as 0.
///   Bits:      those of a row depend on its sequence and on what is wanted alone.
///   Memory:    attention_gradient() has a workspace; nothing else.
template <class S>
cudaError_t attention(const AttentionInput<S>& input, const AttentionOutput<S>& output,
                      cudaStream_t stream);

/// The attention of one query in each batch and head, over parts of the keys: arrays (batch, head,
/// part, ...). `entropy` and `max_logit` are null where they are not wanted.
template <class S>
struct AttentionParts {
  std::size_t batches;
  int heads, count, value_dim;
  Rows<const S> out;
  Rows<const Compute<S>> logsumexp, entropy, max_logit;
};

/// Attention over all keys from that over parts, which were computed without `sinks` (or null).
///   Error:   with e the largest error of the parts' logsumexp and u as above: of logsumexp
///            e + 8 u (1 + |result|), of `out` (2 e + 8 u) max |value| and its rounding to S, of
///            entropy (2 e + 8 u) (1 + log n), on top of those of the parts
///   Bits:    those of a row depend on its parts that see keys alone
template <class S>
cudaError_t merge_attention(const AttentionParts<S>& parts, const AttentionOutput<S>& output,
                            const Compute<S>* sinks, cudaStream_t stream);

/// See logitkit::AttentionGradient.
template <class S>
struct AttentionGradient {
  using T = Compute<S>;
  Rows<const S> out, grad_out;
  Rows<const T> logsumexp, entropy, grad_logsumexp, grad_entropy;
  Rows<S> grad_query, grad_key, grad_value;
  Rows<T> grad_scale;
  T* grad_logits = nullptr;
  std::ptrdiff_t logits_batch = 0, logits_head = 0, logits_row = 0;
  void* workspace;  // of attention_gradient_workspace() bytes, aligned to 16
};

/// Bytes for batches * heads * rows of the array that holds the queries.
template <class S>
std::size_t attention_gradient_workspace(std::size_t rows);

/// The gradient that logitkit::attention_gradient() defines. There is no block_table; `batches`
/// and `rows` are those of the array of queries. `by_key` is `input`, or has its sequences cut up
/// in another way, for the gradients of keys and values: each query that sees a key has to be in
/// the key's sequence there, and in `input` each key that a query sees in the query's. No two
/// sequences of `input` have a query, and none of `by_key` a key, in common.
///   Error:   float: for standard normal arguments within 2^-15 of the largest element of each
///            gradient, float16 within 2^-8 and bfloat16 within 2^-5 of it, as each weight and each
///            gradient of a logit is rounded to the type; those beyond 65504 are infinite in
///            float16
///   Order:   of all sums fixed; the gradients of queries, and those of keys and values, are
///            computed by kernels of their own, without atomic operations.
template <class S>
cudaError_t attention_gradient(const AttentionInput<S>& input, const AttentionInput<S>& by_key,
                               const AttentionGradient<S>& gradient, std::size_t batches,
                               std::size_t rows, cudaStream_t stream);

}  // namespace logitkit::cuda
