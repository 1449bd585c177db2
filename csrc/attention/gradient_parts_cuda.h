// The parts of the gradient of attention, one kernel after the other: that of queries, and those
// of keys and values. What both have in common.
#pragma once

#include <type_traits>

#include "attention/attention_cuda.h"
#include "attention/blocks_cuda.h"
#include "attention/gradient_rows_cuda.h"

namespace logitkit::cuda {

/// The gradients of queries and of the scale, as attention_gradient() has them; `of_rows` are those
/// of all queries.
template <class S>
cudaError_t query_gradient(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                           const GradientRows<Compute<S>>& of_rows, cudaStream_t stream);
/// The same of keys and values; `in` is what attention_gradient() calls `by_key`.
template <class S>
cudaError_t key_gradient(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                         const GradientRows<Compute<S>>& of_rows, cudaStream_t stream);

/// Of kernels that have a warp for each row, or each key.
constexpr int row_threads = 128, row_warps = row_threads / static_cast<int>(warp_size);

/// Of a block: as many rows as it has warps times 16, whose operands stay in shared memory, and
/// columns whose operands take 8 KiB at most and are loaded while the ones before are used.
template <class S, int D>
struct GradientShape {
  static constexpr int row_bytes = D * static_cast<int>(sizeof(S));
  static constexpr int warps = row_bytes > 512 ? 2 : 4, threads = warps * 32, rows = 16 * warps;
  static constexpr int columns = row_bytes > 256 ? (8 << 10) / row_bytes : 32;
  static constexpr int n_tiles = columns / 8;
  /// The gradients of keys and of values do not fit the registers together: two blocks take one.
  static constexpr bool both = D <= 128;
  static constexpr std::size_t tiles_bytes = std::size_t{2 * rows + 4 * columns} * row_bytes;
  static constexpr std::size_t shared_bytes =
      tiles_bytes + 2 * columns * sizeof(GradientRow<float>);
  using Scores = float[1][n_tiles][4];
};

/// Calls f(std::integral_constant<int, D>()) for the fewest columns D of a GradientShape that hold
/// a row, and returns whether the device has the tensor cores and the memory for that.
template <class S, class F>
bool with_tiles(const AttentionInput<S>& in, const F& f) {
  const auto call = [&](auto columns) {
    if (!has_tensor_cores<S>(GradientShape<S, columns>::shared_bytes)) return false;
    f(columns);
    return true;
  };
  const int dim = in.head_dim > in.value_dim ? in.head_dim : in.value_dim;
  if (dim <= 64) return call(std::integral_constant<int, 64>());
  if (dim <= 128) return call(std::integral_constant<int, 128>());
  if (dim <= 256) return call(std::integral_constant<int, 256>());
  return false;
}

/// Whether rows of all that tiles are loaded from may be read 16 bytes at a time.
template <class S>
bool are_aligned(const AttentionInput<S>& in, const AttentionGradient<S>& g) {
  return is_aligned<S>(in.query) && is_aligned<S>(in.key) && is_aligned<S>(in.value) &&
         is_aligned<S>(g.grad_out);
}

}  // namespace logitkit::cuda
