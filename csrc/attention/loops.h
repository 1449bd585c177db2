// The loops over a tile of scores that every instruction set supplies for attention.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace logitkit {

/// The keys of a tile at most. With 48 lanes it is 12 KiB of float32, and stays in the
/// first-level cache between the loops.
constexpr std::size_t tile_keys = 64;

/// Rows of keys and values are listed for so many more than there are, all of which may be read.
/// While some are at work, those to come are asked for: keys and values so many rows ahead. Found
/// by measuring 64 and 128 dimensions.
constexpr std::size_t rows_ahead = 24, keys_ahead = 8, values_ahead = 20;

/// The vectors of a panel of queries.
constexpr std::size_t panel_vectors = 3;

/// The lanes of a panel of queries at most, over all instruction sets and types.
constexpr std::size_t max_queries = 48;

/// Queries are few if they fit one vector and a half. Where those of a vector fit it `share` times,
/// that many dimensions of each, a power of two, lie side by side in its lanes.
constexpr std::size_t most_few(std::size_t width) { return width + width / 2; }
constexpr std::size_t share_of_few(std::size_t queries, std::size_t width) {
  std::size_t share = width;
  while (queries * share > width) share /= 2;
  return share;
}

/// Lanes are queries. A panel of them lies transposed, panel[d][lane]; keys and values are read
/// where they lie, each element broadcast to all lanes; and the scores of a tile are
/// tile[key][lane], in units of ln 2, so that everything a row needs is a vertical operation.
/// The row stride of panels and tiles is `lanes` = panel_vectors * width; they are 64-byte
/// aligned. Loops work on `vectors` vectors of lanes from the vector `first` on.
template <class T>
struct AttentionLoops {
  std::size_t width;  // of a vector

  /// panel[d][i] = rows[i][d] * factors[i] for i < count and d < depth; 0 in the remaining
  /// lanes of the last vector that is begun.
  void (*pack)(const T* const* rows, const T* factors, std::size_t count, std::size_t depth,
               T* panel);

  /// tile[j][i] = sum over d < depth of panel[d][i] * keys[j][d], in the order of d.
  void (*score)(const T* panel, const T* const* keys, std::size_t count, std::size_t depth,
                std::size_t first, std::size_t vectors, T* tile);

  /// tile = cap * tanh(tile).
  void (*cap)(T* tile, std::size_t count, T cap);

  /// tile[j][i] -= slopes[i] * |positions[i] - j|.
  void (*slope)(T* tile, std::size_t count, const T* slopes, const T* positions);

  /// tile += factor * term, but -inf where the term is.
  void (*add)(T* tile, std::size_t count, const T* terms, T factor);

  /// tile[j][i] = -inf unless begins[i] <= j < ends[i].
  void (*hide)(T* tile, std::size_t count, const T* begins, const T* ends);

  /// The running softmax of one vector of lanes (all pointers are to its first lane). With
  /// m' = max(m, tile) and a = 2^(m - m'): tile = 2^(tile - m'), sum = a sum + sum of the tile
  /// and factor = a. Where `mean` is not null it is kept at sum of 2^(z - m') (z - m'). Powers are
  /// within 1.5 ulp, exactly 1 at 0, and below the smallest normal number something that is 0 where
  /// denormal numbers are flushed.
  void (*soften)(T* tile, std::size_t count, T* max, T* sum, T* mean, T* factor);

  /// out[d][i] = out[d][i] * factor[i] + sum over keys of values[j][d] * tile[j][i], d < depth.
  void (*weigh)(const T* tile, const T* const* values, std::size_t count, std::size_t depth,
                std::size_t first, std::size_t vectors, const T* factor, T* out);

  /// rows[i][d] = panel[d][i] * factors[i] for i < count and d < depth: the way back of pack().
  void (*unpack)(const T* panel, const T* factors, std::size_t count, std::size_t depth,
                 T* const* rows);

  /// score() for the `rows` queries of a vector of few, queries[step][i * share + k] for the
  /// dimension step * share + k of query i, or 0. Row j of the tile begins at j * tile_stride, and
  /// has width / share elements.
  void (*score_few)(const T* queries, std::size_t rows, const T* const* keys, std::size_t count,
                    std::size_t depth, T* tile, std::size_t tile_stride);
  /// soften() for such a tile whose stride is width / share, and whole vectors.
  void (*soften_few)(T* tile, std::size_t rows, std::size_t count, T* max, T* sum, T* mean,
                     T* factor);
  /// weigh() for such a tile; lanes are dimensions: row i of `out` begins at i * stride, and is
  /// that of lane i < `rows` of the tile and of `factor`.
  void (*weigh_few)(const T* tile, std::size_t tile_stride, std::size_t rows,
                    const T* const* values, std::size_t count, std::size_t depth, const T* factor,
                    T* out, std::size_t stride);

  /// The gradient of one vector of lanes of logits (all pointers are to its first lane): with
  /// t = tile - logsumexp, tile = 2^t and gradients = tile (gradients + terms - slopes t), 0 where
  /// the tile is. A null `slopes` is 0.
  void (*grade)(T* tile, T* gradients, std::size_t count, const T* logsumexp, const T* terms,
                const T* slopes);

  /// gradients *= 1 - (capped / cap)^2, the derivative of cap().
  void (*uncap)(T* gradients, const T* capped, std::size_t count, T cap);

  /// out[j][d] += sum over the lanes i from `first` to `end` of tile[j][i] * rows[i][d], for
  /// j < count and d < depth, a multiple of `width` and the row stride of rows and out.
  void (*spread)(const T* tile, const T* rows, std::size_t count, std::size_t depth,
                 std::size_t first, std::size_t end, T* out);

  /// Whether all elements of the rows are finite.
  bool (*finite)(const T* const* rows, std::size_t count, std::size_t depth);

  /// Whether an element of the tile is not -inf.
  bool (*any_visible)(const T* tile, std::size_t count, std::size_t vectors);
};

struct AllAttentionLoops {
  AttentionLoops<float> float32;
  AttentionLoops<double> float64;
  /// n numbers from and to float16.
  void (*widen_float16)(const std::uint16_t* from, std::size_t n, float* to);
  void (*narrow_float16)(const float* from, std::size_t n, std::uint16_t* to);
};

/// What a panel knows of the keys that it has seen, each [lane]: the largest logit, what is
/// subtracted of logits, and two sums (see AttentionLoops::soften(); the second may be null).
struct RunningSoftmax {
  float *top, *max, *sum, *mean;
};

/// A panel for PackedLoops::attend(): its queries, what their scores are multiplied by, positive or
/// null for 1, and sums of values.
struct PackedPanel {
  const std::uint32_t* queries;
  std::size_t depth;
  const float* factors;
  RunningSoftmax softmax;
  float* out;
  std::size_t value_depth;
};

/// A step of PackedLoops::attend(): a vector of lanes, and the keys of a packed tile from `begin`
/// to `end`, in multiples of packed_step, that it sees. Null keys are scored: the tile was made.
/// Lane i sees those from begins[i] to ends[i], and where these are null all of them.
struct PackedStep {
  const std::uint16_t *keys, *values;
  std::size_t vector, begin, end;
  const float *begins, *ends;
};
constexpr std::size_t packed_step = 32;

/// Sums of values over some steps, values[vector][d][lane] with a depth that is rounded up to 16.
/// Those before the steps are to be multiplied by `totals`. There is nothing of vectors that were
/// not begun.
struct PackedSums {
  float* values;
  alignas(64) float totals[max_queries];
  bool begun[panel_vectors] = {};
};

/// What PackedLoops::attend() works in: scores, weights, and sums.
struct PackedSpace {
  float* tile;
  std::uint32_t* weights;
  PackedSums* sums;
};

/// Products of whole blocks, of a matrix unit or of dot products, for bfloat16, whose sums are
/// floats; of other elements as sums of `parts` of bfloat16. Panels and tiles are those of
/// AttentionLoops<float> for vectors of 16, but one operand of a product is packed as blocks of 16
/// rows, the other as pairs for one vector of columns; both lie in the order in which they are read
/// (see simd/bfloat16_avx512.h), in steps of 32 of what is summed over, in which each pair is any
/// two, the same ones on both sides. Rows are of the elements. Denormal numbers are to be flushed.
struct PackedLoops {
  std::size_t parts;

  /// Up to so many queries that share their keys, packing these takes longer than is gained. With
  /// several parts also for more, depending on the dimensions.
  std::size_t most_few;

  /// Come before and after all others, in each thread.
  void (*begin)();
  void (*end)();

  /// pairs[vector][step of dimensions][part][16][lane], 0 beyond `count` and `depth`. Returns the
  /// lanes that are not to be used, one bit for each: parts do not hold their numbers.
  std::uint64_t (*pack_queries)(const void* const* rows, std::size_t count, std::size_t depth,
                                std::uint32_t* pairs);

  /// keys[step of dimensions][part][block][key][32], 0 beyond `depth` and up to whole blocks of
  /// keys, of which there is room for tile_keys. Returns whether they are to be used.
  bool (*pack_keys)(const void* const* rows, std::size_t count, std::size_t depth,
                    std::uint16_t* keys);

  /// values[64 dimensions][step of keys][part][block][dimension][32], 0 beyond `count` and up to
  /// whole blocks of dimensions. Returns whether they are to be used.
  bool (*pack_values)(const void* const* rows, std::size_t count, std::size_t depth,
                      std::uint16_t* values);

  /// tile[j][i] = factors[i] * sum over d of queries[i][d] * keys[j][d] for begin <= j < end, and
  /// anything in the rows around that make blocks of 16. Null factors are 1.
  void (*score)(const std::uint32_t* queries, const std::uint16_t* keys, std::size_t begin,
                std::size_t end, std::size_t depth, std::size_t first, std::size_t vectors,
                const float* factors, float* tile);

  /// What AttentionLoops do with scores, soften() and weigh(), in `count` steps one after another,
  /// of scores that it makes or finds, but for add_sums(). Weights of one part are rounded to
  /// bfloat16, of two to 16 digits; their sum is of what was not rounded, powers within 2.4 2^-24.
  /// `max` is at most 8 less than `top` for one part and 2 for more: it does not move more often
  /// than that.
  void (*attend)(const PackedPanel& panel, const PackedStep* steps, std::size_t count,
                 const PackedSpace& space);

  /// Adds the sums to those of the panel, and begins anew.
  void (*add_sums)(const PackedPanel& panel, PackedSums& sums);

  /// n numbers to bfloat16, to nearest, ties to even; null for other elements.
  void (*narrow)(const float* from, std::size_t n, std::uint16_t* to);
};

struct AllPackedLoops {
  PackedLoops bfloat16, float16, float32;
};

const AllAttentionLoops& attention_loops(Isa isa);

/// Null where the instruction set has no matrix unit, or no dot products.
const AllPackedLoops* packed_loops(Isa isa);
const PackedLoops* packed_bfloat16_loops(Isa isa);

template <class T>
const AttentionLoops<T>& attention_loops_for(Isa isa);

namespace scalar { extern const AllAttentionLoops attention_loops; }
namespace neon { extern const AllAttentionLoops attention_loops; }
namespace avx2 { extern const AllAttentionLoops attention_loops; }
namespace avx512 { extern const AllAttentionLoops attention_loops; }
namespace avx512_bf16 { extern const PackedLoops packed_loops; }
namespace amx { extern const AllPackedLoops packed_loops; }

}  // namespace logitkit
