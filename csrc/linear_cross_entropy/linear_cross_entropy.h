// Cross-entropy of a linear layer's logits, which are not stored. Specification:
// python/logitkit/reference/losses/_linear_cross_entropy.py
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace logitkit {

/// A linear layer and the targets of its rows; T is float or double. With s = input weight^T +
/// bias the logits are z = softcap tanh(s / softcap), or s without a softcap.
template <class T>
struct LayerLossInput {
  const T* input;   // [row][depth]
  const T* weight;  // [class][depth]
  const T* bias;    // [class], or null
  std::size_t rows, classes, depth;
  T softcap;  // 0: none
  /// Of each row the class of its target. A negative one says that the row takes no part: it is
  /// not read, its statistics are not written, and its gradient is 0.
  const std::int64_t* labels;
  /// Targets t of all classes, [row][class], in place of labels; or null.
  const T* targets;
  /// What the targets of a class are multiplied by; null: 1.
  const T* class_weight;
};

/// What it writes for each row that takes part; null: not wanted.
struct LayerLossStats {
  double* logsumexp;   // of z
  double* entropy;     // of softmax(z)
  double* target;      // z of the label, or with targets the sum of class_weight t z
  double* total;       // the sum of class_weight z
  std::int64_t* best;  // the first class of the largest z, unspecified with NaN
};

/// What the gradient G with respect to z is made of, p being softmax(z): of row i
///   G = (base[i] + slope[i] logsumexp) p - target,
/// where the target is peak[i] for the label, or class_weight peak[i] t with targets; and
/// class_weight spread[i] more for every class, if `spread` is not null.
struct LayerLossFactors {
  const double *base, *slope, *peak, *spread;
};

/// The gradients of input, weight and bias; null: not wanted.
template <class T>
struct LayerLossGradient {
  T* input;
  T* weight;
  T* bias;
};

/// The statistics of all rows.
///   Error:     with u = 2^-24 for float and 2^-53 for double, and for each row
///              s = u max_j (4 sqrt(depth) sum_k |input_k weight_jk| + 4 |bias_j| + 2 |z_j|), the
///              likely error of a logit: logsumexp within s + 128 u; entropy within
///              (2 s + 128 u) (1 + log classes); target and total, sums of t_j z_j, within
///              sum_j |t_j| (s + 128 u |z_j|); with isa amx 2^-125 depth max(1, |input_k|,
///              |weight_jk|) more for a logit, which counts where all its terms are below 2^-100
///   Specials:  classes of z = -inf do not count, and terms of target or weight 0 are 0. A row
///              with +inf has logsumexp +inf, one with NaN has NaN. Denormals count as 0.
///   Bits:      those of a row depend on the row, the layer and the instruction set alone.
///   Memory:    8 panels of rows for each thread, 1.5 times that as parts, and 400 bytes for each
///              row.
template <class T>
void linear_cross_entropy(const LayerLossInput<T>& input, const LayerLossStats& stats,
                          std::size_t threads, Isa isa);

/// The statistics and the gradients of all rows, with one computation of the logits.
///   Error:   of G, relative to the largest term of its sum, s + 64 u; the gradients add its
///            products in T
///            (with isa amx, terms of the gradients below 2^-100 may be lost)
///   Bits:    do not depend on `threads`. Those of a row of input depend on other rows with isa
///            amx: numbers that are not finite, huge or tiny send whole blocks to loops of floats.
///   Memory:  36 MiB, or what the logits of one panel of rows take, if that is more; and for each
///            thread what 8 panels and 256 classes take, with isa amx 256 classes as parts for all
///            rows of a chunk.
template <class T>
void linear_cross_entropy_gradient(const LayerLossInput<T>& input, const LayerLossFactors& factors,
                                   const LayerLossStats& stats,
                                   const LayerLossGradient<T>& gradient, std::size_t threads,
                                   Isa isa);

}  // namespace logitkit
