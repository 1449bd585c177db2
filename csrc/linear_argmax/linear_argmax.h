// Row maxima of a linear layer's scores. Specification: python/logitkit/reference/_linear_argmax.py
#pragma once

#include <cstddef>
#include <cstdint>

#include "gemm/stream.h"

namespace logitkit {

/// values[i] = max_j s[i, j] and indices[i] = the first j that attains it, where
/// s[i, j] = sum_k x[i, k] * weight[j, k] + bias[j]; a null bias is none.
///
/// weight.rows is from 1 to 2^31 - 1, and x and weight have the same number d of columns.
/// The outputs hold x.rows elements.
///   Error:    a score is the sum of d products, each added with one rounding or better, then
///             rounded once more by the bias: |s - exact| <= gamma_d * sum_k |x[i, k] * weight[j,
///             k]| + d * 2^-149
///             + ulp(s) / 2, with gamma_d = d 2^-24 / (1 - d 2^-24). The last term is absent
///             without a bias. values[i] is the largest such s, not the s of the exact argmax.
///   Specials: a NaN score wins, the first of them, as in numpy.argmax.
///   Bits:     s[i, j] depends on row i, row j and the instruction set alone.
///   Memory:   that of stream_scores, and 8 bytes for each row of x.
void linear_argmax(const Matrix& x, const Matrix& weight, const float* bias, float* values,
                   std::int64_t* indices, std::size_t threads, Isa isa);

/// The k largest scores of each row in descending order, values[i][r] and indices[i][r] for
/// r < k <= weight.rows; of equal scores the lowest index comes first, and NaN is above all.
/// Error, bits and limits as for linear_argmax; memory k * 16 bytes for each row of x.
void linear_topk(const Matrix& x, const Matrix& weight, const float* bias, std::size_t k,
                 float* values, std::int64_t* indices, std::size_t threads, Isa isa);

/// The loops that every instruction set writes for itself, over a tile[row][lane] with
/// ScoreLoops::lanes lanes, 64-byte aligned like every array of a panel. Row r of the tile
/// has the scores tile[r][lane] + bias[r].
struct ArgmaxLoops {
  /// Where a score exceeds best[lane], replaces it, and index[lane] by first_row + r.
  /// Returns whether any score is NaN; those change nothing.
  bool (*raise)(const float* tile, std::size_t rows, const float* bias, std::int32_t first_row,
                float* best, std::int32_t* index);
  /// Bit `lane` of above[r] says that the score is not <= threshold[lane]; true for NaN on
  /// either side.
  void (*compare)(const float* tile, std::size_t rows, const float* bias, const float* threshold,
                  std::uint64_t* above);
};

const ArgmaxLoops& argmax_loops(Isa isa);

/// The bias of a tile in a layer without any: tile_rows times -0, as s + -0 is s bit by bit.
const float* no_bias();

namespace scalar { extern const ArgmaxLoops argmax_loops; }
namespace neon { extern const ArgmaxLoops argmax_loops; }
namespace avx2 { extern const ArgmaxLoops argmax_loops; }
namespace avx512 { extern const ArgmaxLoops argmax_loops; }

}  // namespace logitkit
