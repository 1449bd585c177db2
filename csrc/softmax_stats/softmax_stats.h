// Statistics of softmax along an axis. Specification:
// python/logitkit/reference/_softmax_stats.py
#pragma once

#include <cstddef>

#include "isa.h"
#include "sum_exp/item_sums.h"

namespace logitkit {

/// What softmax_stats() writes: one number for each of the outer * inner items.
template <class T>
struct SoftmaxStats {
  T* logsumexp;
  T* entropy;
  T* max;
  T* sum_of_squares;
};

/// For z = scale * x and p = softmax(z): logsumexp(z), the entropy -sum_j p_j log p_j, max(z)
/// and sum_j p_j^2, for each item. 0 <= scale < inf; T is float or double. `threads` = 0 means
/// default_threads(); the bits do not depend on it, nor those of an item on the others.
///   Error:     e (1 + max |z| + log n) for logsumexp and entropy, and relative for
///              sum_of_squares; e = 2^-22 in float and 2^-50 in double
///   Specials:  terms of -inf count nothing, for any scale; 0 * inf is NaN. Without another term:
///   logsumexp and
///              max -inf, entropy and sum_of_squares 0. With +inf: logsumexp and max +inf, the
///              others NaN. With NaN: all NaN.
///   Traffic:   one read of x from memory.
template <class T>
void softmax_stats(const T* x, const Layout& layout, T scale, const SoftmaxStats<T>& out,
                   std::size_t threads, Isa isa);

}  // namespace logitkit
