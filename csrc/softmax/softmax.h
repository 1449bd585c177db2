// Softmax and its logarithm along an axis. Specification: python/logitkit/reference/_softmax.py
#pragma once

#include <cstddef>

#include "isa.h"
#include "sum_exp/item_sums.h"

namespace logitkit {

/// y_ij = exp(x_ij) / sum_k exp(x_ik) for the items i of x; T is float or double. y has the
/// layout of x and may be x. `threads` = 0 means default_threads(); the bits of y do not depend
/// on it, nor those of an item on the others.
///   Error:     2 ulp, also of denormal results
///   Specials:  an item with NaN or +inf, or with no term above -inf, is all NaN.
///   Traffic:   a read of x and a write of y; one more read of items too long for the cache.
template <class T>
void softmax(const T* x, const Layout& layout, T* y, std::size_t threads, Isa isa);

/// y_ij = x_ij - logsumexp(x_i), likewise.
///   Error:     2 ulp, also near zero; results closer to it than four times the smallest normal
///              number may be zero, and in double n terms may lose n 2^-1021 together
///   Specials:  an item with NaN, or with no term above -inf, is all NaN; +inf gives NaN and
///              makes the other terms of its item -inf.
template <class T>
void log_softmax(const T* x, const Layout& layout, T* y, std::size_t threads, Isa isa);

}  // namespace logitkit
