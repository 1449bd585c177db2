#include "attention/attention_cuda.h"
#include "attention/logits_cuda.h"

namespace logitkit::cuda {
namespace {

constexpr int merge_warps = 4, merge_threads = merge_warps * static_cast<int>(warp_size);

template <class T>
__device__ T sum_of_warp(T x) {
  return reduce_lanes<warp_size>(x, [](T a, T b) { return a + b; });
}
template <class T>
__device__ T largest_of_warp(T x) {
  return reduce_lanes<warp_size>(x, [](T a, T b) { return fmax(a, b); });
}

// A warp has the row of one head. With L_p, H_p the log-sum-exp and entropy of a part, m the
// largest L_p and w_p = exp(L_p - m): L = m + log sum w_p, and
// H = log sum w_p - sum w_p (L_p - m - H_p) / sum w_p. A sink is a part of H = 0 whose value is 0.
template <class S>
__global__ void __launch_bounds__(merge_threads)
    merge_parts(const AttentionParts<S> parts, const AttentionOutput<S> out,
                const Compute<S>* sinks, const std::size_t rows) {
  using T = Compute<S>;
  const std::size_t index =
      std::size_t{blockIdx.x} * merge_warps + static_cast<unsigned>(threadIdx.x / warp_size);
  if (index >= rows) return;
  const int lane = threadIdx.x % warp_size;
  const auto head = static_cast<std::int64_t>(index % static_cast<std::size_t>(parts.heads));
  const auto batch = static_cast<std::int64_t>(index / static_cast<std::size_t>(parts.heads));
  const auto of_part = [&](const Rows<const T>& x, int p) { return *at(x, batch, head, p); };

  const T sink = sinks != nullptr ? sinks[head] : -infinity<T>();
  T max = sink, max_logit = -infinity<T>();
  for (int p = lane; p < parts.count; p += warp_size) {
    max = fmax(max, of_part(parts.logsumexp, p));
    if (parts.max_logit.data != nullptr) max_logit = fmax(max_logit, of_part(parts.max_logit, p));
  }
  const T shift = shift_of(largest_of_warp(max));
  const T of_sink = exp(sink - shift);
  T sum = 0, mean = 0;
  for (int p = lane; p < parts.count; p += warp_size) {
    const T down = of_part(parts.logsumexp, p) - shift, weight = exp(down);
    sum += weight;
    if (parts.entropy.data != nullptr && weight != T(0))
      mean += weight * (down - of_part(parts.entropy, p));
  }
  sum = sum_of_warp(sum) + of_sink;
  mean = sum_of_warp(mean) + (of_sink > T(0) ? of_sink * (sink - shift) : T(0));
  max_logit = largest_of_warp(max_logit);
  const bool empty = sum == T(0);
  if (lane == 0) {
    if (out.max_logit.data != nullptr) *at(out.max_logit, batch, head, 0) = max_logit;
    if (out.logsumexp.data != nullptr)
      *at(out.logsumexp, batch, head, 0) = empty ? -infinity<T>() : shift + log(sum);
    if (out.entropy.data != nullptr) {
      const T entropy = log(sum) - mean / sum;
      *at(out.entropy, batch, head, 0) = empty || entropy < T(0) ? T(0) : entropy;
    }
  }
  S* to = at(out.out, batch, head, 0);
  for (int d = lane; d < parts.value_dim; d += warp_size) {
    T value = 0;
    for (int p = 0; p < parts.count; ++p) {
      const T weight = exp(of_part(parts.logsumexp, p) - shift);
      if (weight != T(0)) value += weight * static_cast<T>(load(at(parts.out, batch, head, p)[d]));
    }
    to[d] = stored<S>(empty ? T(0) : value / sum);
  }
}

}  // namespace

template <class S>
cudaError_t merge_attention(const AttentionParts<S>& parts, const AttentionOutput<S>& output,
                            const Compute<S>* sinks, cudaStream_t stream) {
  const std::size_t rows = parts.batches * static_cast<std::size_t>(parts.heads);
  return launch(&merge_parts<S>, {{groups_of(rows, merge_warps)}, dim3(merge_threads), 0, stream},
                parts, output, sinks, rows);
}

template cudaError_t merge_attention(const AttentionParts<float>&, const AttentionOutput<float>&,
                                     const float*, cudaStream_t);
template cudaError_t merge_attention(const AttentionParts<double>&, const AttentionOutput<double>&,
                                     const double*, cudaStream_t);
template cudaError_t merge_attention(const AttentionParts<__half>&, const AttentionOutput<__half>&,
                                     const float*, cudaStream_t);
template cudaError_t merge_attention(const AttentionParts<__nv_bfloat16>&,
                                     const AttentionOutput<__nv_bfloat16>&, const float*,
                                     cudaStream_t);

}  // namespace logitkit::cuda
