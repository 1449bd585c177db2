// A panel of queries, and what it sees of a tile of keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "attention/loops.h"

namespace logitkit {

/// The queries of a panel: rows (head, i) with head * queries + i from `first` on, count of
/// them, of the heads that share the keys of key head `key_head`.
struct PanelRows {
  std::size_t first, count;
};

/// The query of each lane of a panel.
struct PanelLanes {
  std::size_t count;
  std::size_t heads[max_queries], queries_at[max_queries];
};

/// The panels of rows * heads queries that share their keys.
inline std::vector<PanelRows> cut_into_panels(std::size_t queries, std::size_t heads,
                                              std::size_t width) {
  const std::size_t lanes = panel_vectors * width;
  std::vector<PanelRows> panels;
  const auto cut = [&](std::size_t first, std::size_t rows) {
    while (rows > 0) {
      std::size_t count = std::min(rows, lanes);
      // Two vectors twice are faster than three and one.
      if (rows > lanes && rows <= lanes + width) count = 2 * width;
      panels.push_back({first, count});
      first += count;
      rows -= count;
    }
  };
  if (queries < lanes / 2)
    cut(0, queries * heads);  // several heads in a panel
  else
    for (std::size_t h = 0; h < heads; ++h) cut(h * queries, queries);
  return panels;
}

/// The keys [begin, end) that a query sees of the band.
struct KeyRange {
  std::int64_t begin, end;
};

inline KeyRange keys_of(const Sequence& sequence, std::int64_t left, std::int64_t right,
                        std::size_t i) {
  const std::int64_t position = static_cast<std::int64_t>(i) + sequence.offset;
  const auto keys = static_cast<std::int64_t>(sequence.keys);
  const std::int64_t begin = std::clamp<std::int64_t>(position - left, 0, keys);
  const std::int64_t end = std::clamp<std::int64_t>(position + right + 1, begin, keys);
  return {begin, end};
}

/// Rows [begin, end) of a tile, to be computed for `vectors` vectors of lanes from `first` on.
struct Segment {
  std::size_t begin, end, first, vectors;
};

/// What a panel sees of the keys of its band, by vectors of lanes.
class PanelBand {
 public:
  PanelBand() = default;

  /// ranges[i] for i < count; lanes above see what the last one does.
  PanelBand(const KeyRange* ranges, std::size_t count, std::size_t width) : width_(width) {
    vectors_ = (count + width - 1) / width;
    for (std::size_t i = 0; i < vectors_ * width; ++i) ranges_[i] = ranges[std::min(i, count - 1)];
    for (std::size_t v = 0; v < vectors_; ++v) {
      Span& span = spans_[v];
      span = {ranges_[v * width].begin, ranges_[v * width].begin, ranges_[v * width].end,
              ranges_[v * width].end};
      for (std::size_t i = v * width; i < (v + 1) * width; ++i) {
        span.least_begin = std::min(span.least_begin, ranges_[i].begin);
        span.most_begin = std::max(span.most_begin, ranges_[i].begin);
        span.least_end = std::min(span.least_end, ranges_[i].end);
        span.most_end = std::max(span.most_end, ranges_[i].end);
      }
      begin_ = v == 0 ? span.least_begin : std::min(begin_, span.least_begin);
      end_ = v == 0 ? span.most_end : std::max(end_, span.most_end);
      all_begin_ = v == 0 ? span.most_begin : std::max(all_begin_, span.most_begin);
      all_end_ = v == 0 ? span.least_end : std::min(all_end_, span.least_end);
      in_order_ = in_order_ && (v == 0 || (span.least_begin >= spans_[v - 1].least_begin &&
                                           span.most_end >= spans_[v - 1].most_end));
    }
  }

  std::size_t vectors() const { return vectors_; }
  /// All keys that a query of the panel sees lie in [begin, end).
  std::int64_t begin() const { return begin_; }
  std::int64_t end() const { return end_; }

  /// Cuts the tile of keys [first_key, first_key + count) to what is visible, and returns how
  /// many segments it has: none if nothing is.
  std::size_t segments(std::int64_t first_key, std::size_t count, Segment* segments) {
    const auto last_key = first_key + static_cast<std::int64_t>(count);
    if (sees_all(first_key, last_key)) {  // the common case
      partial_ = false;
      for (std::size_t v = 0; v < vectors_; ++v) begins[v] = 0, ends[v] = count;
      segments[0] = {0, count, 0, vectors_};
      return 1;
    }
    constexpr std::size_t step = 8;  // keys that loops take at a time
    partial_ = false;
    std::size_t cuts[2 * panel_vectors], cut_count = 0;
    for (std::size_t v = 0; v < vectors_; ++v) {
      const Span span = in_order_ ? spans_[v] : union_of_spans();
      const auto in_tile = [&](std::int64_t key) {
        return static_cast<std::size_t>(
            std::clamp<std::int64_t>(key - first_key, 0, static_cast<std::int64_t>(count)));
      };
      begins[v] = in_tile(span.least_begin) / step * step;
      ends[v] = std::min(count, (in_tile(span.most_end) + step - 1) / step * step);
      if (span.least_begin >= span.most_end || ends[v] <= begins[v]) begins[v] = ends[v] = 0;
      if (begins[v] == ends[v]) continue;
      partial_ =
          partial_ || in_tile(span.most_begin) > begins[v] || in_tile(span.least_end) < ends[v];
      insert(begins[v], cuts, cut_count++);
      insert(ends[v], cuts, cut_count++);
    }
    std::size_t found = 0;
    for (std::size_t k = 0; k + 1 < cut_count; ++k) {
      Segment segment = {cuts[k], cuts[k + 1], 0, 0};
      if (segment.begin == segment.end) continue;
      for (std::size_t v = 0; v < vectors_; ++v)
        if (begins[v] <= segment.begin && ends[v] >= segment.end) {
          if (segment.vectors == 0) segment.first = v;
          segment.vectors = v + 1 - segment.first;
        }
      if (segment.vectors > 0) segments[found++] = segment;
    }
    return found;
  }

  /// The same in segments of one vector each, or one that is all of it.
  std::size_t columns(std::int64_t first_key, std::size_t count, Segment* columns) {
    std::size_t found = segments(first_key, count, columns);
    if (found <= 1) return found;
    found = 0;
    for (std::size_t v = 0; v < vectors_; ++v)
      if (begins[v] < ends[v]) columns[found++] = {begins[v], ends[v], v, 1};
    return found;
  }

  /// Of the tile that segments() was last called for: whether a query does not see a key of
  /// its segments, and the rows that each vector has.
  bool partial() const { return partial_; }
  std::size_t begins[panel_vectors], ends[panel_vectors];

  /// Whether all lanes see all of the keys [first_key, last_key).
  bool sees_all(std::int64_t first_key, std::int64_t last_key) const {
    return first_key >= all_begin_ && last_key <= all_end_;
  }

  /// The keys that a lane sees, from first_key on, for AttentionLoops::hide().
  template <class T>
  void relative(std::int64_t first_key, std::size_t count, T* from, T* to) const {
    const auto most = static_cast<std::int64_t>(count);
    for (std::size_t i = 0; i < vectors_ * width_; ++i) {
      from[i] = static_cast<T>(std::clamp<std::int64_t>(ranges_[i].begin - first_key, 0, most));
      to[i] = static_cast<T>(std::clamp<std::int64_t>(ranges_[i].end - first_key, 0, most));
    }
  }
  bool sees(std::size_t lane, std::int64_t key) const {
    return ranges_[lane].begin <= key && key < ranges_[lane].end;
  }

 private:
  struct Span {
    std::int64_t least_begin, most_begin, least_end, most_end;
  };

  // Inserts x into the `count` ascending numbers of `sorted`.
  static void insert(std::size_t x, std::size_t* sorted, std::size_t count) {
    for (; count > 0 && sorted[count - 1] > x; --count) sorted[count] = sorted[count - 1];
    sorted[count] = x;
  }

  Span union_of_spans() const {
    Span all = spans_[0];
    for (std::size_t v = 1; v < vectors_; ++v) {
      all.least_begin = std::min(all.least_begin, spans_[v].least_begin);
      all.most_begin = std::max(all.most_begin, spans_[v].most_begin);
      all.least_end = std::min(all.least_end, spans_[v].least_end);
      all.most_end = std::max(all.most_end, spans_[v].most_end);
    }
    return all;
  }

  KeyRange ranges_[max_queries];
  Span spans_[panel_vectors];
  std::size_t width_ = 1, vectors_ = 0;
  std::int64_t begin_ = 0, end_ = 0;          // of the keys that any query sees
  std::int64_t all_begin_ = 0, all_end_ = 0;  // of those that all of them do
  bool in_order_ = true, partial_ = false;
};

}  // namespace logitkit
