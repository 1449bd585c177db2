// Which classes are their own witness: the n x n product behind the class check, pruned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gemm/stream.h"

namespace logitkit {

/// Coordinates between two bounds on the rest of a product.
constexpr std::size_t witness_step = 32;

/// How many times a row's tail is given: before every step, and after the last.
constexpr std::size_t witness_tails(std::size_t columns) {
  return (columns + witness_step - 1) / witness_step + 1;
}

/// Prepares self_witness. With z[j, k:] the coordinates of a row from k on,
///   tails[s][j] >= sqrt(|z[j, k:]|^2 + e |z[j]|^2)   for k = s * witness_step (or the end),
///   squares[j]  <= |z[j]|^2,
/// where e = error * (1 + 2^-20) + 2^-21 makes room for the roundings in self_witness; tails
/// is witness_tails(columns) x rows. Sums are float64, rounded outward into float32.
///
/// Returns the first row that has a NaN or whose square exceeds 2^125, or z.rows if none.
std::size_t prepare_self_witness(const Matrix& z, double error, float* tails, float* squares,
                                 std::size_t threads);

/// For rows i in [begin, end), lowers slack[i] and slack[j] for all j by what the pairs (i, j)
/// say, j from the first row on that shares a tile with i. After calls that cover all rows
/// (slack starts at +inf), for every i
///   slack[i] > 0  implies  slack[i] <= |z_i|^2 - z_i . z_j - error |z_i| |z_j| + gamma |z_i| |z_j|
///                          for all j != i, where gamma bounds a float32 product of two rows;
///   slack[i] = 0  says that this could not be shown for some j.
/// So if error >= gamma + delta, a positive slack bounds the margin of class i from below even
/// when every product is off by delta |z_i| |z_j|. Slack is a bound, not the margin: a pair is
/// dropped as soon as it is seen to be harmless.
///
/// A pair is decided by its partial product and Cauchy and Schwarz on the rest:
///   z_i . z_j + error |z_i| |z_j| <= p_k + tails_k[i] tails_k[j],
/// and is harmless to both rows once that is below squares of both. A failed row i (slack 0)
/// must still be harmless to j; it is, unseen, to rows that are clearly longer. Rows may stand
/// in any order; the work is least when their norms ascend (only then can a bound that settles
/// i settle j as well) and when most of their length is in the first columns.
///
///   Bits:    slack depends on z, error, the ranges and their order, not on `threads`.
///   Returns: the multiply-adds that were done.
std::uint64_t self_witness(const Matrix& z, const float* tails, const float* squares,
                           std::size_t begin, std::size_t end, float* slack, std::size_t threads,
                           Isa isa);

/// The loop that every instruction set writes for itself.
struct WitnessLoops {
  /// A pair's bound is tile[r][i] + lane_tails[i] * row_tails[r], in one rounding. Writes to
  /// survivors the rows of the tile, ascending, that have a bound which is not below
  /// limits[i], and returns their number; the others' bounds raise worst[i].
  std::size_t (*prune)(const float* tile, std::size_t rows, const float* lane_tails,
                       const float* row_tails, const float* limits, float* worst,
                       std::uint32_t* survivors);
};

namespace scalar { extern const WitnessLoops witness_loops; }
namespace neon { extern const WitnessLoops witness_loops; }
namespace avx2 { extern const WitnessLoops witness_loops; }
namespace avx512 { extern const WitnessLoops witness_loops; }

}  // namespace logitkit
