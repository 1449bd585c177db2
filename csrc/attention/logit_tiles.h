// Tiles of the logits of attention: what its passes forward and backward have in common.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "attention/attention.h"
#include "attention/half.h"
#include "attention/input_rows.h"
#include "attention/loops.h"
#include "attention/panel.h"
#include "attention/tile_terms.h"
#include "attention/workspace.h"

namespace logitkit {

// Tiles of keys and values that are packed at a time, for several panels: 128 KiB for 64
// dimensions, in the second-level cache.
constexpr std::size_t packed_tiles = 8;

// With several parts they are for so many queries that share their keys and so many dimensions:
// packing, or what dimensions are rounded up to, takes longer than is gained otherwise.
constexpr std::size_t least_packed_queries = 128, least_packed_dim = 32;

// Keys of so long sequences are asked for by wide panels; others tend to come fast enough alone.
constexpr std::size_t least_keys_to_ask_for = 4096;

constexpr double ln_2 = 0.693147180559945309417232121458;
constexpr double log2_e = 1.44269504088896340735992468100;

/// Consecutive panels of one sequence and key head.
struct PanelTask {
  std::size_t sequence, key_head, first_panel, panels;
};

struct Segments {
  Segment data[2 * panel_vectors];
  std::size_t count;
};

template <class T>
class LogitTiles : public InputRows<T> {
  using Input = InputRows<T>;

 public:
  using Input::bytes_to, Input::row_of, Input::load_rows, Input::for_each_run, Input::prefetch_row;
  using Input::in, Input::all_loops, Input::is_half;

  /// The queries of a panel.
  struct Panel : PanelLanes {
    PanelBand band;
    bool few;          // whether they are: it is the only panel of its queries then
    T* queries;        // [dim][lane], or as score_few() expects those of few
    bool has_queries;  // whether `queries` are made: those of a packed panel are if needed
    // Of PackedLoops, and what scores are multiplied by.
    bool packed;  // whether they are used
    std::uint32_t* pairs;
    float* pair_factors;
    std::uint64_t odd_lanes;  // whose scores are made of `queries`: their factors are 1
    bool scales_late;         // whether these factors are positive and come after all but the band
  };

  /// A tile of keys and values for PackedLoops, and whether these may use them.
  struct PackedTile {
    bool loaded = false, plain_keys = false, plain_values = false;
    std::uint16_t *keys, *values;
    const void *key_rows[tile_keys], *value_rows[tile_keys];
  };

  /// What a thread needs to make a tile.
  struct Space {
    Space(const LogitTiles& tiles, Arena<T>& arena)
        : tile(arena.take(tile_keys * tiles.lanes)),
          terms(tiles.terms_, arena),
          keys(arena.take(tiles.is_half ? tile_keys * tiles.in.head_dim : 0)),
          values(arena.take(tiles.is_half ? tile_keys * tiles.in.value_dim : 0)),
          rows(arena.take(tiles.lanes *
                          std::max({tiles.in.head_dim, tiles.in.value_dim, tile_keys}))),
          zeros(arena.take(std::max(tiles.in.head_dim, tiles.in.value_dim))),
          begins(arena.take(tiles.lanes)),
          ends(arena.take(tiles.lanes)),
          slopes(arena.take(tiles.lanes)),
          positions(arena.take(tiles.lanes)),
          factors(arena.take(tiles.lanes)),
          packed_keys(tiles.packed_size(tiles.in.head_dim) * packed_tiles),
          packed_values(tiles.packed_value_size() * packed_tiles),
          weights(tiles.parts() * tile_keys / 2 * tiles.lanes),
          sums(tiles.packed_loops != nullptr ? tiles.panel_size(tiles.in.value_dim) : 0),
          packed_sums{sums.data(), {}} {
      std::fill_n(zeros, std::max(tiles.in.head_dim, tiles.in.value_dim), T{0});
    }
    T* tile;  // [key][lane]
    typename TileTerms<T>::Space terms;
    T *keys, *values;  // of half types, as floats
    T* rows;           // of queries or results
    T* zeros;
    T *begins, *ends, *slopes, *positions, *factors;
    T* capped = nullptr;  // if not null: where a copy of the capped scores goes
    const T *key_rows[tile_keys + rows_ahead], *value_rows[tile_keys + rows_ahead];
    bool asks = false;  // whether these rows are yet to be asked for, by the first panel
    // Of PackedLoops: the last tiles, which one it is, its weights and sums of values.
    Aligned<std::uint16_t> packed_keys, packed_values;
    Aligned<std::uint32_t> weights;
    Aligned<float> sums;
    PackedSums packed_sums;
    PackedTile packed[packed_tiles];
    PackedTile* now_packed = nullptr;
    bool loaded = false;                       // whether these rows are those of the tile
    bool checked = false, all_finite = false;  // of the rows that were loaded last
  };

  /// `forward` says that panels of few queries are computed with dimensions as lanes, and many by
  /// PackedLoops, if there are.
  LogitTiles(const AttentionInput<T>& input, bool forward, Isa isa)
      : Input(input, isa),
        loops(attention_loops_for<T>(isa)),
        lanes(panel_vectors * loops.width),
        group_heads(input.heads / input.key_heads),
        packed_loops(forward ? packed_loops_for(input, isa) : nullptr),
        most_few_(!forward      ? 0
                  : packs_any() ? packed_loops->most_few
                                : most_few(loops.width)),
        terms_(input, loops) {
    for (const Sequence& sequence : in.sequences)
      panels.push_back(cut_into_panels(sequence.queries, group_heads, loops.width));
  }

  const AttentionLoops<T>& loops;
  const std::size_t lanes, group_heads;
  const PackedLoops* const packed_loops;  // null if not used
  /// Of each sequence, for any of its key heads.
  std::vector<std::vector<PanelRows>> panels;

  // Packs the queries of a panel.
  void start(const Sequence& s, std::size_t key_head, const PanelRows& panel_rows, Panel& panel,
             Space& w) const {
    KeyRange ranges[max_queries];
    std::size_t head = key_head * group_heads + panel_rows.first / s.queries;
    std::size_t query = panel_rows.first % s.queries;
    panel.count = panel_rows.count;
    panel.few = panel.count <= most_few_ && panel.count == s.queries * group_heads;
    panel.packed = packed_loops != nullptr && !panel.few && are_many(s);
    panel.has_queries = false;
    for (std::size_t i = 0; i < panel.count; ++i) {
      panel.heads[i] = head;
      panel.queries_at[i] = query;
      ranges[i] = keys_of(s, in.left, in.right, query);
      if (++query == s.queries) {
        query = 0;
        ++head;
      }
    }
    panel.band = PanelBand(ranges, panel.count, loops.width);
    if (panel.packed)
      pack_queries(s, panel);
    else
      make_queries(s, panel, w);
  }

  /// Puts the keys and values of a tile where loops expect those of such a panel, if they are not
  /// there: of packed tiles the last ones are remembered until forget_keys().
  void load_keys(const Sequence& s, const Panel& panel, std::size_t key_head, std::size_t first,
                 std::size_t count, Space& w) const {
    if (panel.packed) return load_packed(s, key_head, first, count, w);
    if (w.loaded) return;
    w.loaded = true;
    w.checked = false;
    w.asks = !is_half && s.keys >= least_keys_to_ask_for;
    Input::load_tile(in.key, s, key_head, first, count, in.head_dim, w.key_rows, w.keys);
    Input::load_tile(in.value, s, key_head, first, count, in.value_dim, w.value_rows, w.values);
  }

  /// The keys of a step: what load_keys() remembers is forgotten between them.
  std::size_t step_keys(const Panel& panel) const {
    return panel.packed ? packed_tiles * tile_keys : tile_keys;
  }
  static void forget_keys(Space& w) {
    w.loaded = false;
    for (PackedTile& tile : w.packed) tile.loaded = false;
  }

  void load_packed(const Sequence& s, std::size_t key_head, std::size_t first, std::size_t count,
                   Space& w) const {
    const std::size_t slot = first / tile_keys % packed_tiles;
    PackedTile& tile = w.packed[slot];
    w.now_packed = &tile;
    if (tile.loaded) return;
    tile.loaded = true;
    tile.keys = w.packed_keys.data() + slot * packed_size(in.head_dim);
    tile.values = w.packed_values.data() + slot * packed_value_size();
    for_each_run(s, first, count,
                 [&](std::size_t batch, std::size_t row, std::size_t j, std::size_t run) {
                   for (std::size_t k = 0; k < run; ++k) {
                     tile.key_rows[j + k] = row_of(in.key, batch, key_head, row + k);
                     tile.value_rows[j + k] = row_of(in.value, batch, key_head, row + k);
                   }
                 });
    tile.plain_keys = packed_loops->pack_keys(tile.key_rows, count, in.head_dim, tile.keys);
    tile.plain_values =
        packed_loops->pack_values(tile.value_rows, count, in.value_dim, tile.values);
  }

  /// Makes what masks and terms add to a tile; false if they hide all of it.
  bool load_terms(const Sequence& s, const Panel& panel, std::int64_t first, std::size_t count,
                  Space& w) const {
    return terms_.load(s, panel, first, count, w.terms);
  }

  /// The logits of a tile, in units of ln 2, where `segments` says that they are visible; not yet
  /// times late_factors().
  void make_tile(const Sequence& s, Panel& panel, std::int64_t first, std::size_t count,
                 const Segments& segments, Space& w) const {
    if (panel.packed && (panel.odd_lanes != 0 || !w.now_packed->plain_keys)) {
      if (!panel.has_queries) make_queries(s, panel, w);
      load_rows(w.now_packed->key_rows, count, in.head_dim, w.key_rows, w.keys);
    }
    for (std::size_t k = 0; k < segments.count; ++k) {
      const Segment& g = segments.data[k];
      if (panel.packed && w.now_packed->plain_keys)
        score_packed(panel, g, w);
      else if (panel.few)
        score_few(panel, g, few_stride(panel, w), w);
      else
        score(panel, g, w);
    }
    w.asks = false;
    change_scores(s, panel, first, count, w);
  }

  /// The row stride of a tile of few, and whether it is that of soften_few(): nothing else is done
  /// to such a tile.
  std::size_t few_stride(const Panel& panel, const Space& w) const {
    return is_dense(panel, w) ? loops.width / share_of_few(panel.count, loops.width) : lanes;
  }
  bool is_dense(const Panel& panel, const Space& w) const {
    return panel.few && 2 * panel.count <= loops.width && in.softcap == 0 && in.slopes == nullptr &&
           !hides(panel, w);
  }

  /// Cap, slope, terms and band of a tile.
  void change_scores(const Sequence& s, const Panel& panel, std::int64_t first, std::size_t count,
                     Space& w) const {
    if (in.softcap > 0) {
      loops.cap(w.tile, count, static_cast<T>(double{in.softcap} * log2_e));
      if (w.capped != nullptr) std::copy_n(w.tile, count * lanes, w.capped);
    }
    if (in.slopes != nullptr) {
      for (std::size_t i = 0; i < lanes; ++i) {
        const std::size_t lane = std::min(i, panel.count - 1);
        const auto position = static_cast<std::int64_t>(panel.queries_at[lane]) + s.offset;
        w.slopes[i] = static_cast<T>(double{in.slopes[panel.heads[lane]]} * log2_e);
        w.positions[i] = static_cast<T>(position - first);
      }
      loops.slope(w.tile, count, w.slopes, w.positions);
    }
    if (w.terms.any) loops.add(w.tile, count, w.terms.sum, static_cast<T>(log2_e));
    if (panel.band.partial()) {
      panel.band.relative(first, count, w.begins, w.ends);
      loops.hide(w.tile, count, w.begins, w.ends);
    }
  }

  /// Cuts a tile to what a panel sees of it.
  Segments cut(Panel& panel, std::int64_t first, std::size_t count) const {
    Segments segments;
    segments.count = panel.packed ? panel.band.columns(first, count, segments.data)
                                  : panel.band.segments(first, count, segments.data);
    return segments;
  }

  /// Whether the weights of a tile that was made are for PackedLoops.
  bool weighs_packed(const Panel& panel, const Space& w) const {
    return panel.packed && w.now_packed->plain_values;
  }

  /// What PackedLoops multiply the logits of such a tile by, or null.
  const float* late_factors(const Panel& panel, const Space& w) const {
    return panel.scales_late && w.now_packed->plain_keys && !w.terms.any && weighs_packed(panel, w)
               ? panel.pair_factors
               : nullptr;
  }

  /// The values of a packed tile as w.value_rows.
  void unpack_values(std::size_t count, Space& w) const {
    w.checked = false;
    load_rows(w.now_packed->value_rows, count, in.value_dim, w.value_rows, w.values);
  }

  /// Whether a lane of the tile may not see what another one does.
  bool hides(const Panel& panel, const Space& w) const {
    return panel.band.partial() || w.terms.any;
  }

  /// Replaces rows that are not finite by zeros, for 0 times them is not 0; false if all are.
  /// Between two calls of load_keys() `rows` must be the same: keys or values.
  bool replace_infinite(const T* const* rows, std::size_t count, std::size_t dim, Space& w,
                        const T** finite_rows) const {
    if (!w.checked) w.all_finite = loops.finite(rows, count, dim);
    w.checked = true;
    if (w.all_finite) return false;
    for (std::size_t j = 0; j < count; ++j)
      finite_rows[j] = loops.finite(rows + j, 1, dim) ? rows[j] : w.zeros;
    std::copy(rows + count, rows + tile_keys + rows_ahead, finite_rows + count);
    return true;
  }

  /// Adds the rows that were replaced to sums[dim * dim_step + lane * lane_step], for the lanes
  /// whose weight is not 0.
  void add_infinite(const Segment& g, const Panel& panel, const T* weights, const T* const* rows,
                    const T* const* finite_rows, std::size_t dim, T* sums, std::size_t dim_step,
                    std::size_t lane_step) const {
    const std::size_t end = std::min(panel.count, (g.first + g.vectors) * loops.width);
    for (std::size_t j = g.begin; j < g.end; ++j) {
      if (finite_rows[j] == rows[j]) continue;
      for (std::size_t i = g.first * loops.width; i < end; ++i) {
        const T weight = weights[j * lanes + i];
        if (weight == 0) continue;
        for (std::size_t d = 0; d < dim; ++d)
          sums[d * dim_step + i * lane_step] += weight * rows[j][d];
      }
    }
  }

  std::size_t whole_vectors(std::size_t dim) const {
    return (dim + loops.width - 1) / loops.width * loops.width;
  }
  /// Elements of a panel of rows of `dim` elements, in either form.
  std::size_t panel_size(std::size_t dim) const {
    return std::max((packed_loops != nullptr ? whole_vectors(dim) : dim) * lanes,
                    most_few_ * whole_vectors(dim));
  }
  /// Those of the sums of values of a panel.
  std::size_t sums_size(const Panel& panel) const {
    return panel.few ? panel.count * whole_vectors(in.value_dim) : panel_size(in.value_dim);
  }
  /// What PackedLoops round a number of dimensions up to, all parts of so many, of a tile, and of a
  /// panel of queries in pairs.
  static std::size_t whole_blocks(std::size_t dim) { return (dim + 31) / 32 * 32; }
  std::size_t parts() const { return packed_loops != nullptr ? packed_loops->parts : 0; }
  std::size_t packed_size(std::size_t dim) const { return parts() * tile_keys * whole_blocks(dim); }
  std::size_t packed_value_size() const {
    return parts() * tile_keys * ((in.value_dim + 63) / 64 * 64);
  }
  std::size_t packed_panel_size(std::size_t dim) const {
    return parts() * whole_blocks(dim) / 2 * lanes;
  }

  /// n elements as those of a half type.
  void narrowed(const T* from, std::size_t n, void* to) const {
    if constexpr (sizeof(T) == sizeof(float))
      if (packed_loops != nullptr && packed_loops->narrow != nullptr)
        return packed_loops->narrow(from, n, static_cast<std::uint16_t*>(to));
    if constexpr (sizeof(T) == sizeof(float)) narrow(in.element, all_loops, from, n, to);
  }

 private:
  static const PackedLoops* packed_loops_for(const AttentionInput<T>& input, Isa isa) {
    if (input.element == Element::bfloat16) return packed_bfloat16_loops(isa);
    const AllPackedLoops* all = logitkit::packed_loops(isa);
    if (all == nullptr || input.element == Element::float64) return nullptr;
    if (std::min(input.head_dim, input.value_dim) < least_packed_dim) return nullptr;
    return input.element == Element::float16 ? &all->float16 : &all->float32;
  }

  // Whether packing keys is worth it for any number of queries but the fewest.
  bool packs_any() const { return packed_loops != nullptr && packed_loops->parts == 1; }
  // Whether so many queries share the keys of a sequence that packing these is worth it.
  bool are_many(const Sequence& s) const {
    return packs_any() || s.queries * group_heads >= least_packed_queries;
  }

  // The factors of a panel's scores: they come in units of ln 2, or of the cap.
  void fill_factors(const Sequence& s, const Panel& panel, T* factors) const {
    for (std::size_t i = 0; i < panel.count; ++i) {
      const double scale =
          *in.scale.at(s.query_batch, panel.heads[i], s.first_query + panel.queries_at[i]);
      factors[i] = static_cast<T>(in.softcap > 0 ? scale / in.softcap : scale * log2_e);
    }
  }

  void query_rows(const Sequence& s, const Panel& panel, const void** rows) const {
    for (std::size_t i = 0; i < panel.count; ++i)
      rows[i] =
          row_of(in.query, s.query_batch, panel.heads[i], s.first_query + panel.queries_at[i]);
  }

  // panel.queries, multiplied by their factors.
  void make_queries(const Sequence& s, Panel& panel, Space& w) const {
    const void* from[max_queries];
    const T* rows[max_queries];
    query_rows(s, panel, from);
    load_rows(from, panel.count, in.head_dim, rows, w.rows);
    fill_factors(s, panel, w.factors);
    panel.has_queries = true;
    if (!panel.few) return loops.pack(rows, w.factors, panel.count, in.head_dim, panel.queries);
    const std::size_t width = loops.width, dim = in.head_dim;
    for (std::size_t first = 0; first < panel.count; first += width) {
      const std::size_t count = std::min(width, panel.count - first);
      const std::size_t share = share_of_few(count, width);
      T* const queries = panel.queries + first * dim;
      std::fill_n(queries, (dim + share - 1) / share * width, T{0});
      for (std::size_t i = 0; i < count; ++i) {
        const T factor = w.factors[first + i], *row = rows[first + i];
        T* to = queries + i * share;
        for (std::size_t d = 0; d < dim; d += share, to += width)
          for (std::size_t k = 0; k < std::min(share, dim - d); ++k) to[k] = row[d + k] * factor;
      }
    }
  }

  // The same for PackedLoops.
  void pack_queries(const Sequence& s, Panel& panel) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      const void* rows[max_queries];
      query_rows(s, panel, rows);
      panel.odd_lanes = packed_loops->pack_queries(rows, panel.count, in.head_dim, panel.pairs);
      std::fill_n(panel.pair_factors, lanes, 1.0f);
      fill_factors(s, panel, panel.pair_factors);
      for (std::size_t i = 0; i < panel.count; ++i) {
        // What parts do not hold must stay small.
        if (!(std::abs(panel.pair_factors[i]) < 0x1p40f)) panel.odd_lanes |= std::uint64_t{1} << i;
        if (is_odd(panel, i)) panel.pair_factors[i] = 1;
      }
      panel.scales_late =
          in.softcap == 0 && in.slopes == nullptr &&
          *std::min_element(panel.pair_factors, panel.pair_factors + panel.count) > 0;
    }
  }

  // A block of keys after the other, which stay in the first-level cache.
  void score_few(const Panel& panel, const Segment& g, std::size_t stride, Space& w) const {
    const std::size_t step = g.vectors > 1 ? 16 : tile_keys;
    for (std::size_t j = g.begin; j < g.end; j += step)
      for (std::size_t v = g.first; v < g.first + g.vectors; ++v) {
        const std::size_t lane = v * loops.width;
        loops.score_few(panel.queries + lane * in.head_dim,
                        std::min(loops.width, panel.count - lane), w.key_rows + j,
                        std::min(step, g.end - j), in.head_dim, w.tile + j * stride + lane, stride);
      }
  }

  // loops.score(), which asks for the rows that follow, and so do not come all at once. Twelve rows
  // are whole blocks of all loops.
  void score(const Panel& panel, const Segment& g, Space& w) const {
    const std::size_t step = w.asks && !panel.packed ? 12 : tile_keys;
    for (std::size_t j = g.begin; j < g.end; j += step) {
      const std::size_t n = std::min(step, g.end - j);
      for (std::size_t k = 0; step < tile_keys && k < n; ++k) {
        prefetch_row(w.key_rows[j + k + values_ahead], in.head_dim);
        prefetch_row(w.value_rows[j + k], in.value_dim);
      }
      loops.score(panel.queries, w.key_rows + j, n, in.head_dim, g.first, g.vectors,
                  w.tile + j * lanes);
    }
  }

  static bool is_odd(const Panel& panel, std::size_t lane) {
    return (panel.odd_lanes >> lane & 1) != 0;
  }

  void score_packed(const Panel& panel, const Segment& g, Space& w) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      const float* factors = late_factors(panel, w) != nullptr ? nullptr : panel.pair_factors;
      packed_loops->score(panel.pairs, w.now_packed->keys, g.begin, g.end, in.head_dim, g.first,
                          g.vectors, factors, w.tile);
      if (panel.odd_lanes == 0) return;
      T* odd_tile = w.rows;
      loops.score(panel.queries, w.key_rows + g.begin, g.end - g.begin, in.head_dim, g.first,
                  g.vectors, odd_tile + g.begin * lanes);
      const std::size_t end = std::min(panel.count, (g.first + g.vectors) * loops.width);
      for (std::size_t i = g.first * loops.width; i < end; ++i)
        for (std::size_t j = g.begin; is_odd(panel, i) && j < g.end; ++j)
          w.tile[j * lanes + i] = odd_tile[j * lanes + i];
    }
  }

  const std::size_t most_few_;
  const TileTerms<T> terms_;
};

}  // namespace logitkit
