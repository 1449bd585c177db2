#include "cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cross_entropy/loops.h"
#include "logsumexp/logsumexp.h"
#include "simd/flush_denormals.h"
#include "sum_exp/item_sums.h"
#include "threads.h"

namespace logitkit {
namespace {

constexpr std::size_t task_size = 1u << 16;  // elements of a task
constexpr std::size_t most_rows = 512;       // of a task: its sums stay in the cache

template <class T>
const CrossEntropyLoops<T>& row_loops(Isa isa);
template <>
const CrossEntropyLoops<float>& row_loops(Isa isa) {
  return cross_entropy_loops(isa).float32;
}
template <>
const CrossEntropyLoops<double>& row_loops(Isa isa) {
  return cross_entropy_loops(isa).float64;
}

template <class T>
class Rows {
 public:
  Rows(const CrossEntropyInput<T>& input, const CrossEntropyOutput<T>& output, Isa isa)
      : in_(input),
        out_(output),
        loops_(sum_exp_loops(isa)),
        row_loops_(row_loops<T>(isa)),
        keep_(1.0 - input.smoothing),
        spread_(input.smoothing / static_cast<double>(std::max<std::size_t>(1, input.classes))) {}

  /// The rows [begin, end).
  void run(std::size_t begin, std::size_t end) const {
    const ItemSums sums(end - begin);
    for_each_run(
        end - begin, [&](std::size_t i) { return in_.labels[begin + i] >= 0; },
        [&](std::size_t i, std::size_t count) { run_kept(begin + i, count, sums); });
    for (std::size_t i = begin; i < end; ++i)
      if (in_.labels[i] < 0) leave_out(i);
  }

 private:
  void leave_out(std::size_t row) const {
    if (out_.values != nullptr) out_.values[row] = 0.0;
    if (out_.logsumexp != nullptr) out_.logsumexp[row] = 0.0;
    if (out_.gradient != nullptr) std::fill_n(out_.gradient + row * in_.classes, in_.classes, T{0});
  }

  bool plain() const { return in_.targets == nullptr && spread_ == 0.0; }

  void run_kept(std::size_t begin, std::size_t count, const ItemSums& sums) const {
    // The short way takes logsumexp as one double, which has digits to spare for floats alone.
    if (!plain() || sizeof(T) == sizeof(double)) return run_from_max(begin, count, sums);
    const Block<T> block = block_of(begin, count);
    {
      const FlushDenormals flush(FlushDenormals::What::results_and_operands);
      loops_for<T>(loops_).sum(block, sums.sums());
    }
    double *high = sums.result(), *low = sums.result_rest();
    loops_.log.log(count, sums.sums(), high, low);
    // A small value would be a difference of large numbers.
    const auto from_max = [&](std::size_t i) {
      return !sums.usable(i) || !(std::abs(high[i]) < 0x1p20) ||
             !((high[i] - own(begin + i)) + low[i] > 1.0);
    };
    for (std::size_t i = 0; i < count; ++i)
      if (!from_max(i)) finish(begin + i, high[i], low[i], true);
    const ItemSums of_one(1);
    for (std::size_t i = 0; i < count; ++i)
      if (from_max(i)) run_from_max(begin + i, 1, of_one);
  }

  void run_from_max(std::size_t begin, std::size_t count, const ItemSums& sums) const {
    const Block<T> block = block_of(begin, count);
    {
      const FlushDenormals flush(FlushDenormals::What::results_and_operands);
      loops_for<T>(loops_).sum_beside_max(block, sums.sums());
    }
    log_sums_from_max(block, sums, loops_);
    for (std::size_t i = 0; i < count; ++i)
      finish(begin + i, sums.sums().max[i], sums.result()[i], sums.usable_beside_max(i));
  }

  Block<T> block_of(std::size_t row, std::size_t count) const {
    return {in_.logits + row * in_.classes, count, in_.classes, in_.classes, 1};
  }

  /// The logit of a row's label.
  double own(std::size_t row) const {
    return in_.logits[row * in_.classes + static_cast<std::size_t>(in_.labels[row])];
  }

  /// One row, given two numbers whose sum is its logsumexp; the maximum first, unless the row is
  /// plain().
  void finish(std::size_t row, double max, double log_sum, bool usable) const {
    const T* x = in_.logits + row * in_.classes;
    const double logsumexp = max + log_sum;
    const bool soft = in_.targets != nullptr;
    const Shares<T> shares = {soft ? in_.targets + row * in_.classes : nullptr, in_.class_weight,
                              keep_, spread_};
    SharedDistance sum = {0.0, 0.0};
    if (!plain()) sum = row_loops_.distance(x, in_.classes, max, shares);
    double peak = 0.0, nats = 0.0;  // of the label
    const auto label = static_cast<std::size_t>(in_.labels[row]);
    if (!soft) {
      const double weight = in_.class_weight == nullptr ? 1.0 : double{in_.class_weight[label]};
      peak = keep_ * weight;
      nats = (max - own(row)) + log_sum;
    }
    double value = peak == 0.0 ? 0.0 : peak * nats;
    if (!plain()) value += sum.distance + sum.mass * log_sum;
    if (!std::isfinite(log_sum)) value = std::numeric_limits<double>::quiet_NaN();
    if (in_.z_loss != 0.0) value += in_.z_loss * logsumexp * logsumexp;
    if (out_.values != nullptr) out_.values[row] = value;
    if (out_.logsumexp != nullptr) out_.logsumexp[row] = logsumexp;
    if (out_.gradient == nullptr) return;

    T* y = out_.gradient + row * in_.classes;
    softmax_of_row(x, max, log_sum, usable, y);
    const double slope = in_.z_loss == 0.0 ? 0.0 : 2.0 * in_.z_loss * logsumexp;
    const double factor = peak + sum.mass + slope;
    if (!plain() || factor != 1.0)
      row_loops_.grade(y, in_.classes, factor,
                       plain() ? Shares<T>{nullptr, nullptr, 0.0, 0.0} : shares);
    // p - 1 of the label without a difference.
    if (plain())
      y[label] = static_cast<T>(peak * std::expm1(-nats) + slope * std::exp(-nats));
    else if (!soft)
      y[label] = static_cast<T>(double{y[label]} - peak);
  }

  /// y = e^(x - max - log_sum).
  void softmax_of_row(const T* x, double max, double log_sum, bool usable, T* y) const {
    if (!usable || !std::isfinite(log_sum)) {
      for (std::size_t j = 0; j < in_.classes; ++j)
        y[j] = static_cast<T>(std::exp((double{x[j]} - max) - log_sum));
      return;
    }
    // e^-(max + log_sum) = (scale + rest) 2^-exponent, 1/2 < scale <= 1
    constexpr double ln_2 = 0x1.62e42fefa39efp-1, ln_2_rest = 0x1.abc9e3b39803fp-56;
    double exponent = std::ceil((max + log_sum) / ln_2);
    const double part = std::exp(std::fma(exponent, ln_2, -max) + (exponent * ln_2_rest - log_sum));
    int power;
    const double fraction = std::frexp(part, &power);
    exponent -= power;
    const double scale = static_cast<T>(fraction), rest = fraction - scale;
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const Block<T> block = {x, 1, in_.classes, in_.classes, 1};
    loops_for<T>(loops_).softmax(block, {&exponent, &scale, &rest}, y, Store::cached);
  }

  const CrossEntropyInput<T>& in_;
  const CrossEntropyOutput<T>& out_;
  const AllSumExpLoops& loops_;
  const CrossEntropyLoops<T>& row_loops_;
  const double keep_, spread_;
};

}  // namespace

const AllCrossEntropyLoops& cross_entropy_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::cross_entropy_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::cross_entropy_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::cross_entropy_loops;
#endif
    default: return scalar::cross_entropy_loops;
  }
}

template <class T>
void cross_entropy(const CrossEntropyInput<T>& input, const CrossEntropyOutput<T>& output,
                   std::size_t threads, Isa isa) {
  const Rows<T> rows(input, output, isa);
  const std::size_t of_task =
      std::clamp<std::size_t>(task_size / std::max<std::size_t>(1, input.classes), 1, most_rows);
  parallel_for((input.rows + of_task - 1) / of_task, threads, [&](std::size_t task) {
    rows.run(task * of_task, std::min(input.rows, (task + 1) * of_task));
  });
}

template void cross_entropy(const CrossEntropyInput<float>&, const CrossEntropyOutput<float>&,
                            std::size_t, Isa);
template void cross_entropy(const CrossEntropyInput<double>&, const CrossEntropyOutput<double>&,
                            std::size_t, Isa);

}  // namespace logitkit
