// The distribution of argmax(mu + scale * noise) for independent noise of one law.
// Specification: python/logitkit/reference/_noise_argmax.py
//
// All functions take dense rows of n >= 1 logits, each with a finite maximum; -inf leaves a class
// out. T is float or double; the work is done in double. 0 < scale < inf. `threads` = 0 means
// default_threads(); the bits do not depend on it, nor those of a row on the others. Logits more
// than 2^50 scales below the largest count as that far where tails are heavy (Cauchy, tabulated);
// normal noise, 1e154.
#pragma once

#include <cstddef>

#include "isa.h"
#include "noise_argmax/loops.h"

namespace logitkit {

/// Rows of logits and their noise.
template <class T>
struct NoisyLogits {
  const T* logits;
  std::size_t rows, classes;
  Noise noise;
  double scale;
};

/// probabilities[i] = P(argmax = i), and log_probs their logarithms; either may be null.
///   Error:    relative for probabilities, absolute for logarithms: 1e-9 in double and 1e-5 in
///             float where the probability is above 1e-30; below 1e-299 it is 0. Where tails are
///             heavy, the spread of a row in units of the scale times 2^-50 comes to that.
///   Work:     O(n + points * nodes): some hundred of each, n points at most
template <class T>
void noise_argmax(const NoisyLogits<T>& x, T* probabilities, T* log_probs, std::size_t threads,
                  Isa isa);

/// gradients[m] = sum_i cotangents[i] d probabilities[i] / d logits[m].
///   Error:    2e-9 max |cotangents| / scale in double, 2e-6 in float
template <class T>
void noise_argmax_vjp(const NoisyLogits<T>& x, const T* cotangents, T* gradients,
                      std::size_t threads, Isa isa);

/// values[row] = E max(mu + scale * noise), whose gradient is the probabilities; infinite for
/// Cauchy noise, and for tails as heavy.
///   Error:    1e-9 (scale + |value|) in double, 1e-6 in float
template <class T>
void noise_argmax_expected_max(const NoisyLogits<T>& x, T* values, std::size_t threads, Isa isa);

/// log_probs[row] = log P(argmax = index[row]), on nodes for this class alone; and gradients, if
/// they are not null: d log_probs[row] / d logits[row, m].
///   Error:    1e-12 max(1, |log_prob|) in double down to -1e4, 2e-6 in float; of gradients 1e-9
///             and 2e-6 of the largest
///             With heavy tails this is for logits that differ by 1e7 scales at most.
///   Specials: -inf where the class cannot win, with a gradient of zero
template <class T>
void noise_argmax_log_prob(const NoisyLogits<T>& x, const std::size_t* index, T* log_probs,
                           T* gradients, std::size_t threads, Isa isa);

}  // namespace logitkit
