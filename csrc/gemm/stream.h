// Streams S = A B^T past a reducer, a tile at a time.
#pragma once

#include <cstddef>
#include <functional>

#include "gemm/score.h"

namespace logitkit {

/// A dense row-major float32 matrix that somebody else owns.
struct Matrix {
  const float* data;
  std::size_t rows, columns;
};

/// The scores of rows [first_row, first_row + rows) of B for one panel of rows of A.
struct Tile {
  const float* scores;  // scores[row][lane]
  std::size_t first_row, rows;
};

/// Computes S = A B^T in tiles and hands each to reduce(panel, tile), where panel p holds the
/// rows p * lanes ... (see ScoreLoops) of A (the last panel is filled up with rows of zeros). A
/// panel meets its tiles in ascending order of first_row, on one thread; different panels on
/// different ones. A score depends on its two rows and the instruction set, not on how A is cut
/// into panels, nor on `threads`; its error is that of ScoreLoops::score(), where parts are
/// multiplied (see parts.h) too.
///   Traffic: one read of A; one of B for each group of up to 8 panels, as many as fit 1 MiB
///            with a tile's rows of B, which the group reads from the second-level cache.
///   Memory:  1 MiB, or one panel if that is larger, for each thread; with parts 1 MiB more than
///            6 bytes for each element of a group, which has up to 16 panels beyond 1024 columns.
void stream_scores(const Matrix& a, const Matrix& b, Isa isa, std::size_t threads,
                   const std::function<void(std::size_t panel, const Tile& tile)>& reduce);

}  // namespace logitkit
