#include "noise_argmax/noise_argmax_cuda.h"

#include "cuda/launch.h"
#include "noise_argmax/gauss_legendre.h"
#include "noise_argmax/noise_row_cuda.h"

namespace logitkit::cuda {
namespace {

template <class Law>
__global__ void __launch_bounds__(integral_threads)
    noise_rows(const __grid_constant__ NoiseTask task) {
  __shared__ IntegralMemory memory;
  for (std::size_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    NoiseRow<Law>(memory, task, row).compute();
    __syncthreads();
  }
}

PanelRules make_panel_rules() {
  PanelRules rules;
  std::size_t next = 0;
  for (const std::size_t size : {4, 8, 16}) {
    const GaussLegendre rule(size);
    for (std::size_t k = 0; k < size; ++k, ++next) {
      rules.nodes[next] = rule.nodes[k];
      rules.weights[next] = rule.weights[k];
    }
  }
  return rules;
}
const PanelRules& panel_rules() {
  static const PanelRules rules = make_panel_rules();
  return rules;
}

ElementType type_of(const float*) { return ElementType::f32; }
ElementType type_of(const double*) { return ElementType::f64; }
ElementType type_of(const __half*) { return ElementType::f16; }
ElementType type_of(const __nv_bfloat16*) { return ElementType::bf16; }
template <class S>
Elements elements(const S* x) {
  return {const_cast<S*>(x), type_of(x)};
}

/// As many blocks as a GPU has room for, or fewer where rows are long; a function of the shape
/// alone.
std::size_t blocks_for(std::size_t rows, std::size_t classes) {
  constexpr std::size_t least = 264, most = 528, elements = std::size_t{1} << 25;
  std::size_t blocks = elements / (classes + 1);
  blocks = blocks < least ? least : blocks > most ? most : blocks;
  return blocks < rows ? blocks : rows;
}

template <class S>
NoiseTask task_for(const NoisyLogits<S>& x, Wanted wanted, void* workspace) {
  const bool is_double = sizeof(S) == sizeof(double) || wanted == Wanted::expected_max;
  NoiseTask task = {};
  task.logits = elements(x.logits);
  task.rows = x.rows;
  task.classes = x.classes;
  task.scale = x.scale;
  task.wanted = wanted;
  task.accuracy = is_double ? NoiseAccuracy{1e-11, -690.0} : NoiseAccuracy{1e-7, -90.0};
  task.rules = panel_rules();
  if (x.noise.table != nullptr) task.table = *x.noise.table;
  task.integrals = static_cast<double*>(workspace);
  return task;
}

cudaError_t run(const NoiseTask& task, NoiseLaw law, cudaStream_t stream) {
  const Launch how = {{blocks_for(task.rows, task.classes)}, dim3(integral_threads), 0, stream};
  switch (law) {
    case NoiseLaw::normal: return launch(&noise_rows<NormalNoise>, how, task);
    case NoiseLaw::logistic: return launch(&noise_rows<LogisticNoise>, how, task);
    case NoiseLaw::laplace: return launch(&noise_rows<LaplaceNoise>, how, task);
    case NoiseLaw::cauchy: return launch(&noise_rows<CauchyNoise>, how, task);
    case NoiseLaw::uniform: return launch(&noise_rows<UniformNoise>, how, task);
    case NoiseLaw::exponential: return launch(&noise_rows<ExponentialNoise>, how, task);
    case NoiseLaw::tabulated: return launch(&noise_rows<TabulatedNoise>, how, task);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

std::size_t noise_argmax_workspace(std::size_t rows, std::size_t classes) {
  return blocks_for(rows, classes) * classes * sizeof(double);
}

template <class S>
cudaError_t noise_argmax(const NoisyLogits<S>& x, bool logarithms, S* out, void* workspace,
                         cudaStream_t stream) {
  NoiseTask task =
      task_for(x, logarithms ? Wanted::log_probabilities : Wanted::probabilities, workspace);
  task.out = elements(out);
  return run(task, x.noise.law, stream);
}

template <class S>
cudaError_t noise_argmax_vjp(const NoisyLogits<S>& x, const S* cotangents, S* gradients,
                             void* workspace, cudaStream_t stream) {
  NoiseTask task = task_for(x, Wanted::vjp, workspace);
  task.cotangents = elements(cotangents);
  task.out = elements(gradients);
  return run(task, x.noise.law, stream);
}

template <class S>
cudaError_t noise_argmax_expected_max(const NoisyLogits<S>& x, S* values, void* workspace,
                                      cudaStream_t stream) {
  NoiseTask task = task_for(x, Wanted::expected_max, workspace);
  task.out = elements(values);
  return run(task, x.noise.law, stream);
}

template <class S>
cudaError_t noise_argmax_log_prob(const NoisyLogits<S>& x, const std::int64_t* index, S* log_probs,
                                  S* gradients, void* workspace, cudaStream_t stream) {
  NoiseTask task = task_for(x, Wanted::log_prob, workspace);
  task.index = index;
  task.out = elements(log_probs);
  task.gradients = elements(gradients);
  return run(task, x.noise.law, stream);
}

template cudaError_t noise_argmax(const NoisyLogits<float>&, bool, float*, void*, cudaStream_t);
template cudaError_t noise_argmax_vjp(const NoisyLogits<float>&, const float*, float*, void*,
                                      cudaStream_t);
template cudaError_t noise_argmax_expected_max(const NoisyLogits<float>&, float*, void*,
                                               cudaStream_t);
template cudaError_t noise_argmax_log_prob(const NoisyLogits<float>&, const std::int64_t*, float*,
                                           float*, void*, cudaStream_t);
template cudaError_t noise_argmax(const NoisyLogits<double>&, bool, double*, void*, cudaStream_t);
template cudaError_t noise_argmax_vjp(const NoisyLogits<double>&, const double*, double*, void*,
                                      cudaStream_t);
template cudaError_t noise_argmax_expected_max(const NoisyLogits<double>&, double*, void*,
                                               cudaStream_t);
template cudaError_t noise_argmax_log_prob(const NoisyLogits<double>&, const std::int64_t*, double*,
                                           double*, void*, cudaStream_t);
template cudaError_t noise_argmax(const NoisyLogits<__half>&, bool, __half*, void*, cudaStream_t);
template cudaError_t noise_argmax_vjp(const NoisyLogits<__half>&, const __half*, __half*, void*,
                                      cudaStream_t);
template cudaError_t noise_argmax_expected_max(const NoisyLogits<__half>&, __half*, void*,
                                               cudaStream_t);
template cudaError_t noise_argmax_log_prob(const NoisyLogits<__half>&, const std::int64_t*, __half*,
                                           __half*, void*, cudaStream_t);
template cudaError_t noise_argmax(const NoisyLogits<__nv_bfloat16>&, bool, __nv_bfloat16*, void*,
                                  cudaStream_t);
template cudaError_t noise_argmax_vjp(const NoisyLogits<__nv_bfloat16>&, const __nv_bfloat16*,
                                      __nv_bfloat16*, void*, cudaStream_t);
template cudaError_t noise_argmax_expected_max(const NoisyLogits<__nv_bfloat16>&, __nv_bfloat16*,
                                               void*, cudaStream_t);
template cudaError_t noise_argmax_log_prob(const NoisyLogits<__nv_bfloat16>&, const std::int64_t*,
                                           __nv_bfloat16*, __nv_bfloat16*, void*, cudaStream_t);

}  // namespace logitkit::cuda
