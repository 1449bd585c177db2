#include "attention/attention.h"

#include <algorithm>
#include <cmath>

#include "attention/half.h"
#include "attention/loops.h"
#include "attention/panel.h"
#include "attention/workspace.h"
#include "gemm/workspaces.h"
#include "simd/flush_denormals.h"
#include "threads.h"

namespace logitkit {
namespace {

constexpr double ln_2 = 0.693147180559945309417232121458;
constexpr double log2_e = 1.44269504088896340735992468100;

// Panels that go over a tile of keys together, at most: with 64 dimensions their queries and
// sums take 200 KiB of the second-level cache.
constexpr std::size_t max_group = 8;
// Tasks that a call is cut into, if it is large enough: a grid that does not depend on threads.
constexpr std::size_t enough_tasks = 16;

// Consecutive panels of one sequence and key head.
struct Task {
  std::size_t sequence, key_head, first_panel, panels;
};

// The panels of rows * heads queries that share their keys.
std::vector<PanelRows> cut_into_panels(std::size_t queries, std::size_t heads, std::size_t width) {
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

template <class T>
class Forward {
 public:
  Forward(const AttentionInput<T>& input, const AttentionOutput<T>& output, Isa isa)
      : in_(input),
        out_(output),
        loops_(attention_loops_for<T>(isa)),
        lanes_(panel_vectors * loops_.width),
        group_heads_(input.heads / input.key_heads),
        is_half_(input.element == Element::float16 || input.element == Element::bfloat16),
        with_mean_(output.entropy.data != nullptr),
        has_terms_(input.mask.data != nullptr || input.terms[0].data != nullptr ||
                   input.terms[1].data != nullptr) {
    std::size_t panels = 0;
    for (const Sequence& sequence : in_.sequences) {
      panels_.push_back(cut_into_panels(sequence.queries, group_heads_, loops_.width));
      panels += panels_.back().size() * in_.key_heads;
    }
    group_ = std::clamp<std::size_t>(panels / enough_tasks, 1, max_group);
    for (std::size_t s = 0; s < panels_.size(); ++s)
      for (std::size_t h = 0; h < in_.key_heads; ++h)
        for (std::size_t p = 0; p < panels_[s].size(); p += group_)
          tasks_.push_back({s, h, p, std::min(group_, panels_[s].size() - p)});
    // Under a causal mask the last rows have the most to do; they come first.
    std::reverse(tasks_.begin(), tasks_.end());
  }

  void run(std::size_t threads) {
    Workspaces<Workspace> workspaces;
    parallel_for(tasks_.size(), threads, [&](std::size_t t) {
      workspaces.lend([&] { return Workspace(*this); },
                      [&](Workspace& workspace) { run_task(tasks_[t], workspace); });
    });
  }

 private:
  // What one panel holds while it goes over the keys.
  struct Panel {
    std::size_t count;                                        // of its queries
    std::size_t heads[max_queries], queries_at[max_queries];  // of each lane
    PanelBand band;
    T *queries, *sums;             // [dim][lane]
    T *max, *sum, *mean, *factor;  // [lane]
  };

  struct Workspace {
    explicit Workspace(const Forward& f)
        : memory(f.group_ * f.panel_size() + f.tile_size()), panels(f.group_) {
      T* next = memory.data();
      const auto take = [&](std::size_t count) {
        T* taken = next;
        next += (count + 15) / 16 * 16;
        return taken;
      };
      for (Panel& panel : panels) {
        panel.queries = take(f.in_.head_dim * f.lanes_);
        panel.sums = take(f.in_.value_dim * f.lanes_);
        for (T** state : {&panel.max, &panel.sum, &panel.mean, &panel.factor})
          *state = take(f.lanes_);
      }
      tile = take(tile_keys * f.lanes_);
      terms = take(tile_keys * f.lanes_);
      more_terms = take(tile_keys * f.lanes_);
      keys = take(tile_keys * f.in_.head_dim);
      values = take(tile_keys * f.in_.value_dim);
      rows = take(f.lanes_ * std::max({f.in_.head_dim, f.in_.value_dim, tile_keys}));
      zeros = take(f.in_.value_dim);
      for (T** lane : {&begins, &ends, &slopes, &positions, &factors}) *lane = take(f.lanes_);
      std::fill_n(zeros, f.in_.value_dim, T{0});
    }
    Aligned<T> memory;
    std::vector<Panel> panels;
    T *tile, *terms, *more_terms;  // [key][lane]
    T *keys, *values;              // of half types, as floats
    T* rows;                       // of queries, terms or results
    T* zeros;
    T *begins, *ends, *slopes, *positions, *factors;
    const T *key_rows[tile_keys], *value_rows[tile_keys];
    bool has_tile_terms = false;  // w.terms holds those of the tile
  };

  std::size_t panel_size() const { return (in_.head_dim + in_.value_dim + 4) * lanes_ + 16 * 6; }
  std::size_t tile_size() const {
    const std::size_t dims = in_.head_dim + in_.value_dim;
    return tile_keys * (3 * lanes_ + dims) + lanes_ * (dims + tile_keys + 5) + in_.value_dim +
           16 * 16;
  }

  // Where in bytes a row of an array of elements lies.
  template <class Data>
  std::ptrdiff_t bytes_to(const Rows<Data>& x, std::size_t b, std::size_t h, std::size_t i) const {
    const auto size = static_cast<std::ptrdiff_t>(is_half_ ? 2 : sizeof(T));
    return size *
           (static_cast<std::ptrdiff_t>(b) * x.batch + static_cast<std::ptrdiff_t>(h) * x.head +
            static_cast<std::ptrdiff_t>(i) * x.row);
  }

  void run_task(const Task& task, Workspace& w) const {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const Sequence& s = in_.sequences[task.sequence];
    std::int64_t begin = unlimited, end = 0;
    for (std::size_t p = 0; p < task.panels; ++p) {
      Panel& panel = w.panels[p];
      start(task, s, panels_[task.sequence][task.first_panel + p], panel, w);
      begin = std::min(begin, panel.band.begin());
      end = std::max(end, panel.band.end());
    }
    constexpr auto step = static_cast<std::int64_t>(tile_keys);
    for (std::int64_t key = begin / step * step; key < end; key += step) {
      const auto count = static_cast<std::size_t>(
          std::min<std::int64_t>(step, static_cast<std::int64_t>(s.keys) - key));
      bool loaded = false;
      for (std::size_t p = 0; p < task.panels; ++p) {
        Panel& panel = w.panels[p];
        Segment segments[2 * panel_vectors];
        const std::size_t found = panel.band.segments(key, count, segments);
        if (found == 0 || !load_terms(s, panel, key, count, w)) continue;
        if (!loaded) load_keys(task, s, static_cast<std::size_t>(key), count, w);
        loaded = true;
        add_tile(s, panel, key, count, {segments, found}, w);
      }
    }
    for (std::size_t p = 0; p < task.panels; ++p) finish(s, w.panels[p], w);
  }

  // Packs the queries of a panel, multiplied by their scale.
  void start(const Task& task, const Sequence& s, const PanelRows& panel_rows, Panel& panel,
             Workspace& w) const {
    const T* rows[max_queries];
    KeyRange ranges[max_queries];
    std::size_t head = task.key_head * group_heads_ + panel_rows.first / s.queries;
    std::size_t query = panel_rows.first % s.queries;
    panel.count = panel_rows.count;
    for (std::size_t i = 0; i < panel.count; ++i) {
      panel.heads[i] = head;
      panel.queries_at[i] = query;
      const void* from = static_cast<const char*>(in_.query.data) +
                         bytes_to(in_.query, s.query_batch, head, s.first_query + query);
      rows[i] = static_cast<const T*>(from);
      if (is_half_) rows[i] = widened(from, in_.head_dim, w.rows + i * in_.head_dim);
      const double scale = *in_.scale.at(s.query_batch, head, s.first_query + query);
      // Scores in units of ln 2, or of the cap.
      w.factors[i] = static_cast<T>(in_.softcap > 0 ? scale / in_.softcap : scale * log2_e);
      ranges[i] = keys_of(s, in_.left, in_.right, query);
      if (++query == s.queries) {
        query = 0;
        ++head;
      }
    }
    panel.band = PanelBand(ranges, panel.count, loops_.width);
    loops_.pack(rows, w.factors, panel.count, in_.head_dim, panel.queries);
    std::fill_n(panel.sums, in_.value_dim * lanes_, T{0});
    std::fill_n(panel.max, lanes_, std::numeric_limits<T>::lowest());
    std::fill_n(panel.sum, lanes_, T{0});
    std::fill_n(panel.mean, lanes_, T{0});
  }

  // n elements of a half type as T, which is float then.
  static const T* widened_as(Element element, const void* from, std::size_t n, T* to) {
    if constexpr (sizeof(T) == sizeof(float)) widen(element, from, n, to);
    return to;
  }
  const T* widened(const void* from, std::size_t n, T* to) const {
    return widened_as(in_.element, from, n, to);
  }

  // Where the keys and values of a tile lie.
  void load_keys(const Task& task, const Sequence& s, std::size_t first, std::size_t count,
                 Workspace& w) const {
    std::size_t batch = s.key_batch, row = s.first_key + first, run = count;
    for (std::size_t j = 0; j < count; j += run) {
      if (in_.block_table != nullptr) {
        const std::size_t block = (first + j) / in_.block_size;
        batch = static_cast<std::size_t>(in_.block_table[s.key_batch * in_.max_blocks + block]);
        row = (first + j) % in_.block_size;
        run = std::min(count - j, in_.block_size - row);
      }
      load_rows(in_.key, bytes_to(in_.key, batch, task.key_head, row), run, in_.head_dim,
                w.key_rows + j, w.keys + j * in_.head_dim);
      load_rows(in_.value, bytes_to(in_.value, batch, task.key_head, row), run, in_.value_dim,
                w.value_rows + j, w.values + j * in_.value_dim);
    }
  }

  // rows[j] = the rows of x from `first` bytes on; as floats in `widened_rows` if they are half.
  void load_rows(const Rows<const void>& x, std::ptrdiff_t first, std::size_t count,
                 std::size_t dim, const T** rows, T* widened_rows) const {
    const char* from = static_cast<const char*>(x.data) + first;
    const std::ptrdiff_t step = bytes_to(x, 0, 0, 1);
    for (std::size_t j = 0; j < count; ++j, from += step)
      rows[j] =
          is_half_ ? widened(from, dim, widened_rows + j * dim) : reinterpret_cast<const T*>(from);
  }

  // Puts what masks and terms add to a tile into w.terms; false if they hide all of it.
  bool load_terms(const Sequence& s, const Panel& panel, std::int64_t first, std::size_t count,
                  Workspace& w) const {
    if (!has_terms_) return true;
    const T* rows[max_queries];
    bool any = false;
    const auto add = [&] {
      T* to = any ? w.more_terms : w.terms;
      std::fill_n(w.factors, lanes_, T{1});
      loops_.pack(rows, w.factors, panel.count, count, to);
      if (any) loops_.add(w.terms, count, to, T{1});
      any = true;
    };
    const auto place = [&](std::size_t i, const auto& x) {
      return x.data + static_cast<std::ptrdiff_t>(s.query_batch) * x.batch +
             static_cast<std::ptrdiff_t>(panel.heads[i]) * x.head +
             static_cast<std::ptrdiff_t>(panel.queries_at[i]) * x.row + first * x.key;
    };
    if (in_.mask.data != nullptr) {
      std::size_t visible = 0;
      for (std::size_t i = 0; i < panel.count; ++i) {
        const std::uint8_t* mask = place(i, in_.mask);
        T* to = w.rows + i * tile_keys;
        for (std::size_t j = 0; j < count; ++j) {
          const bool sees = mask[static_cast<std::ptrdiff_t>(j) * in_.mask.key] != 0;
          visible += sees;
          to[j] = sees ? T{0} : -std::numeric_limits<T>::infinity();
        }
        rows[i] = to;
      }
      if (visible == 0) return false;
      if (visible < panel.count * count) add();
    }
    for (const Scores<T>& terms : in_.terms) {
      if (terms.data == nullptr) continue;
      for (std::size_t i = 0; i < panel.count; ++i) {
        rows[i] = place(i, terms);
        if (terms.key == 1) continue;
        std::fill_n(w.rows + i * tile_keys, count, *rows[i]);
        rows[i] = w.rows + i * tile_keys;
      }
      add();
    }
    w.has_tile_terms = any;
    return !any || loops_.any_visible(w.terms, count, panel.band.vectors());
  }

  struct Segments {
    const Segment* data;
    std::size_t count;
  };

  // Adds a tile of keys to the softmax of a panel.
  void add_tile(const Sequence& s, Panel& panel, std::int64_t first, std::size_t count,
                Segments segments, Workspace& w) const {
    for (std::size_t k = 0; k < segments.count; ++k) {
      const Segment& g = segments.data[k];
      loops_.score(panel.queries, w.key_rows + g.begin, g.end - g.begin, in_.head_dim, g.first,
                   g.vectors, w.tile + g.begin * lanes_);
    }
    change_scores(s, panel, first, count, w);
    for (std::size_t v = 0; v < panel.band.vectors(); ++v) {
      const std::size_t begin = panel.band.begins[v], lane = v * loops_.width;
      if (begin == panel.band.ends[v]) continue;
      loops_.soften(w.tile + begin * lanes_ + lane, panel.band.ends[v] - begin, panel.max + lane,
                    panel.sum + lane, with_mean_ ? panel.mean + lane : nullptr,
                    panel.factor + lane);
    }
    const T* const* values = w.value_rows;
    const T* finite_rows[tile_keys];
    const bool guarded = (panel.band.partial() || w.has_tile_terms) &&
                         !loops_.finite(w.value_rows, count, in_.value_dim);
    if (guarded) {
      for (std::size_t j = 0; j < count; ++j)
        finite_rows[j] =
            loops_.finite(w.value_rows + j, 1, in_.value_dim) ? w.value_rows[j] : w.zeros;
      values = finite_rows;
    }
    for (std::size_t k = 0; k < segments.count; ++k) {
      const Segment& g = segments.data[k];
      loops_.weigh(w.tile + g.begin * lanes_, values + g.begin, g.end - g.begin, in_.value_dim,
                   g.first, g.vectors, panel.factor, panel.sums);
      if (guarded) add_infinite(panel, g, values, w);
      // The sums are rescaled once.
      std::fill_n(panel.factor + g.first * loops_.width, g.vectors * loops_.width, T{1});
    }
  }

  // Cap, slope, terms and band of a tile.
  void change_scores(const Sequence& s, const Panel& panel, std::int64_t first, std::size_t count,
                     Workspace& w) const {
    if (in_.softcap > 0) loops_.cap(w.tile, count, static_cast<T>(double{in_.softcap} * log2_e));
    if (in_.slopes != nullptr) {
      for (std::size_t i = 0; i < lanes_; ++i) {
        const std::size_t lane = std::min(i, panel.count - 1);
        const auto position = static_cast<std::int64_t>(panel.queries_at[lane]) + s.offset;
        w.slopes[i] = static_cast<T>(double{in_.slopes[panel.heads[lane]]} * log2_e);
        w.positions[i] = static_cast<T>(position - first);
      }
      loops_.slope(w.tile, count, w.slopes, w.positions);
    }
    if (w.has_tile_terms) loops_.add(w.tile, count, w.terms, static_cast<T>(log2_e));
    if (panel.band.partial()) {
      panel.band.relative(first, count, w.begins, w.ends);
      loops_.hide(w.tile, count, w.begins, w.ends);
    }
  }

  // The values that are not finite, for the lanes that see them: 0 times them is not 0.
  void add_infinite(Panel& panel, const Segment& g, const T* const* finite_rows,
                    const Workspace& w) const {
    for (std::size_t j = g.begin; j < g.end; ++j) {
      if (finite_rows[j] == w.value_rows[j]) continue;
      for (std::size_t i = g.first * loops_.width; i < (g.first + g.vectors) * loops_.width; ++i) {
        const T p = w.tile[j * lanes_ + i];
        if (p == 0) continue;
        for (std::size_t d = 0; d < in_.value_dim; ++d)
          panel.sums[d * lanes_ + i] += p * w.value_rows[j][d];
      }
    }
  }

  // Divides the sums of a panel by the sums of weights, and writes what the caller wants.
  void finish(const Sequence& s, Panel& panel, Workspace& w) const {
    T* rows[max_queries];
    void* out_rows[max_queries];
    for (std::size_t i = 0; i < panel.count; ++i) {
      const std::size_t head = panel.heads[i], query = s.first_query + panel.queries_at[i];
      out_rows[i] =
          static_cast<char*>(out_.out.data) + bytes_to(out_.out, s.query_batch, head, query);
      rows[i] = is_half_ ? w.rows + i * in_.value_dim : static_cast<T*>(out_rows[i]);
      finish_row(panel, i, head, s.query_batch, query);
    }
    loops_.unpack(panel.sums, panel.factor, panel.count, in_.value_dim, rows);
    if constexpr (sizeof(T) == sizeof(float))
      if (is_half_)
        for (std::size_t i = 0; i < panel.count; ++i)
          narrow(in_.element, rows[i], in_.value_dim, out_rows[i]);
  }

  // The factor of one row's sums, and its statistics.
  void finish_row(Panel& panel, std::size_t i, std::size_t head, std::size_t batch,
                  std::size_t query) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    double max = panel.max[i], sum = panel.sum[i], mean = panel.mean[i], factor = 1.0;
    const bool empty = sum == 0.0;
    if (out_.max_logit.data != nullptr)
      *out_.max_logit.at(batch, head, query) = static_cast<T>(empty ? -infinity : max * ln_2);
    if (in_.sinks != nullptr && in_.sinks[head] > -infinity) {
      const double sink = double{in_.sinks[head]} * log2_e,
                   top = empty ? sink : std::max(max, sink);
      factor = empty ? 0.0 : std::exp2(max - top);
      const double weight = std::exp2(sink - top);
      mean = empty ? 0.0 : factor * (mean + (max - top) * sum);
      if (weight > 0.0) mean += weight * (sink - top);
      sum = factor * sum + weight;
      max = top;
    }
    panel.factor[i] = static_cast<T>(sum == 0.0 ? 0.0 : factor / sum);
    if (out_.logsumexp.data != nullptr)
      *out_.logsumexp.at(batch, head, query) =
          static_cast<T>(sum == 0.0 ? -infinity : max * ln_2 + std::log(sum));
    if (out_.entropy.data != nullptr) {
      const double entropy = std::log(sum) - ln_2 * (mean / sum);
      *out_.entropy.at(batch, head, query) = static_cast<T>(sum == 0.0      ? 0.0
                                                            : entropy < 0.0 ? 0.0
                                                                            : entropy);
    }
  }

  const AttentionInput<T>& in_;
  const AttentionOutput<T>& out_;
  const AttentionLoops<T>& loops_;
  const std::size_t lanes_, group_heads_;
  const bool is_half_, with_mean_, has_terms_;
  std::size_t group_ = 1;
  std::vector<std::vector<PanelRows>> panels_;
  std::vector<Task> tasks_;
};

}  // namespace

const AllAttentionLoops& attention_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::avx512: return avx512::attention_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::attention_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::attention_loops;
#endif
    default: return scalar::attention_loops;
  }
}

template <>
const AttentionLoops<float>& attention_loops_for(Isa isa) {
  return attention_loops(isa).float32;
}
template <>
const AttentionLoops<double>& attention_loops_for(Isa isa) {
  return attention_loops(isa).float64;
}

template <class T>
void attention(const AttentionInput<T>& input, const AttentionOutput<T>& output,
               std::size_t threads, Isa isa) {
  if (input.heads == 0 || input.key_heads == 0) return;
  Forward<T>(input, output, isa).run(threads);
}

template void attention(const AttentionInput<float>&, const AttentionOutput<float>&, std::size_t,
                        Isa);
template void attention(const AttentionInput<double>&, const AttentionOutput<double>&, std::size_t,
                        Isa);

}  // namespace logitkit
