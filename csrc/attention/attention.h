// Scaled softmax attention. Specification: python/logitkit/reference/_attention.py
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "isa.h"

namespace logitkit {

/// How elements are stored. Half types are computed in float.
enum class Element { float16, bfloat16, float32, float64 };

/// An array (batch, head, row, column) whose columns are dense. Steps are in elements, and 0
/// along an axis that is broadcast.
template <class Data>
struct Rows {
  Data* data = nullptr;
  std::ptrdiff_t batch = 0, head = 0, row = 0;

  Data* at(std::size_t b, std::size_t h, std::size_t i) const {
    return data + static_cast<std::ptrdiff_t>(b) * batch + static_cast<std::ptrdiff_t>(h) * head +
           static_cast<std::ptrdiff_t>(i) * row;
  }
};

/// The rows of one sequence: from which batch of each array, and which.
struct Sequence {
  std::size_t query_batch, first_query, queries;
  std::size_t key_batch, first_key, keys;
  /// The query i is at the key i + offset.
  std::int64_t offset;
};

/// No limit to a window.
constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max() / 4;

/// A mask or bias, over (batch, head, query, key), with a step for keys too: 0 or 1.
template <class Data>
struct Scores {
  const Data* data = nullptr;
  std::ptrdiff_t batch = 0, head = 0, row = 0, key = 0;
};

/// What attention is computed of; T is float or double, the type of the computation.
template <class T>
struct AttentionInput {
  Element element;
  std::size_t heads, key_heads, head_dim, value_dim;
  std::vector<Sequence> sequences;
  /// query (batch, head, row), and so on; data of the type `element` says.
  Rows<const void> query, key, value;
  /// A paged cache: keys of block block_table[batch][j / block_size] lie in key and value at
  /// batch = block, row = j % block_size. Null if there is none.
  const std::int32_t* block_table = nullptr;
  std::size_t max_blocks = 0, block_size = 0;
  /// Query i sees the keys from i + offset - left to i + offset + right.
  std::int64_t left = unlimited, right = unlimited;
  /// What scores are multiplied by, for (query_batch, head, row).
  Rows<const T> scale;
  T softcap = 0;              // 0: none
  const T* slopes = nullptr;  // of each head: ALiBi
  const T* sinks = nullptr;   // of each head
  Scores<std::uint8_t> mask;  // 1: may see; 0: may not; nothing else
  Scores<T> terms[2];         // added; -inf hides
};

/// What it writes: out like the queries in type and (query_batch, head, row); the statistics,
/// null if not wanted, with the steps of `statistics`.
template <class T>
struct AttentionOutput {
  Rows<void> out;
  Rows<T> logsumexp, entropy, max_logit;
};

/// Softmax attention: z = scale q.k, then softcap tanh(z / softcap), then minus
/// slope |i + offset - j|, then plus the terms, where j is visible; P = softmax of z, with a
/// sink as one more z whose value is 0; out = P value. logsumexp and entropy are those of P,
/// sink included; max_logit is the largest visible z, sink not included.
///   Error:     with u = 2^-24 for float and 2^-53 for double, and s = u (4 sqrt(head_dim)
///              max scale |q| |k| + 4 max |term| + 4 max slope |i + offset - j|) for the logits:
///              logsumexp and max_logit within s + 4 u max(1, |result|), and of n keys out within
///              (2 s + (48 + n / 64) u) max |value|, entropy within (2 s + (48 + n / 64) u)
///              (1 + log n); values of both signs err by a fraction of it. An out of a half type
///              is rounded then; with Isa::amx and Isa::avx512_bf16 the weights of bfloat16 are
///              rounded to bfloat16, too, which adds 2^-8 max |value|, with Isa::amx those of
///              float16 to 16 digits, which with what their products leave out adds
///              2^-15 max |value|, and the logsumexp of both is within 2 u more
///   Specials:  rows that see nothing: out 0, logsumexp -inf (or the sink), entropy 0,
///              max_logit -inf. NaN and infinities in keys and values that a row does not see
///              do not reach it. Denormal numbers count as 0, finite terms below -2^128 ln 2 as
///              that.
///   Bits:      those of a row depend on its sequence, the heads that share its keys and the
///              instruction set, not on other sequences and heads or on `threads`. With Isa::amx,
///              and for bfloat16 with Isa::avx512_bf16, also on whether hidden keys of the same 64,
///              and values of the same 512, are finite, below 2^40 and, of values, not all below
///              2^-40.
///   Memory:    half a MiB for each thread at 64 dimensions, up to three with Isa::amx, and one
///              and a half for bfloat16 with Isa::avx512_bf16; O(head_dim + value_dim).
template <class T>
void attention(const AttentionInput<T>& input, const AttentionOutput<T>& output,
               std::size_t threads, Isa isa);

/// The results of attention() that its gradient needs, the gradients that come in, and those
/// that go out. Rows of T are indexed like the statistics; null ones are 0 or not wanted.
template <class T>
struct AttentionGradient {
  Rows<const void> out, grad_out;
  Rows<const T> logsumexp, entropy, grad_logsumexp, grad_entropy;

  Rows<void> grad_query, grad_key, grad_value;  // like query, key and value
  Rows<T> grad_scale;
  /// Of the logits, (batch, head, row, key) with dense keys; what nothing sees is not written.
  T* grad_logits = nullptr;
  std::ptrdiff_t logits_batch = 0, logits_head = 0, logits_row = 0;
};

/// The gradient of sum(grad_out out) + sum(grad_logsumexp logsumexp) + sum(grad_entropy entropy):
/// dZ = P (dP - sum P dP + grad_logsumexp - grad_entropy (log P + entropy)) with dP = grad_out
/// value^T, and from it those of query, key, value and scale. There is no block_table. The
/// gradient of keys and values beyond a sequence's is not written.
///   Error:   for standard normal arguments within 300 u of the largest element of each gradient,
///            that of a scale, a sum over rows, of the root of the sum of their squares; a bound
///            for any would be that of attention() times sums of absolute terms. With Isa::amx
///            the root of its mean square is at most 1.25 times that with Isa::avx512 for the
///            same results, but for 2^-126 in each product
///   Bits:    those of a sequence do not depend on other sequences and heads or on `threads`; those
///            of keys and values depend on the heads that share them. With Isa::amx those of 96
///            queries and 64 keys also on whether numbers among them are not finite, above 2^40,
///            or all below 2^-40 (gradients that come in: 2^-60), but not on hidden infinities.
///   Memory:  that of attention(), or 1.5 MiB for each thread at 64 dimensions with Isa::amx, and
///            gradients of keys and values of one key head in T for each thread; 48 MiB of them
///            for sequences of many queries.
template <class T>
void attention_gradient(const AttentionInput<T>& input, const AttentionGradient<T>& gradient,
                        std::size_t threads, Isa isa);

}  // namespace logitkit
