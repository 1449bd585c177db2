#include "cross_entropy/cross_entropy_cuda.h"

#include "gemm/product_cuda.h"
#include "sum_exp/line_sums_cuda.h"

namespace logitkit::cuda {
namespace {

/// One row, which `group` threads of a block go over in packs.
template <class S, unsigned group>
class Row {
  using T = Compute<S>;
  static constexpr int pack = pack_size<S>;

 public:
  __device__ Row(const CrossEntropyInput<S>& in, std::size_t row, bool is_aligned)
      : in_(in), row_(row), is_aligned_(is_aligned) {
    const bool hard = in.targets == nullptr;
    keep_ = static_cast<T>(1.0 - in.smoothing);
    spread_ = static_cast<T>(in.smoothing / static_cast<double>(in.classes));
    label_ = hard ? in.labels[row] : -1;
    plain_ = hard && in.smoothing == 0.0;
  }

  /// Whether classes other than the label have a share.
  __device__ bool plain() const { return plain_; }
  __device__ std::int64_t label() const { return label_; }
  __device__ bool is_label(std::size_t column) const {
    return static_cast<std::int64_t>(column) == label_;
  }

  __device__ T weight(std::size_t column) const {
    return in_.class_weight != nullptr ? load(in_.class_weight[column]) : T(1);
  }
  /// What the label has for itself.
  __device__ double peak() const {
    return is_class() ? (1.0 - in_.smoothing) * weight(static_cast<std::size_t>(label_)) : 0.0;
  }
  __device__ bool is_class() const {
    return label_ >= 0 && label_ < static_cast<std::int64_t>(in_.classes);
  }
  __device__ T own() const { return load(in_.logits[row_ * in_.classes + label_]); }

  /// The share of a class in the target, but for peak().
  __device__ T share(std::size_t column, T target) const {
    return plain_ ? T(0) : weight(column) * (keep_ * target + spread_);
  }

  /// Calls f(first column, how many there are, logits, targets) for the packs of this thread.
  template <class F>
  __device__ void for_packs(const F& f) const {
    const S* logits = in_.logits + row_ * in_.classes;
    const S* targets = in_.targets != nullptr ? in_.targets + row_ * in_.classes : nullptr;
    for (std::size_t j = threadIdx.x % group * pack; j < in_.classes; j += group * pack) {
      const std::size_t there = min(in_.classes - j, std::size_t{pack});
      const Pack<S, pack> x = load_pack<pack>(logits + j, there, is_aligned_);
      Pack<S, pack> t = {};
      if (targets != nullptr) t = load_pack<pack>(targets + j, there, is_aligned_);
      f(j, there, x, t);
    }
  }

 private:
  const CrossEntropyInput<S>& in_;
  std::size_t row_;
  bool is_aligned_, plain_;
  T keep_, spread_;
  std::int64_t label_;
};

template <unsigned group>
constexpr unsigned block_threads = group < 128 ? 128 : group;

template <class S, unsigned group>
__global__ void __launch_bounds__(block_threads<group>)
    rows_of_logits(CrossEntropyInput<S> in, CrossEntropyOutput<S> out, bool is_aligned) {
  using T = Compute<S>;
  using Sums = LineSums<T, false>;
  constexpr unsigned threads = block_threads<group>;
  constexpr int pack = pack_size<S>;
  __shared__ T max_of_warp[threads / warp_size];
  __shared__ Sums sums_of_warp[threads / warp_size];
  __shared__ double masses[threads / warp_size], distances[threads / warp_size];
  const auto reduced = [](auto value, auto* of_warp, const auto& merge) {
    if constexpr (group <= warp_size)
      return reduce_lanes<group>(value, merge);
    else
      return reduce_block<group>(value, of_warp, merge);
  };
  const auto sum = [](double a, double b) { return a + b; };

  const std::size_t given = std::size_t{blockIdx.x} * (threads / group) + threadIdx.x / group;
  const std::size_t index = min(given, in.rows - 1);  // the last one again, not to leave the warp
  const bool takes_part = in.labels[index] >= 0, is_first = threadIdx.x % group == 0;
  const Row<S, group> row(in, index, is_aligned);

  Sums sums = no_terms<T, false>();
  double mass = 0.0;
  if (takes_part)
    row.for_packs([&](std::size_t j, std::size_t there, const auto& x, const auto& t) {
      T z[pack], max = sums.max;
#pragma unroll
      for (int i = 0; i < pack; ++i) {
        z[i] = static_cast<std::size_t>(i) < there ? load(x.element[i]) : -infinity<T>();
        max = fmax(max, z[i]);
        if (!row.plain() && static_cast<std::size_t>(i) < there)
          mass += static_cast<double>(row.share(j + i, load(t.element[i])));
      }
      raise(sums, max);
#pragma unroll
      for (int i = 0; i < pack; ++i) add_term(sums, z[i], shift_of(max));
    });
  sums = merge_all(
      sums, [&](T max) { return reduced(max, max_of_warp, [](T a, T b) { return fmax(a, b); }); },
      [&](const Sums& part) {
        return reduced(part, sums_of_warp,
                       [](const Sums& a, const Sums& b) { return added(a, b); });
      });
  if (!row.plain()) mass = reduced(mass, masses, sum);

  const bool is_finite = isfinite(sums.max) && isfinite(sums.sum);
  const T shift = shift_of(sums.max), log_term = log(sums.sum);
  const double log_sum = log(static_cast<double>(sums.sum));
  const double logsumexp = static_cast<double>(shift) + log_sum, peak = row.peak();
  const double slope = in.z_loss == 0.0 ? 0.0 : 2.0 * in.z_loss * logsumexp;
  const T factor = static_cast<T>(peak + mass + slope);

  double distance = 0.0;
  S* gradient = out.gradient != nullptr ? out.gradient + index * in.classes : nullptr;
  if (!takes_part) {
    if (gradient != nullptr && given < in.rows)
      for (std::size_t j = threadIdx.x % group; j < in.classes; j += group)
        gradient[j] = stored<S>(T(0));
  } else if (gradient != nullptr || !row.plain()) {
    row.for_packs([&](std::size_t j, std::size_t there, const auto& x, const auto& t) {
      Pack<S, pack> result;
#pragma unroll
      for (int i = 0; i < pack; ++i) {
        if (static_cast<std::size_t>(i) >= there) continue;
        const T z = load(x.element[i]), share = row.share(j + i, load(t.element[i]));
        if (share > T(0) || share < T(0))
          distance += static_cast<double>(share) * (static_cast<double>(shift) - z);
        T slope_of_z = factor * exp(z - shift - log_term) - share;
        if (row.is_label(j + i)) {
          const double nats = (static_cast<double>(shift) - z) + log_sum;
          slope_of_z = row.plain() ? static_cast<T>(peak * expm1(-nats) + slope * exp(-nats))
                                   : static_cast<T>(static_cast<double>(slope_of_z) - peak);
        }
        result.element[i] = stored<S>(is_finite ? slope_of_z : infinity<T>() - infinity<T>());
      }
      if (gradient == nullptr || given >= in.rows) return;
      if (is_aligned && there == pack) {
        *reinterpret_cast<Pack<S, pack>*>(gradient + j) = result;
      } else {
#pragma unroll
        for (int i = 0; i < pack; ++i)
          if (static_cast<std::size_t>(i) < there) gradient[j + i] = result.element[i];
      }
    });
  }
  if (!row.plain()) distance = reduced(distance, distances, sum);
  if (!is_first || given >= in.rows) return;
  double value = 0.0;
  if (takes_part) {
    if (row.is_class() && peak != 0.0)
      value = peak * ((static_cast<double>(shift) - row.own()) + log_sum);
    if (!row.plain()) value += distance + mass * log_sum;
    if (!is_finite || (in.targets == nullptr && !row.is_class())) value = nan("");
    if (in.z_loss != 0.0) value += in.z_loss * logsumexp * logsumexp;
  }
  if (out.values != nullptr) out.values[index] = value;
  if (out.logsumexp != nullptr) out.logsumexp[index] = takes_part ? logsumexp : 0.0;
}

template <unsigned group, class S>
cudaError_t launch_rows(const CrossEntropyInput<S>& in, const CrossEntropyOutput<S>& out,
                        cudaStream_t stream) {
  const auto is_aligned_at = [](const S* x) {
    return x == nullptr || reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  };
  const bool is_aligned = in.classes % pack_size<S> == 0 && is_aligned_at(in.logits) &&
                          is_aligned_at(in.targets) && is_aligned_at(out.gradient);
  constexpr unsigned threads = block_threads<group>, rows = threads / group;
  const Blocks blocks = {groups_of(in.rows, rows)};
  return launch(&rows_of_logits<S, group>, {blocks, dim3(threads), 0, stream}, in, out, is_aligned);
}

}  // namespace

template <class S>
cudaError_t cross_entropy(const CrossEntropyInput<S>& input, const CrossEntropyOutput<S>& output,
                          cudaStream_t stream) {
  constexpr std::size_t most_of_warp = 1024;
  if (input.rows == 0) return cudaSuccess;
  if (input.classes <= most_of_warp) return launch_rows<warp_size>(input, output, stream);
  return launch_rows<512>(input, output, stream);
}

template cudaError_t cross_entropy(const CrossEntropyInput<float>&,
                                   const CrossEntropyOutput<float>&, cudaStream_t);
template cudaError_t cross_entropy(const CrossEntropyInput<double>&,
                                   const CrossEntropyOutput<double>&, cudaStream_t);
template cudaError_t cross_entropy(const CrossEntropyInput<__half>&,
                                   const CrossEntropyOutput<__half>&, cudaStream_t);
template cudaError_t cross_entropy(const CrossEntropyInput<__nv_bfloat16>&,
                                   const CrossEntropyOutput<__nv_bfloat16>&, cudaStream_t);

}  // namespace logitkit::cuda
