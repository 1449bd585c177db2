// The update of a diffusion sampler. Specification:
// python/logitkit/reference/_diffusion_update.py
#pragma once

#include <cstddef>

#include "isa.h"
#include "random/random.h"

namespace logitkit {

/// A number for each row, `step` apart: 0 if it is the same for all.
template <class T>
struct ByRow {
  const T* first;
  std::size_t step;
  T operator[](std::size_t row) const { return first[row * step]; }
};

/// Arrays (rows, count) and the coefficients of their rows. T is float or double.
template <class T>
struct DiffusionUpdate {
  const T* x;
  const T* y;      // null: none
  ByRow<T> a, b;   // b is not read without y
  ByRow<T> c;      // null: no noise
  T lower, upper;  // infinite: no bound
};

/// out = min(max(a x + b y + c z, lower), upper), where z is the normal noise that
/// random_numbers() draws for these rows, bit by bit; rows.row_ids is not read without noise, nor
/// is noise drawn for a row with c = 0. `out` may be x or y. `threads` = 0 means
/// default_threads(); no bit depends on it, on the instruction set, or on the other rows.
///   Error:     each product and the first two of a sum are fused: 1 ulp for each term
///   Specials:  those of arithmetic; NaN passes the bounds
///   Traffic:   one read of x and y, one write of `out`, around the caches if it is large
template <class T>
void diffusion_update(const DiffusionUpdate<T>& update, const Rows& rows, std::size_t count, T* out,
                      std::size_t threads, Isa isa);

/// An array (rows, count) and its factors, `step` apart, in double for both types.
template <class T>
struct Term {
  const T* x;
  ByRow<double> factor;
};

constexpr std::size_t most_terms = 8;

/// out = the sum of up to `most_terms` terms, from the first on, plus c z as above. A factor is
/// rounded to T. Serves solvers, which need no bounds.
///   Error:     that of diffusion_update(): the first product is rounded, the others are fused
///   Traffic:   one read of each term, one write of `out`, which is none of the terms
template <class T>
void combine(const Term<T>* terms, std::size_t term_count, ByRow<double> c, const Rows& rows,
             std::size_t count, T* out, std::size_t threads, Isa isa);

/// Whether there is NaN among `count` numbers.
template <class T>
bool has_nan(const T* x, std::size_t count, Isa isa);

}  // namespace logitkit
