#include "attention/gradient_parts_cuda.h"

namespace logitkit::cuda {
namespace {

// What the gradient needs of each row, of all `count` rows of the array of queries.
template <class S>
__global__ void __launch_bounds__(row_threads)
    find_rows(const AttentionInput<S> in, const AttentionGradient<S> g,
              const GradientRows<Compute<S>> rows, const std::int64_t count) {
  using T = Compute<S>;
  const std::int64_t index =
      std::int64_t{blockIdx.x} * row_warps + static_cast<int>(threadIdx.x / warp_size);
  if (index >= count) return;
  const std::int64_t row = index % rows.rows, head = index / rows.rows % rows.heads;
  const std::int64_t batch = index / rows.rows / rows.heads;
  const S *out = at(g.out, batch, head, row), *grad_out = at(g.grad_out, batch, head, row);
  T product = 0;
  for (int d = threadIdx.x % warp_size; d < in.value_dim; d += warp_size)
    product += static_cast<T>(load(out[d])) * static_cast<T>(load(grad_out[d]));
  product = warp_sum(product);
  if (threadIdx.x % warp_size != 0) return;
  const auto value = [&](const Rows<const T>& x) {
    return x.data == nullptr ? T(0) : *at(x, batch, head, row);
  };
  const T logsumexp = *at(g.logsumexp, batch, head, row), slope = value(g.grad_entropy);
  const bool empty = logsumexp == -infinity<T>();
  rows.data[index] = {empty ? infinity<T>() : logsumexp * per_logit<T>,
                      value(g.grad_logsumexp) - product - slope * value(g.entropy),
                      slope * logit_unit<T>, *at(in.scale, batch, head, row)};
}

}  // namespace

template <class S>
std::size_t attention_gradient_workspace(std::size_t rows) {
  return rows * sizeof(GradientRow<Compute<S>>);
}

template <class S>
cudaError_t attention_gradient(const AttentionInput<S>& in, const AttentionInput<S>& by_key,
                               const AttentionGradient<S>& g, std::size_t batches, std::size_t rows,
                               cudaStream_t stream) {
  using T = Compute<S>;
  if (in.heads == 0 || in.sequence_count == 0) return cudaSuccess;
  const GradientRows<T> of_rows = {static_cast<GradientRow<T>*>(g.workspace), in.heads,
                                   static_cast<std::int64_t>(rows)};
  const std::size_t count = batches * static_cast<std::size_t>(in.heads) * rows;
  const Launch how = {{groups_of(count, row_warps)}, dim3(row_threads), 0, stream};
  cudaError_t status = launch(&find_rows<S>, how, in, g, of_rows, static_cast<std::int64_t>(count));
  if (status == cudaSuccess) status = query_gradient(in, g, of_rows, stream);
  if (status == cudaSuccess) status = key_gradient(by_key, g, of_rows, stream);
  return status;
}

template std::size_t attention_gradient_workspace<float>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<float>&, const AttentionInput<float>&,
                                        const AttentionGradient<float>&, std::size_t, std::size_t,
                                        cudaStream_t);
template std::size_t attention_gradient_workspace<double>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<double>&,
                                        const AttentionInput<double>&,
                                        const AttentionGradient<double>&, std::size_t, std::size_t,
                                        cudaStream_t);
template std::size_t attention_gradient_workspace<__half>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<__half>&,
                                        const AttentionInput<__half>&,
                                        const AttentionGradient<__half>&, std::size_t, std::size_t,
                                        cudaStream_t);
template std::size_t attention_gradient_workspace<__nv_bfloat16>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<__nv_bfloat16>&,
                                        const AttentionInput<__nv_bfloat16>&,
                                        const AttentionGradient<__nv_bfloat16>&, std::size_t,
                                        std::size_t, cudaStream_t);

}  // namespace logitkit::cuda
