// The loops over exponentials that log-sum-exp, softmax and their relatives share.
#pragma once

#include <cstddef>

#include "isa.h"

namespace logitkit {

/// A dense matrix of items, each of which has `terms` to be summed over. In rows terms are
/// adjacent, term_step = 1; in columns items are, item_step = 1.
template <class T>
struct Block {
  const T* x;
  std::size_t items, terms;
  std::size_t item_step, term_step;

  bool has_rows() const { return term_step == 1; }
  /// The items from `begin` on.
  Block part(std::size_t begin, std::size_t count) const {
    return {x + begin * item_step, count, terms, item_step, term_step};
  }
};

/// Rows of at most so many terms are transposed, V::width of them at a time, and then summed as
/// columns: a sum over the lanes of a vector would cost more than the sum over the row.
constexpr std::size_t short_row = 64;

/// Rows of at most so many bytes are transposed for softmax, too, and their results back.
constexpr std::size_t short_row_bytes = 64;

/// Rows of so many bytes are small enough for softmax to keep two numbers for each term in the
/// first-level cache.
constexpr std::size_t bytes_at_once = 16384;

/// For each item the sum of its exponentials, (sum + rest) 2^exponent.
///
/// The sum is a NaN if a term is a NaN or +inf; |exponent| >= exponent_limit if a term is so
/// large, or if none is large enough, that the loops are not made for it. All else is within
/// the error that the loop promises.
struct SumExp {
  double* exponent;
  double* sum;
  double* rest;
  double* max;  // of the terms, if the loop promises it and the sum is usable

  SumExp from(std::size_t i) const { return {exponent + i, sum + i, rest + i, max + i}; }
};
constexpr double exponent_limit = 0x1p17;
/// What is below the lowest exponent is nothing beside a maximum above this.
constexpr double max_limit = (exponent_limit - 2048) * 0.69;

/// SumExp, and with p = softmax of an item's terms z the means that softmax_stats needs.
struct SumExpMoments {
  SumExp sums;
  double* mean;            // sum p z - exponent ln 2
  double* sum_of_squares;  // sum p^2
};

/// For each item sum_j exp(x_j - max) = count + high + low, count terms being equal to max.
struct ExactSumExp {
  double* count;
  double* high;
  double* low;
};

/// Whether results are left in the caches, or written past them, which spares reading what they
/// replace: for more of them than a cache holds.
enum class Store { cached, streamed };

/// What softmax writes: e^x (scale + rest) 2^-exponent, for 1/2 <= scale <= 1, as invert() has it.
struct Scaled {
  const double* exponent;
  const double* scale;
  const double* rest;
};

/// The loops of one instruction set for elements of one type. They accept any number of
/// items and terms, zero included, and any alignment. What an item gets does not depend on
/// the others.
template <class T>
struct SumExpLoops {
  /// Sums of exponentials in the precision of T.
  ///   Error:     relative, 5 2^-24 in float and 2^-51 in double, a fifth of that unless the terms
  ///              are made for the purpose
  ///   Operands:  denormals may count as zero
  void (*sum)(const Block<T>& block, SumExp sums);
  /// The same with the maxima, and an error of 2^-23 in float and 2^-53 in double; 2^-54 of fewer
  /// than eight doubles.
  void (*sum_and_max)(const Block<T>& block, SumExp sums);
  /// The same with the error of double, and the maxima.
  void (*sum_wide)(const Block<T>& block, SumExp sums);
  /// The maxima, and the sums of the terms beside them: of all but one that is the largest. So
  /// log(1 + sum) has all its digits, however small the sum. Where a term is +inf, the maximum is.
  /// The promise holds for |max| < max_limit, with the error of sum_and_max.
  void (*sum_beside_max)(const Block<T>& block, SumExp sums);
  /// log_sum = log(1 + (sum + rest) 2^exponent e^-max) from sums beside the maxima.
  ///   Error:  relative, beside that of the sums: 2^-36 in float and 2^-53 in double; sums below
  ///           2^-510 e^max in float and 2^-1021 e^max in double are 0
  void (*log_beside_max)(std::size_t items, SumExp sums, double* log_sum);
  /// Sums with the moments of z = scale * x, scale > 0.
  void (*sum_moments)(const Block<T>& block, T scale, SumExpMoments moments);
  /// max(x_j), unspecified for items with NaN; -inf without terms.
  void (*max)(const Block<T>& block, double* max);
  /// sum_j exp(x_j - max) from the maxima, which are finite.
  ///   Error:  2^-100 relative
  void (*sum_exactly)(const Block<T>& block, const double* max, ExactSumExp sums);
  /// y = e^x (scale + rest) 2^-exponent for the block that begins at y, with the steps of x.
  ///   Error:  1.6 ulp
  void (*softmax)(const Block<T>& block, Scaled scaled, T* y, Store store);
  /// y = softmax(x) for the rows of a block, which are adjacent and of bytes_at_once at most.
  /// made[i] is 1, or 0 where a row is not made for this and y is as it was.
  ///   Error:  1.6 ulp, and what sum_and_max errs by
  void (*softmax_at_once)(const Block<T>& block, T* y, Store store, double* made);
  /// y = (x - max) - log_sum.
  void (*log_softmax)(const Block<T>& block, const double* max, const double* log_sum, T* y,
                      Store store);
  /// y = log_softmax(x), likewise.
  ///   Error:  the logarithm of the sum has that of sum_and_max, relative
  void (*log_softmax_at_once)(const Block<T>& block, T* y, Store store, double* made);
};

/// Loops over what the sums give, whose type does not matter any more.
struct LogLoops {
  /// into += from; moments that are not set stay so.
  void (*add)(std::size_t items, SumExpMoments into, SumExpMoments from);
  /// The same for sums beside maxima, without moments.
  void (*add_beside_max)(std::size_t items, SumExpMoments into, SumExpMoments from);
  /// high + low = log((sum + rest) 2^exponent)
  ///   Error:  2^-54 + 2^-53 |result|
  void (*log)(std::size_t items, SumExp sums, double* high, double* low);
  /// inverse + rest = 2^exponent / (sum + rest), 1/2 <= inverse <= 1, for an exponent that is
  /// written in place of that of the sum.
  ///   Error:  2^-100
  void (*invert)(std::size_t items, SumExp sums, double* inverse, double* rest);
  /// With S, A and Q the sum, mean and sum of squares of an item: log_sum = log(S 2^exponent) and,
  /// in place of A and Q, the entropy log S - A / S and the sum of squared probabilities Q / S^2.
  ///   Error:  2^-53 (1 + |log_sum|), 2^-52 (1 + |A / S|) and, relative, 2^-51
  void (*stats)(std::size_t items, SumExpMoments moments, double* log_sum);
  /// high + low = log(count + high + low), in place.
  ///   Error:  2^-100 + 2^-102 |result|; where count = 1 and the sum is below 2^-30, 2^-84
  ///           relative to the result
  void (*log_exactly)(std::size_t items, ExactSumExp sums);
};

/// All loops of one instruction set.
struct AllSumExpLoops {
  SumExpLoops<float> f32;
  SumExpLoops<double> f64;
  LogLoops log;
};

/// The loops of `isa`, which this build must have.
const AllSumExpLoops& sum_exp_loops(Isa isa);

namespace scalar { extern const AllSumExpLoops sum_exp_loops; }
namespace neon { extern const AllSumExpLoops sum_exp_loops; }
namespace avx2 { extern const AllSumExpLoops sum_exp_loops; }
namespace avx512 { extern const AllSumExpLoops sum_exp_loops; }

}  // namespace logitkit
