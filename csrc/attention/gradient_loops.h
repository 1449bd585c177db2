// The products of the gradient of attention in tile registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/loops.h"

namespace logitkit {

/// Products of floats, each the sum of three parts in bfloat16 (see simd/bfloat16_avx512.h), for
/// panels and tiles as those of AttentionLoops<float> for vectors of 16. One operand is packed as
/// blocks of rows, the other as pairs, one vector of columns at a time. Both are cut along what is
/// summed over into steps of 32, in which a pair is the elements k and k + 16; and both lie in the
/// order in which they are read: for each step and part a kilobyte for 16 rows, of four blocks side
/// by side, or for 16 pairs of a vector. What a step or block lacks is 0.
struct GradientLoops {
  static constexpr std::size_t step = 32;
  /// Elements of one step, all parts: four blocks of rows, and one vector of pairs.
  static constexpr std::size_t rows_of_step = 3 * 4 * 16 * 32, pairs_of_step = 3 * 16 * 16;
  /// The vectors of two panels, in pairs.
  static constexpr std::size_t most_lane_pairs = 3;

  /// What add() packs weights and gradients of a tile in.
  static constexpr std::size_t space = 2 * most_lane_pairs * (rows_of_step + 2 * 2 * pairs_of_step);

  /// One vector of lanes, and the keys that it sees. `logits`, `products` with values, and `sums`,
  /// the gradient of its queries, have the stride of tiles and panels; the others are those of
  /// AttentionLoops::grade().
  struct Lanes {
    const float *logits, *products, *logsumexp, *terms, *slopes;
    std::size_t begin, end;
    float* sums;
  };

  /// A tile of keys, and the vectors of lanes that go over it together, in pairs.
  struct Tile {
    std::size_t head_dim, value_dim;
    const std::uint16_t* columns;                 // of the keys
    const std::uint32_t *query_rows, *grad_rows;  // by pack_lanes()
    Lanes lanes[2 * most_lane_pairs];
    bool is_graded;                  // whether logits and products are weights and gradients by now
    std::uint16_t* space;            // for its weights and gradients
    float *grad_keys, *grad_values;  // in rows of whole vectors
    unsigned blocks[most_lane_pairs];  // of 16 keys with weights and gradients, one bit for each
  };

  /// Come before and after all others, in each thread.
  void (*begin)();
  void (*end)();

  /// The largest magnitude; infinity or NaN if it is not finite.
  float (*largest)(const float* const* rows, std::size_t count, std::size_t depth);

  /// Rows of keys or values as blocks, with steps of dimensions. Returns the largest magnitude.
  float (*pack_rows)(const float* const* rows, std::size_t count, std::size_t depth,
                     std::uint16_t* to);

  /// Columns of keys as blocks, with steps of keys: two steps for each 64 dimensions.
  void (*pack_columns)(const float* const* rows, std::size_t count, std::size_t depth,
                       std::uint16_t* to);

  /// One vector of a panel as pairs, with steps of dimensions. Returns the largest magnitude.
  float (*pack_panel)(const float* panel, std::size_t depth, std::uint32_t* pairs);

  /// The rows of two vectors of lanes, 16 rows of `depth` each or null, as the pairs of one step,
  /// for each vector of dimensions: these are most_lane_pairs steps apart.
  void (*pack_lanes)(const float* first, const float* second, std::size_t depth,
                     std::uint32_t* pairs);

  /// AttentionLoops::score() for one vector of lanes and the keys from `begin` to `end`, rounded to
  /// blocks of 16.
  void (*score)(const std::uint16_t* keys, const std::uint32_t* queries, std::size_t depth,
                std::size_t begin, std::size_t end, float* tile);

  /// Adds what the weights and gradients of the tile `made` give to the gradients of queries, keys
  /// and values, and makes those of the tile `next`, but not for pairs of vectors of lanes with a
  /// gradient that is not `most` at most: these are the bits of the result. Both at once, for tile
  /// registers multiply while vectors make.
  unsigned (*add)(const Tile& made, Tile& next, float most);
};

/// Null where the instruction set has no such products.
const GradientLoops* gradient_loops(Isa isa);

namespace amx { extern const GradientLoops gradient_loops; }

}  // namespace logitkit
