// Cross-entropy of logits. Specification: python/logitkit/reference/losses/_cross_entropy.py
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace logitkit {

/// Dense rows of logits x, and their targets; T is float or double. The target of class j of
/// row i is w_j ((1 - smoothing) t_ij + smoothing / classes).
template <class T>
struct CrossEntropyInput {
  const T* logits;  // [row][class]
  std::size_t rows, classes;
  /// The class y with t_iy = 1. A negative one says that the row takes no part: its value and
  /// gradient are 0, whatever it holds.
  const std::int64_t* labels;
  const T* targets;       // t, [row][class], in place of labels; or null
  const T* class_weight;  // w, [class]; null: 1
  double smoothing;
  double z_loss;  // factor of the square of log-sum-exp
};

/// What it writes of each row; null: not wanted.
template <class T>
struct CrossEntropyOutput {
  double* values;
  double* logsumexp;
  T* gradient;  // of each value, [row][class]
};

/// values[i] = sum_j target_ij (logsumexp(x_i) - x_ij) + z_loss logsumexp(x_i)^2. `threads` = 0
/// means default_threads(); the bits do not depend on it, nor those of a row on the others.
///   Error:     of values and logsumexp within e (1 + |result|) of T before a row's terms, with
///              e = 2^-22 in float and 2^-50 in double; where a label without smoothing has
///              p > 1/e also within e |result|. Of the gradient e sum_j |target_ij|
///   Specials:  logits of -inf have p = 0; terms of target 0 are 0. The value of a row with NaN
///              or +inf, or with -inf alone, is not finite, and neither are all of its gradient.
///   Traffic:   one read of the logits from memory if a row fits the second-level cache, and one
///              of targets; one write of the gradient.
template <class T>
void cross_entropy(const CrossEntropyInput<T>& input, const CrossEntropyOutput<T>& output,
                   std::size_t threads, Isa isa);

}  // namespace logitkit
