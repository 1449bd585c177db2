// Tiles of a score matrix S = A B^T: the product under every op that reduces scores, unstored.
#pragma once

#include <cstddef>

#include "isa.h"

namespace logitkit {

/// The most rows of B in a tile. With a panel of 48 lanes the tile is 12 KiB, and it stays
/// in the first-level cache until a reducer has read it.
constexpr std::size_t tile_rows = 64;

/// The most rows of A in a panel, over all instruction sets.
constexpr std::size_t max_lanes = 48;

/// The loops that every instruction set writes for itself.
///
/// Lanes are rows of A. A panel of them is stored transposed, panel[k][lane], once; rows of
/// B are read where they lie, each element broadcast to all lanes; and what comes out is a
/// tile of S^T, tile[row][lane], in which reducing a row of S is a vertical operation. The
/// row stride of panel and tile is `lanes`; both are 64-byte aligned.
struct ScoreLoops {
  /// Rows of A in a panel.
  std::size_t lanes;

  /// panel[k][i] = a[i * stride + k] for i < rows and k < depth; 0 for rows <= i < lanes.
  void (*pack)(const float* a, std::size_t stride, std::size_t rows, std::size_t depth,
               float* panel);

  /// tile[j][i] = sum over k < depth of panel[k][i] * b[j][k * stride], for j < rows; added
  /// to what the tile holds if `accumulate`. The terms are added one by one in the order of
  /// k, so cutting the depth into several calls changes no bit, and the score of a pair
  /// depends on that pair alone.
  /// (Where there are parts, most scores come from another loop, with another order: parts.h.)
  ///   Error: |tile - exact| <= gamma * sum |panel * b| + depth * 2^-149,
  ///          gamma = depth * 2^-24 / (1 - depth * 2^-24)   (Higham 2002, section 3.1)
  void (*score)(const float* panel, const float* const* b, std::size_t stride, std::size_t rows,
                std::size_t depth, bool accumulate, float* tile);

  /// Multiply-adds on registers alone, as many in flight as in `score`: its physical limit.
  /// Returns how many were done (at least `count`).
  std::size_t (*multiply_add)(std::size_t count);
};

const ScoreLoops& score_loops(Isa isa);

namespace scalar { extern const ScoreLoops score_loops; }
namespace neon { extern const ScoreLoops score_loops; }
namespace avx2 { extern const ScoreLoops score_loops; }
namespace avx512 { extern const ScoreLoops score_loops; }

}  // namespace logitkit
