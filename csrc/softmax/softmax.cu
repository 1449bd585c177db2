#include "softmax/softmax_cuda.h"

#include "sum_exp/line_sums_cuda.h"

namespace logitkit::cuda {
namespace {

template <class T, bool moments>
__device__ T log_sum(const LineSums<T, moments>& sums) {
  return shift_of(sums.max) + log(sums.sum);  // log 0 = -inf without terms
}

template <class S>
struct LogSumExp {
  static constexpr bool moments = false, writes_elements = false;
  using T = Compute<S>;
  S* out;
  __device__ T logit(T x) const { return x; }
  __device__ void line(std::size_t line, const LineSums<T, false>& sums) const {
    out[line] = stored<S>(log_sum(sums));
  }
};

// y = exp(x - max) / sum, or x - max - log(sum).
template <class S>
struct Softmax {
  static constexpr bool moments = false, writes_elements = true;
  using T = Compute<S>;
  S* out;
  bool is_log;
  __device__ T logit(T x) const { return x; }
  struct Normalizer {
    T shift, factor;  // of the logarithm the second one is subtracted too
  };
  __device__ T kept(T z, T e) const { return is_log ? z : e; }
  __device__ Normalizer normalizer(const LineSums<T, false>& sums) const {
    if (is_log) return {shift_of(sums.max), log(sums.sum)};
    // Without a finite maximum all are NaN.
    return {T(0), isfinite(sums.max) ? T(1) / sums.sum : infinity<T>() - infinity<T>()};
  }
  __device__ S element(T kept, const Normalizer& of) const {
    return stored<S>(is_log ? kept - of.shift - of.factor : kept * of.factor);
  }
};

template <class S>
struct Stats {
  static constexpr bool moments = true, writes_elements = false;
  using T = Compute<S>;
  LineStats<T> out;
  T scale;
  __device__ T logit(T x) const { return x == -infinity<T>() ? x : scale * x; }
  __device__ void line(std::size_t line, const LineSums<T, true>& sums) const {
    const T nan = infinity<T>() - infinity<T>();
    const bool is_empty = sums.sum == T(0), is_nan = isnan(sums.sum);
    const bool is_infinite = sums.max == infinity<T>();
    out.logsumexp[line] = log_sum(sums);
    out.max[line] = is_nan ? nan : sums.max;
    const T entropy = log(sums.sum) - sums.mean / sums.sum;
    out.entropy[line] = is_empty ? T(0) : is_infinite || is_nan ? nan : fmax(entropy, T(0));
    out.sum_of_squares[line] = is_empty                ? T(0)
                               : is_infinite || is_nan ? nan
                                                       : sums.squares / (sums.sum * sums.sum);
  }
};

}  // namespace

template <class S>
std::size_t softmax_workspace(const Lines& lines) {
  return workspace_bytes<S, LogSumExp<S>>(lines);
}

template <class S>
cudaError_t logsumexp(const S* x, const Lines& lines, S* out, void* workspace,
                      cudaStream_t stream) {
  return reduce_lines(x, lines, LogSumExp<S>{out}, workspace, stream);
}

template <class S>
cudaError_t softmax(const S* x, const Lines& lines, S* y, void* workspace, cudaStream_t stream) {
  return reduce_lines(x, lines, Softmax<S>{y, false}, workspace, stream);
}

template <class S>
cudaError_t log_softmax(const S* x, const Lines& lines, S* y, void* workspace,
                        cudaStream_t stream) {
  return reduce_lines(x, lines, Softmax<S>{y, true}, workspace, stream);
}

template <class S>
cudaError_t softmax_stats(const S* x, const Lines& lines, Compute<S> scale,
                          const LineStats<Compute<S>>& out, void* workspace, cudaStream_t stream) {
  return reduce_lines(x, lines, Stats<S>{out, scale}, workspace, stream);
}

template std::size_t softmax_workspace<float>(const Lines&);
template cudaError_t logsumexp(const float*, const Lines&, float*, void*, cudaStream_t);
template cudaError_t softmax(const float*, const Lines&, float*, void*, cudaStream_t);
template cudaError_t log_softmax(const float*, const Lines&, float*, void*, cudaStream_t);
template cudaError_t softmax_stats(const float*, const Lines&, float, const LineStats<float>&,
                                   void*, cudaStream_t);

template std::size_t softmax_workspace<double>(const Lines&);
template cudaError_t logsumexp(const double*, const Lines&, double*, void*, cudaStream_t);
template cudaError_t softmax(const double*, const Lines&, double*, void*, cudaStream_t);
template cudaError_t log_softmax(const double*, const Lines&, double*, void*, cudaStream_t);
template cudaError_t softmax_stats(const double*, const Lines&, double, const LineStats<double>&,
                                   void*, cudaStream_t);

template std::size_t softmax_workspace<__half>(const Lines&);
template cudaError_t logsumexp(const __half*, const Lines&, __half*, void*, cudaStream_t);
template cudaError_t softmax(const __half*, const Lines&, __half*, void*, cudaStream_t);
template cudaError_t log_softmax(const __half*, const Lines&, __half*, void*, cudaStream_t);
template cudaError_t softmax_stats(const __half*, const Lines&, float, const LineStats<float>&,
                                   void*, cudaStream_t);

template std::size_t softmax_workspace<__nv_bfloat16>(const Lines&);
template cudaError_t logsumexp(const __nv_bfloat16*, const Lines&, __nv_bfloat16*, void*,
                               cudaStream_t);
template cudaError_t softmax(const __nv_bfloat16*, const Lines&, __nv_bfloat16*, void*,
                             cudaStream_t);
template cudaError_t log_softmax(const __nv_bfloat16*, const Lines&, __nv_bfloat16*, void*,
                                 cudaStream_t);
template cudaError_t softmax_stats(const __nv_bfloat16*, const Lines&, float,
                                   const LineStats<float>&, void*, cudaStream_t);

}  // namespace logitkit::cuda
