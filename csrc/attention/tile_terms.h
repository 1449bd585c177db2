// What masks and terms add to a tile of logits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "attention/attention.h"
#include "attention/loops.h"
#include "attention/panel.h"
#include "attention/workspace.h"

namespace logitkit {

template <class T>
class TileTerms {
 public:
  TileTerms(const AttentionInput<T>& input, const AttentionLoops<T>& loops)
      : in_(input), loops_(loops), lanes_(panel_vectors * loops.width) {}

  struct Space {
    Space(const TileTerms& terms, Arena<T>& arena) {
      if (!terms.exist()) return;
      for (T** tile : {&sum, &term, &rows}) *tile = arena.take(tile_keys * terms.lanes_);
      ones = arena.take(terms.lanes_);
      std::fill_n(ones, terms.lanes_, T{1});
    }
    T *sum = nullptr, *term = nullptr;   // [key][lane]
    T *rows = nullptr, *ones = nullptr;  // [lane][key], [lane]
    bool any = false;                    // whether `sum` holds those of the tile
  };

  /// Whether there are masks or terms.
  bool exist() const {
    return in_.mask.data != nullptr || in_.terms[0].data != nullptr || in_.terms[1].data != nullptr;
  }

  /// Puts their sum over a tile into w.sum; false if they hide all of it.
  bool load(const Sequence& s, const PanelLanes& lanes, std::int64_t first, std::size_t count,
            Space& w) const {
    w.any = false;
    if (!exist()) return true;
    if (in_.mask.data != nullptr && !load_mask(s, lanes, first, count, w)) return false;
    const T* rows[max_queries];
    for (const Scores<T>& terms : in_.terms) {
      if (terms.data == nullptr) continue;
      for (std::size_t i = 0; i < lanes.count; ++i) {
        rows[i] = place(terms, s, lanes, i, first);
        if (terms.key == 1) continue;
        std::fill_n(w.rows + i * tile_keys, count, *rows[i]);
        rows[i] = w.rows + i * tile_keys;
      }
      add(rows, lanes.count, count, w);
    }
    const std::size_t vectors = (lanes.count + loops_.width - 1) / loops_.width;
    return !w.any || loops_.any_visible(w.sum, count, vectors);
  }

 private:
  // Adds what the mask hides; false if that is all of the tile.
  bool load_mask(const Sequence& s, const PanelLanes& lanes, std::int64_t first, std::size_t count,
                 Space& w) const {
    std::size_t visible = 0;
    for (std::size_t i = 0; i < lanes.count; ++i)
      visible += count_bits(place(in_.mask, s, lanes, i, first), count, in_.mask.key);
    if (visible == 0 || visible == lanes.count * count) return visible != 0;
    const T* rows[max_queries];
    for (std::size_t i = 0; i < lanes.count; ++i) {
      const std::uint8_t* mask = place(in_.mask, s, lanes, i, first);
      T* to = w.rows + i * tile_keys;
      for (std::size_t j = 0; j < count; ++j)
        to[j] = mask[static_cast<std::ptrdiff_t>(j) * in_.mask.key] != 0
                    ? T{0}
                    : -std::numeric_limits<T>::infinity();
      rows[i] = to;
    }
    add(rows, lanes.count, count, w);
    return true;
  }

  void add(const T* const* rows, std::size_t lanes, std::size_t count, Space& w) const {
    T* to = w.any ? w.term : w.sum;
    loops_.pack(rows, w.ones, lanes, count, to);
    if (w.any) loops_.add(w.sum, count, to, T{1});
    w.any = true;
  }

  template <class Data>
  static const Data* place(const Scores<Data>& x, const Sequence& s, const PanelLanes& lanes,
                           std::size_t i, std::int64_t first) {
    return x.data + static_cast<std::ptrdiff_t>(s.query_batch) * x.batch +
           static_cast<std::ptrdiff_t>(lanes.heads[i]) * x.head +
           static_cast<std::ptrdiff_t>(lanes.queries_at[i]) * x.row + first * x.key;
  }

  // How many of the bytes, all 0 or 1, are 1.
  static std::size_t count_bits(const std::uint8_t* bits, std::size_t count, std::ptrdiff_t step) {
    if (step == 0) return *bits * count;
    std::size_t sum = 0, j = 0;
    for (; j + 8 <= count; j += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, bits + j, sizeof eight);
      sum += (eight * 0x0101010101010101u) >> 56;
    }
    for (; j < count; ++j) sum += bits[j];
    return sum;
  }

  const AttentionInput<T>& in_;
  const AttentionLoops<T>& loops_;
  const std::size_t lanes_;
};

}  // namespace logitkit
