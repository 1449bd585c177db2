// The gradient of attention over tiles of keys, for a group of panels of queries.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "attention/attention.h"
#include "attention/gradient_products.h"
#include "attention/logit_tiles.h"

namespace logitkit {

// Panels that go over a tile of keys together, at most.
constexpr std::size_t max_group = 4;
// And where keys and values are packed, as long as there is room in the second-level cache.
constexpr std::size_t max_packed_group = 8, packed_dims = 160;
// Packing is worth its time for so many dimensions of keys and values together, and so many panels
// that share them, at least.
constexpr std::size_t least_packed_dims = 64, least_packed_panels = 4;

// Several sums, for one would wait for each addition.
template <class T>
inline double inner_product(const T* a, const T* b, std::size_t n) {
  constexpr std::size_t step = 8;
  double sums[step] = {};
  std::size_t d = 0;
  for (; d + step <= n; d += step)
    for (std::size_t k = 0; k < step; ++k) sums[k] += double{a[d + k]} * double{b[d + k]};
  for (; d < n; ++d) sums[0] += double{a[d]} * double{b[d]};
  double sum = 0.0;
  for (const double x : sums) sum += x;
  return sum;
}

template <class T>
class GradientTiles {
  using Tiles = LogitTiles<T>;

 public:
  GradientTiles(const AttentionInput<T>& input, const AttentionGradient<T>& gradient, Isa isa)
      : tiles(input, false, isa),
        loops(std::is_same_v<T, float> && input.head_dim + input.value_dim >= least_packed_dims
                  ? gradient_loops(isa)
                  : nullptr),
        group(loops != nullptr && input.head_dim + input.value_dim <= packed_dims ? max_packed_group
                                                                                  : max_group),
        key_depth(tiles.whole_vectors(input.head_dim)),
        value_depth(tiles.whole_vectors(input.value_dim)),
        in_(input),
        g_(gradient) {}

  const Tiles tiles;
  const GradientLoops* const loops;  // null if not used
  const std::size_t group;           // panels that go over a tile together, at most
  const std::size_t key_depth, value_depth;

  struct Panel : Tiles::Panel {
    T *grad_out, *sums;             // [dim][lane]: grad_out, and the gradient of the query
    T *query_rows, *grad_rows;      // [lane][dim]: query * scale, and grad_out
    T *logsumexp, *terms, *slopes;  // [lane]
    T* logits[max_queries];         // of each lane: where its gradients go, from key 0 on
    bool split;                     // whether it is one for GradientProducts
  };

  struct Workspace {
    explicit Workspace(const GradientTiles& b) : space(b.tiles, arena), panels(b.group) {
      const std::size_t lanes = b.tiles.lanes;
      for (Panel& panel : panels) {
        panel.queries = arena.take(b.in_.head_dim * lanes);
        panel.grad_out = arena.take(b.in_.value_dim * lanes);
        panel.sums = arena.take(b.key_depth * lanes);
        panel.query_rows = arena.take(b.key_depth * lanes);
        panel.grad_rows = arena.take(b.value_depth * lanes);
        for (T** row : {&panel.logsumexp, &panel.terms, &panel.slopes}) *row = arena.take(lanes);
      }
      const bool caps = b.in_.softcap > 0;
      tiles[0] = {space.tile, arena.take(tile_keys * lanes),
                  caps ? arena.take(tile_keys * lanes) : nullptr};
      if (b.loops != nullptr) {
        products =
            std::make_unique<GradientProducts>(*b.loops, b.in_.head_dim, b.in_.value_dim, b.group);
        tiles[1] = {arena.take(tile_keys * lanes), arena.take(tile_keys * lanes),
                    caps ? arena.take(tile_keys * lanes) : nullptr};
      }
      use_tile(0);
      ones = arena.take(lanes);
      std::fill_n(ones, lanes, T{1});
      out_row = arena.take(b.in_.value_dim);
    }
    // Takes the tile of one panel of those that go over a tile of keys at the same time.
    void use_tile(std::size_t k) {
      space.tile = tiles[k].logits;
      space.capped = tiles[k].capped;
      gradients = tiles[k].gradients;
    }
    Arena<T> arena;
    typename Tiles::Space space;
    std::vector<Panel> panels;
    struct {
      T *logits, *gradients, *capped;
    } tiles[GradientProducts::most_panels];
    T* gradients;  // [key][lane]
    T *ones, *out_row;
    std::unique_ptr<GradientProducts> products;
    bool splits = false;  // whether the group is one for these
  };

  /// A tile of keys, and where what they get goes.
  struct Tile {
    const Sequence& s;
    std::size_t key_head, first, count;
    T *grad_keys, *grad_values;
  };

  /// Starts a group of panels, and returns the keys that they see.
  KeyRange start(const PanelTask& task, Workspace& w) const {
    const Sequence& s = in_.sequences[task.sequence];
    KeyRange keys = {unlimited, 0};
    for (std::size_t p = 0; p < task.panels; ++p) {
      Panel& panel = w.panels[p];
      tiles.start(s, task.key_head, tiles.panels[task.sequence][task.first_panel + p], panel,
                  w.space);
      start(s, panel, w);
      keys.begin = std::min(keys.begin, panel.band.begin());
      keys.end = std::max(keys.end, panel.band.end());
    }
    w.splits = loops != nullptr && tiles.panels[task.sequence].size() >= least_packed_panels;
    if (w.splits) start_products(task.panels, w);
    return keys;
  }

  /// Adds what one tile gives to the gradients of the queries of `count` panels and of its keys.
  void add(const Tile& tile, std::size_t count, Workspace& w) const {
    Tiles::forget_keys(w.space);
    if (w.splits) {
      w.products->forget_keys();
      for (std::size_t p = 0; p < count; p += GradientProducts::most_panels)
        add_split(tile, p, std::min(GradientProducts::most_panels, count - p), w);
      return;
    }
    for (std::size_t p = 0; p < count; ++p) {
      const Segments segments = see(tile, w.panels[p], w);
      if (segments.count > 0) add_whole(tile, w.panels[p], segments, w);
    }
  }

  /// Writes the gradients of a panel's queries, and of their scale: with u = sum of dX key they
  /// are scale u and query u.
  void finish(const Sequence& s, Panel& panel, Workspace& w) const {
    T *rows[max_queries], *scales = w.space.factors;
    for (std::size_t i = 0; i < panel.count; ++i) {
      rows[i] = panel.query_rows + i * key_depth;
      scales[i] = *in_.scale.at(s.query_batch, panel.heads[i], s.first_query + panel.queries_at[i]);
    }
    if (g_.grad_scale.data != nullptr) {
      tiles.loops.unpack(panel.sums, w.ones, panel.count, in_.head_dim, rows);
      write_scales(s, panel, rows, w);
    }
    for (std::size_t i = 0; i < panel.count && !tiles.is_half; ++i)
      rows[i] = reinterpret_cast<T*>(row_at(g_.grad_query, s.query_batch, panel.heads[i],
                                            s.first_query + panel.queries_at[i]));
    tiles.loops.unpack(panel.sums, scales, panel.count, in_.head_dim, rows);
    for (std::size_t i = 0; i < panel.count && tiles.is_half; ++i)
      write_row(rows[i], in_.head_dim, g_.grad_query, s.query_batch, panel.heads[i],
                s.first_query + panel.queries_at[i]);
  }

  void write_row(const T* row, std::size_t dim, const Rows<void>& x, std::size_t b, std::size_t h,
                 std::size_t i) const {
    char* to = row_at(x, b, h, i);
    if (tiles.is_half) return tiles.narrowed(row, dim, to);
    std::copy_n(row, dim, reinterpret_cast<T*>(to));
  }

 private:
  char* row_at(const Rows<void>& x, std::size_t b, std::size_t h, std::size_t i) const {
    return static_cast<char*>(x.data) + tiles.bytes_to(x, b, h, i);
  }

  // The gradients of the scales of a panel, of which `rows` are the sums of dX key.
  void write_scales(const Sequence& s, const Panel& panel, const T* const* rows,
                    Workspace& w) const {
    for (std::size_t i = 0; i < panel.count; ++i) {
      const std::size_t b = s.query_batch, h = panel.heads[i];
      const std::size_t row = s.first_query + panel.queries_at[i];
      const T* query = row_of(in_.query, b, h, row, in_.head_dim, w.space.rows);
      const double product = inner_product(query, rows[i], in_.head_dim);
      const bool empty = *g_.logsumexp.at(b, h, row) == -std::numeric_limits<T>::infinity();
      *g_.grad_scale.at(b, h, row) = static_cast<T>(empty ? 0.0 : product);
    }
  }

  static T value_or_zero(const Rows<const T>& x, std::size_t b, std::size_t h, std::size_t i) {
    return x.data == nullptr ? T{0} : *x.at(b, h, i);
  }

  const T* row_of(const Rows<const void>& x, std::size_t b, std::size_t h, std::size_t i,
                  std::size_t dim, T* space) const {
    const void* from = static_cast<const char*>(x.data) + tiles.bytes_to(x, b, h, i);
    return tiles.is_half ? tiles.widened(from, dim, space) : static_cast<const T*>(from);
  }

  // What the gradient needs of the rows of a panel.
  void start(const Sequence& s, Panel& panel, Workspace& w) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const T* rows[max_queries];
    std::fill_n(panel.sums, key_depth * tiles.lanes, T{0});
    std::fill_n(panel.logsumexp, tiles.lanes, infinity);
    std::fill_n(panel.terms, tiles.lanes, T{0});
    std::fill_n(panel.slopes, tiles.lanes, T{0});
    const auto clear = [&](std::size_t i, std::size_t query_from, std::size_t grad_from) {
      std::fill_n(panel.query_rows + i * key_depth + query_from, key_depth - query_from, T{0});
      std::fill_n(panel.grad_rows + i * value_depth + grad_from, value_depth - grad_from, T{0});
    };
    for (std::size_t i = panel.count; i < tiles.lanes; ++i) clear(i, 0, 0);
    for (std::size_t i = 0; i < panel.count; ++i) {
      const std::size_t b = s.query_batch, h = panel.heads[i];
      const std::size_t row = s.first_query + panel.queries_at[i];
      T* grad_row = panel.grad_rows + i * value_depth;
      rows[i] = grad_row;
      const T logsumexp = *g_.logsumexp.at(b, h, row);
      if (logsumexp == -infinity) {
        // Of a row that sees nothing 2^(-inf - inf) is 0, and its gradients stay 0.
        clear(i, 0, 0);
        continue;
      }
      clear(i, in_.head_dim, in_.value_dim);
      std::copy_n(row_of(g_.grad_out, b, h, row, in_.value_dim, w.out_row), in_.value_dim,
                  grad_row);
      const T* out = row_of(g_.out, b, h, row, in_.value_dim, w.out_row);
      const double product = inner_product(grad_row, out, in_.value_dim);
      const double slope = value_or_zero(g_.grad_entropy, b, h, row);
      panel.logsumexp[i] = static_cast<T>(double{logsumexp} * log2_e);
      panel.slopes[i] = static_cast<T>(slope * ln_2);
      panel.terms[i] = static_cast<T>(value_or_zero(g_.grad_logsumexp, b, h, row) - product -
                                      slope * value_or_zero(g_.entropy, b, h, row));
      T* query_row = panel.query_rows + i * key_depth;
      const T* query = row_of(in_.query, b, h, row, in_.head_dim, query_row);
      const T scale = *in_.scale.at(b, h, row);
      for (std::size_t d = 0; d < in_.head_dim; ++d) query_row[d] = query[d] * scale;
    }
    for (std::size_t i = 0; i < panel.count && g_.grad_logits != nullptr; ++i)
      panel.logits[i] = g_.grad_logits +
                        static_cast<std::ptrdiff_t>(s.query_batch) * g_.logits_batch +
                        static_cast<std::ptrdiff_t>(panel.heads[i]) * g_.logits_head +
                        static_cast<std::ptrdiff_t>(panel.queries_at[i]) * g_.logits_row;
    tiles.loops.pack(rows, w.ones, panel.count, in_.value_dim, panel.grad_out);
  }

  // Cuts a tile to what a panel sees of it and loads what it consists of; no segments if nothing
  // is visible.
  Segments see(const Tile& tile, Panel& panel, Workspace& w) const {
    const auto key = static_cast<std::int64_t>(tile.first);
    Segments segments = tiles.cut(panel, key, tile.count);
    if (segments.count > 0 && !tiles.load_terms(tile.s, panel, key, tile.count, w.space))
      segments.count = 0;
    if (segments.count > 0)
      tiles.load_keys(tile.s, panel, tile.key_head, tile.first, tile.count, w.space);
    return segments;
  }

  // Adds what one tile gives to the gradients of the queries of a panel and of its keys.
  void add_whole(const Tile& tile, Panel& panel, const Segments& segments, Workspace& w) const {
    const std::size_t lanes = tiles.lanes;
    tiles.make_tile(tile.s, panel, static_cast<std::int64_t>(tile.first), tile.count, segments,
                    w.space);
    for (std::size_t k = 0; k < segments.count; ++k) {
      const Segment& g = segments.data[k];
      tiles.loops.score(panel.grad_out, w.space.value_rows + g.begin, g.end - g.begin,
                        in_.value_dim, g.first, g.vectors, w.gradients + g.begin * lanes);
    }
    grade(tile, panel, w);
    add_graded(tile, panel, segments, tiles.hides(panel, w.space), w);
  }

  // Makes weights and gradients of a tile of logits and of products with values.
  void grade(const Tile& tile, const Panel& panel, Workspace& w) const {
    for (std::size_t v = 0; v < panel.band.vectors(); ++v) grade_vector(panel, v, w);
    if (g_.grad_logits != nullptr) write_logits(panel, tile.first, w);
    if (in_.softcap > 0)
      tiles.loops.uncap(w.gradients, w.space.capped, tile.count,
                        static_cast<T>(double{in_.softcap} * log2_e));
  }
  void grade_vector(const Panel& panel, std::size_t v, Workspace& w) const {
    const std::size_t begin = panel.band.begins[v], lane = v * tiles.loops.width;
    const std::size_t at = begin * tiles.lanes + lane;
    tiles.loops.grade(w.space.tile + at, w.gradients + at, panel.band.ends[v] - begin,
                      panel.logsumexp + lane, panel.terms + lane, slopes_of(panel, lane));
  }
  const T* slopes_of(const Panel& panel, std::size_t lane) const {
    return g_.grad_entropy.data != nullptr ? panel.slopes + lane : nullptr;
  }

  // Adds a graded tile; `hides` says whether weights of 0 may be those of hidden keys.
  void add_graded(const Tile& tile, Panel& panel, const Segments& segments, bool hides,
                  Workspace& w) const {
    const AttentionLoops<T>& loops = tiles.loops;
    const std::size_t lanes = tiles.lanes;
    const T* finite_rows[tile_keys + rows_ahead];
    const bool replaced = hides && tiles.replace_infinite(w.space.key_rows, tile.count,
                                                          in_.head_dim, w.space, finite_rows);
    const T* const* keys = replaced ? finite_rows : w.space.key_rows;
    for (std::size_t k = 0; k < segments.count; ++k) {
      const Segment& g = segments.data[k];
      const std::size_t rows = g.end - g.begin, first = g.first * loops.width;
      const std::size_t end = std::min(panel.count, first + g.vectors * loops.width);
      loops.weigh(w.gradients + g.begin * lanes, keys + g.begin, rows, in_.head_dim, g.first,
                  g.vectors, w.ones, panel.sums);
      if (replaced)
        tiles.add_infinite(g, panel, w.gradients, w.space.key_rows, finite_rows, in_.head_dim,
                           panel.sums, lanes, 1);
      loops.spread(w.space.tile + g.begin * lanes, panel.grad_rows, rows, value_depth, first, end,
                   tile.grad_values + g.begin * value_depth);
      loops.spread(w.gradients + g.begin * lanes, panel.query_rows, rows, key_depth, first, end,
                   tile.grad_keys + g.begin * key_depth);
    }
  }

  // Packs the panels of a group, but for those that may not be split.
  void start_products(std::size_t count, Workspace& w) const {
    if constexpr (std::is_same_v<T, float>) {
      using Products = GradientProducts;
      Products& products = *w.products;
      products.start_group();
      for (std::size_t p = 0; p < count; ++p) {
        Panel& panel = w.panels[p];
        const float* rows = panel.query_rows;
        panel.split =
            Products::ordinary(products.loops().largest(&rows, 1, key_depth * tiles.lanes)) &&
            products.start(p, panel.queries, panel.grad_out, panel.band.vectors());
      }
      for (std::size_t p = 0; p < count; p += Products::most_panels) {
        const float *queries[Products::most_panels] = {}, *grad_out[Products::most_panels] = {};
        for (std::size_t k = 0; k < Products::most_panels && p + k < count; ++k) {
          queries[k] = w.panels[p + k].query_rows;
          grad_out[k] = w.panels[p + k].grad_rows;
        }
        products.start_rows(p, queries, grad_out);
      }
    }
  }

  // The same as add_whole() for `count` panels from p on together.
  void add_split(const Tile& tile, std::size_t p, std::size_t count, Workspace& w) const {
    if constexpr (std::is_same_v<T, float>) {
      GradientProducts::Part parts[GradientProducts::most_panels];
      const bool grades = g_.grad_logits != nullptr || in_.softcap > 0;
      bool any = false;
      for (std::size_t k = 0; k < count; ++k) {
        Panel& panel = w.panels[p + k];
        w.use_tile(k);
        const Segments segments = see(tile, panel, w);
        if (segments.count == 0) continue;
        if (!make_split(tile, p + k, panel, w)) {
          add_whole(tile, panel, segments, w);
          continue;
        }
        any = true;
        if (grades) grade(tile, panel, w);
        parts[k] = {&panel.band, w.space.tile,        w.gradients, panel.logsumexp,
                    panel.terms, slopes_of(panel, 0), panel.sums};
      }
      if (!any) return;
      const auto add_vector = [&](std::size_t k, std::size_t v) {
        Panel& panel = w.panels[p + k];
        w.use_tile(k);
        if (!grades) grade_vector(panel, v, w);
        const Segments segments = {{{panel.band.begins[v], panel.band.ends[v], v, 1}}, 1};
        add_graded(tile, panel, segments, true, w);
      };
      w.products->add(p, parts, grades, tile.grad_keys, tile.grad_values, add_vector);
    }
  }

  // Makes the logits of a tile and its products with values by GradientProducts, for the panel p of
  // a group. False if what it sees may not be split.
  bool make_split(const Tile& tile, std::size_t p, const Panel& panel, Workspace& w) const {
    GradientProducts& products = *w.products;
    if (!panel.split ||
        !products.load_keys(w.space.key_rows, w.space.value_rows, tile.count, w.space.zeros))
      return false;
    products.score(p, panel.band, w.space.tile);
    tiles.change_scores(tile.s, panel, static_cast<std::int64_t>(tile.first), tile.count, w.space);
    if (products.sees_replaced(panel.band, panel.count, w.space.tile)) return false;
    products.score_values(p, panel.band, w.gradients);
    return true;
  }

  void write_logits(const Panel& panel, std::size_t first_key, const Workspace& w) const {
    const std::size_t width = tiles.loops.width;
    for (std::size_t v = 0; v < panel.band.vectors(); ++v) {
      const std::size_t begin = panel.band.begins[v], keys = panel.band.ends[v] - begin;
      const std::size_t rows = std::min(width, panel.count - v * width);
      T* to[max_queries];
      for (std::size_t i = 0; i < rows; ++i)
        to[i] = panel.logits[v * width + i] + first_key + begin;
      tiles.loops.unpack(w.gradients + begin * tiles.lanes + v * width, w.ones, rows, keys, to);
    }
  }

  const AttentionInput<T>& in_;
  const AttentionGradient<T>& g_;
};

}  // namespace logitkit
