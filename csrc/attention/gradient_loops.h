// The products of the gradient of attention in tile registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/loops.h"

namespace logitkit {

/// Products of floats, each the sum of three parts in bfloat16 (see simd/amx.h), for panels and
/// tiles as those of AttentionLoops<float> for vectors of 16. One operand is packed as blocks of
/// rows, the other as pairs, one vector of columns at a time. Both are cut along what is summed
/// over into steps of 32, in which a pair is the elements k and k + 16; and both lie in the order
/// in which they are read: for each step and part a kilobyte for 16 rows, of four blocks side by
/// side, or for 16 pairs of a vector. What a step or block lacks is 0.
struct GradientLoops {
  static constexpr std::size_t step = 32;
  /// Elements of one step, all parts: four blocks of rows, and one vector of pairs.
  static constexpr std::size_t rows_of_step = 3 * 4 * 16 * 32, pairs_of_step = 3 * 16 * 16;
  /// The vectors of two panels, in pairs.
  static constexpr std::size_t most_lane_pairs = 3;

  /// Two vectors of lanes of one tile or of two, and the keys that they see. All pointers are to
  /// the first lane of key 0, and null where there is no vector.
  struct LanePair {
    const float *weights[2], *gradients[2];
    std::size_t begin[2], end[2];
  };

  /// Come before and after all others, in each thread.
  void (*begin)();
  void (*end)();

  /// The largest magnitude; infinity or NaN if it is not finite.
  float (*largest)(const float* const* rows, std::size_t count, std::size_t depth);

  /// Rows of keys, as blocks of keys with steps of dimensions, and as blocks of dimensions with
  /// steps of keys: two steps for each 64 dimensions.
  void (*pack_rows)(const float* const* rows, std::size_t count, std::size_t depth,
                    std::uint16_t* to);
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

  /// Packs the weights and gradients of two vectors of lanes: as one step of lanes, with blocks of
  /// keys, and the gradients also as pairs for each vector, with steps of keys. Writes what steps
  /// of keys have to do with those seen, and returns the largest magnitude.
  float (*split)(const LanePair& lanes, std::uint16_t* weights, std::uint16_t* gradients,
                 std::uint32_t* const* pairs);

  /// out[d][i] += sum over keys from `begin` to `end` of keys[j][d] * gradients[j][i] for one
  /// vector of lanes, for d < depth, rounded up to 16.
  void (*weigh)(const std::uint16_t* columns, const std::uint32_t* gradients, std::size_t depth,
                std::size_t begin, std::size_t end, float* out);

  /// out[j][d] += sum over `steps` pairs of vectors of lanes of weights[j][i] * rows[i][d], for
  /// d < depth, a multiple of 16 and the row stride of out. Of the step s it is for the blocks of
  /// keys whose bit in blocks[s] is set.
  void (*spread)(const std::uint16_t* weights, const unsigned* blocks, std::size_t steps,
                 const std::uint32_t* rows, std::size_t depth, float* out);
};

/// Null where the instruction set has no such products.
const GradientLoops* gradient_loops(Isa isa);

namespace amx { extern const GradientLoops gradient_loops; }

}  // namespace logitkit
