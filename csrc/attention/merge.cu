#include "attention/attention_cuda.h"
#include "attention/rows_cuda.h"

namespace logitkit::cuda {
namespace {

constexpr int merge_warps = 4, merge_threads = merge_warps * static_cast<int>(warp_size);

// Over the parts of a row, with L_p and H_p the log-sum-exp and entropy of one, and the weights
// w_p = exp(L_p - shift): sums of w_p, and of w_p (L_p - shift - H_p). A sink is a part of H = 0.
template <class T>
struct PartSums {
  T shift, sum, mean, max_logit;
};

// The parts of one head of a batch, and its sink.
template <class S>
struct PartsOfRow {
  using T = Compute<S>;
  const AttentionParts<S>& parts;
  std::int64_t batch, head;
  T sink;

  __device__ T number(const Rows<const T>& x, int p) const { return *at(x, batch, head, p); }

  __device__ PartSums<T> sums() const {
    const auto larger = [](T a, T b) { return fmax(a, b); };
    const int lane = threadIdx.x % warp_size;
    const bool has_entropy = parts.entropy.data != nullptr,
               has_max = parts.max_logit.data != nullptr;
    T max = sink, max_logit = -infinity<T>();
    for (int p = lane; p < parts.count; p += warp_size) {
      max = fmax(max, number(parts.logsumexp, p));
      if (has_max) max_logit = fmax(max_logit, number(parts.max_logit, p));
    }
    const T shift = shift_of(reduce_lanes<warp_size>(max, larger));
    T sum = 0, mean = 0;
    for (int p = lane; p < parts.count; p += warp_size) {
      const T down = number(parts.logsumexp, p) - shift, weight = exp(down);
      sum += weight;
      if (has_entropy && weight != T(0)) mean += weight * (down - number(parts.entropy, p));
    }
    const T down = sink - shift, weight = exp(down);
    return {shift, warp_sum(sum) + weight, warp_sum(mean) + (weight > T(0) ? weight * down : T(0)),
            reduce_lanes<warp_size>(max_logit, larger)};
  }

  // Column d of the sum of w_p out_p.
  __device__ T value(T shift, int d) const {
    T sum = 0;
    for (int p = 0; p < parts.count; ++p) {
      const T weight = exp(number(parts.logsumexp, p) - shift);
      if (weight != T(0)) sum += weight * static_cast<T>(load(at(parts.out, batch, head, p)[d]));
    }
    return sum;
  }
};

// A warp has the row of one head.
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
  const T sink = sinks != nullptr ? sinks[head] : -infinity<T>();
  const PartsOfRow<S> row = {parts, batch, head, sink};
  const PartSums<T> of = row.sums();
  const bool empty = of.sum == T(0);
  if (lane == 0) {
    if (out.max_logit.data != nullptr) *at(out.max_logit, batch, head, 0) = of.max_logit;
    if (out.logsumexp.data != nullptr)
      *at(out.logsumexp, batch, head, 0) = empty ? -infinity<T>() : of.shift + log(of.sum);
    if (out.entropy.data != nullptr) {
      const T entropy = log(of.sum) - of.mean / of.sum;
      *at(out.entropy, batch, head, 0) = empty || entropy < T(0) ? T(0) : entropy;
    }
  }
  S* to = at(out.out, batch, head, 0);
  for (int d = lane; d < parts.value_dim; d += warp_size)
    to[d] = stored<S>(empty ? T(0) : row.value(of.shift, d) / of.sum);
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
