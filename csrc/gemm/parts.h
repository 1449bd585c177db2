// Scores as products of parts: what matrix units for bfloat16 can do for float32.
//
// A float is the sum of three bfloat16, and a product of two floats that of six products of their
// parts (see simd/bfloat16_avx512.h): as accurate as a multiply-add of float32, in less than half
// of its time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace logitkit {

/// Depths and row counts are rounded up to whole blocks of the matrix unit, with zeros.
constexpr std::size_t depth_block = 32, row_block = 16;

constexpr std::size_t whole_blocks(std::size_t n, std::size_t block) {
  return (n + block - 1) / block * block;
}

/// Rows that will be needed soon: `count` of them, and `columns` elements of each.
struct Ahead {
  const float* rows = nullptr;
  std::size_t stride = 0, count = 0, columns = 0;
};

/// The loops of a matrix unit. Panels and tiles are those of ScoreLoops with 48 lanes; arrays of
/// parts are 64-byte aligned.
///
/// A plain number is 0, or has a magnitude from `least` to 2^48, so that no sum of products
/// overflows, which parts of both signs would make NaN, and with `least` = 2^-48 none that counts
/// is lost in underflow. Other numbers spoil the scores of the lane or row where they stand, no
/// others.
struct PartLoops {
  /// Parts of a number: 3, or 1, which is the number rounded to nearest.
  std::size_t count;

  /// Elements of the parts of a panel, and of `rows` rows.
  std::size_t of_panel(std::size_t depth, std::size_t lanes) const {
    return count * whole_blocks(depth, depth_block) * lanes;
  }
  std::size_t of_rows(std::size_t rows, std::size_t depth) const {
    return count * whole_blocks(depth, depth_block) * whole_blocks(rows, row_block);
  }

  /// Come before and after score(), in each thread; they do not nest.
  void (*begin)();
  void (*end)();

  /// Splits panel[k * stride + lane] for k < depth and the lanes of `vectors` vectors of 16.
  /// Bit i of the result: lane i is not plain.
  std::uint64_t (*split_panel)(const float* panel, std::size_t stride, std::size_t depth,
                               std::size_t vectors, float least, std::uint16_t* parts);

  /// Splits `count` <= 64 rows of `depth` elements. Row j has its elements from 16 u on at
  /// rows + j * stride + units[u], where null units are u * 16. Bit j of the result: row j is not
  /// plain.
  std::uint64_t (*split_rows)(const float* rows, std::size_t stride, const std::size_t* units,
                              std::size_t count, std::size_t depth, float least,
                              std::uint16_t* parts);

  /// Splits the columns of a matrix as rows: row j has the element k at columns + k * stride + j,
  /// for j < count and k < depth. Returns whether all are plain.
  bool (*split_columns)(const float* columns, std::size_t stride, std::size_t count,
                        std::size_t depth, float least, std::uint16_t* parts);

  /// tile[j * stride + i] = sum over k < depth of panel[k][i] * rows[j][k], for j < count, rounded
  /// up to whole blocks, and the lanes of `vectors` vectors; added to what the tile holds if
  /// `accumulate`. Rows of `rows` have `row_depth` elements, of which the first `depth` are taken.
  /// Products are added block by block of the depth, in an order of which every pair has the same:
  /// a cut between blocks changes no bit, and the score of a pair depends on that pair alone.
  ///   Error: with plain numbers within gamma_n sum |panel * rows|, n = max(depth, 32), gamma_n =
  ///          n 2^-24 / (1 - n 2^-24): that of n multiply-adds, and less of many. Parts are
  ///          together up to 2^-6 larger than the number; a product of them is rounded at most 17
  ///          times on its way through its block and 6 times for each block from there on; what is
  ///          left out is 2 2^-24; and (17 + 6 ceil(depth / 32)) (1 + 2^-6) + 2 is n or less.
  ///          What a `least` below 2^-48 lets underflow is up to 2^-125 for each rounding, times
  ///          the largest number if that is above 1. With one part, 2^-7 (1 + 2^-8) of the product
  ///          of the lengths more: each number is off by up to 2^-8 of itself.
  /// Meanwhile what lies `ahead` is asked for.
  void (*score)(const std::uint16_t* panel, const std::uint16_t* rows, std::size_t row_depth,
                std::size_t count, std::size_t depth, std::size_t vectors, bool accumulate,
                float* tile, std::size_t stride, const Ahead& ahead);
};

/// The `least` with which underflow is below rounding.
constexpr float least_plain = 0x1p-48f;

/// Products of less depth are neither faster nor as accurate as those of floats.
constexpr std::size_t least_depth = depth_block;

struct AllPartLoops {
  PartLoops exact, rounded;
};

/// Null where the instruction set has no such unit. The loops for all parts, or for one.
const PartLoops* part_loops(Isa isa);
const PartLoops* rounded_part_loops(Isa isa);

namespace amx { extern const AllPartLoops part_loops; }

}  // namespace logitkit
