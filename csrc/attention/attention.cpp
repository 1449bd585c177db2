#include "attention/attention.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "attention/logit_tiles.h"
#include "attention/packed_steps.h"
#include "gemm/workspaces.h"
#include "simd/flush_denormals.h"
#include "threads.h"
#include "unit_in_use.h"

namespace logitkit {
namespace {

// Panels that go over a tile of keys together, at most: with 64 dimensions their queries and
// sums take 200 KiB of the second-level cache.
constexpr std::size_t max_group = 8;
// And where keys and values are packed, which takes as long as the products of half a panel, and
// longer in parts. Of 64 dimensions in three parts they take 30 KiB for each panel.
constexpr std::size_t max_packed_group = 24, max_packed_bytes = std::size_t{768} << 10;
// Tasks that a call is cut into, if it is large enough: a grid that does not depend on threads.
constexpr std::size_t enough_tasks = 16, enough_packed_tasks = 8;
// Long keys are attended to in parts, so many at most and of so many keys at least, whose results
// are put together in their order: where there are too few panels, each part is a task of its own.
constexpr std::size_t most_parts = 16;
constexpr std::size_t part_keys = 32 * tile_keys;

template <class T>
class Forward {
  using Tiles = LogitTiles<T>;
  using Steps = PackedSteps<packed_tiles>;

 public:
  Forward(const AttentionInput<T>& input, const AttentionOutput<T>& output, Isa isa)
      : in_(input),
        out_(output),
        tiles_(input, true, isa),
        with_mean_(output.entropy.data != nullptr) {
    std::size_t panels = 0;
    for (const auto& of_sequence : tiles_.panels) panels += of_sequence.size() * in_.key_heads;
    group_ = group_of(panels);
    const auto is_long = [](const Sequence& s) { return parts_of(s) > 1; };
    parts_are_tasks_ =
        panels < enough_tasks && std::any_of(in_.sequences.begin(), in_.sequences.end(), is_long);
    for (std::size_t s = 0; s < tiles_.panels.size(); ++s)
      for (std::size_t h = 0; h < in_.key_heads; ++h) {
        const std::size_t all = tiles_.panels[s].size(), pieces = (all + group_ - 1) / group_;
        for (std::size_t p = 0; p < pieces; ++p) {
          const std::size_t first = all * p / pieces;
          tasks_.push_back({s, h, first, all * (p + 1) / pieces - first});
        }
      }
    // Under a causal mask the last rows have the most to do; they come first.
    std::reverse(tasks_.begin(), tasks_.end());
  }

  void run(std::size_t threads) {
    Workspaces<Workspace> workspaces;
    const auto with_workspace = [&](const auto& work) {
      workspaces.lend([&] { return Workspace(*this); }, work);
    };
    if (!parts_are_tasks_)
      return parallel_for(tasks_.size(), threads, [&](std::size_t t) {
        with_workspace([&](Workspace& w) { run_task(tasks_[t], w); });
      });
    std::vector<std::unique_ptr<Partial>> partials(tasks_.size() * most_parts);
    parallel_for(partials.size(), threads, [&](std::size_t t) {
      const PanelTask& task = tasks_[t / most_parts];
      if (t % most_parts >= parts_of(task)) return;
      partials[t] = std::make_unique<Partial>(*this);
      with_workspace([&](Workspace& w) {
        w.panels[0].state = partials[t]->state;
        start(task, w);
        run_part(task, t % most_parts, w);
      });
    });
    parallel_for(tasks_.size(), threads, [&](std::size_t t) {
      with_workspace([&](Workspace& w) {
        start(tasks_[t], w);
        Panel& panel = w.panels[0];
        panel.state = partials[t * most_parts]->state;
        for (std::size_t p = 1; p < parts_of(tasks_[t]); ++p)
          merge(panel, panel.state, partials[t * most_parts + p]->state);
        finish(tasks_[t], w);
      });
    });
  }

 private:
  // What a panel has found out about some of the keys.
  struct State {
    State() = default;
    State(const Forward& f, Arena<T>& arena)
        : sums(arena.take(f.tiles_.panel_size(f.in_.value_dim))),
          top(arena.take(f.tiles_.lanes)),
          max(arena.take(f.tiles_.lanes)),
          sum(arena.take(f.tiles_.lanes)),
          mean(arena.take(f.tiles_.lanes)) {}
    T* sums;                    // like queries
    T *top, *max, *sum, *mean;  // [lane]: the largest logit, the shift, and sums of both kinds
  };

  // What one panel holds while it goes over the keys.
  struct Panel : Tiles::Panel {
    State state, before;  // of one part of the keys, and of the parts before
    T* factor;            // [lane]
  };

  // The state of the one panel of a task after one part of the keys.
  struct Partial {
    explicit Partial(const Forward& f) : state(f, arena) {}
    Arena<T> arena;
    State state;
  };

  struct Workspace {
    explicit Workspace(const Forward& f) : space(f.tiles_, arena), panels(f.group_) {
      for (Panel& panel : panels) {
        panel.queries = arena.take(f.tiles_.panel_size(f.in_.head_dim));
        panel.state = State(f, arena);
        panel.before = State(f, arena);
        panel.factor = arena.take(f.tiles_.lanes);
        if (f.tiles_.packed_loops == nullptr) continue;
        panel.pairs = pairs.take(f.tiles_.packed_panel_size(f.in_.head_dim));
        panel.pair_factors = pair_factors.take(f.tiles_.lanes);
      }
    }
    Arena<T> arena;
    Arena<std::uint32_t> pairs;
    Arena<float> pair_factors;
    typename Tiles::Space space;
    std::vector<Panel> panels;
  };

  std::size_t group_of(std::size_t panels) const {
    if (tiles_.packed_loops == nullptr)
      return std::clamp<std::size_t>(panels / enough_tasks, 1, max_group);
    const std::size_t bytes =
        4 * (tiles_.packed_panel_size(in_.head_dim) + tiles_.panel_size(in_.value_dim));
    const std::size_t most = std::clamp<std::size_t>(max_packed_bytes / bytes, 1, max_packed_group);
    return std::clamp<std::size_t>(panels / enough_packed_tasks, 1, most);
  }

  static std::size_t parts_of(const Sequence& s) {
    return std::clamp<std::size_t>(s.keys / part_keys, 1, most_parts);
  }
  std::size_t parts_of(const PanelTask& task) const {
    return parts_of(in_.sequences[task.sequence]);
  }

  void run_task(const PanelTask& task, Workspace& w) const {
    start(task, w);
    for (std::size_t part = 0; part < parts_of(task); ++part) {
      if (part > 0)
        for (std::size_t p = 0; p < task.panels; ++p)
          std::swap(w.panels[p].state, w.panels[p].before);
      run_part(task, part, w);
      if (part > 0)
        for (std::size_t p = 0; p < task.panels; ++p) {
          std::swap(w.panels[p].state, w.panels[p].before);
          merge(w.panels[p], w.panels[p].state, w.panels[p].before);
        }
    }
    finish(task, w);
  }

  void start(const PanelTask& task, Workspace& w) const {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    for (std::size_t p = 0; p < task.panels; ++p)
      tiles_.start(in_.sequences[task.sequence], task.key_head,
                   tiles_.panels[task.sequence][task.first_panel + p], w.panels[p], w.space);
  }

  // Goes over one part of the keys that the panels of a task see.
  void run_part(const PanelTask& task, std::size_t part, Workspace& w) const {
    const FlushDenormals flush(FlushDenormals::What::results_and_operands);
    const UnitInUse in_use(tiles_.packed_loops);
    const Sequence& s = in_.sequences[task.sequence];
    std::int64_t begin = unlimited, end = 0;
    for (std::size_t p = 0; p < task.panels; ++p) {
      Panel& panel = w.panels[p];
      std::fill_n(panel.state.sums, tiles_.sums_size(panel), T{0});
      for (T* x : {panel.state.top, panel.state.max})
        std::fill_n(x, tiles_.lanes, std::numeric_limits<T>::lowest());
      std::fill_n(panel.state.sum, tiles_.lanes, T{0});
      std::fill_n(panel.state.mean, tiles_.lanes, T{0});
      begin = std::min(begin, panel.band.begin());
      end = std::max(end, panel.band.end());
    }
    constexpr auto step = static_cast<std::int64_t>(tile_keys);
    const auto parts = static_cast<std::int64_t>(parts_of(task));
    const auto index = static_cast<std::int64_t>(part);
    const std::int64_t tiles = (static_cast<std::int64_t>(s.keys) + step - 1) / step;
    begin = std::max(begin / step * step, tiles * index / parts * step);
    end = std::min(end, tiles * (index + 1) / parts * step);
    const auto many = static_cast<std::int64_t>(tiles_.step_keys(w.panels[0]));
    for (; begin < end; begin = (begin / many + 1) * many) {
      Tiles::forget_keys(w.space);
      for (std::size_t p = 0; p < task.panels; ++p)
        add_keys(s, task.key_head, begin, std::min(end, (begin / many + 1) * many), w.panels[p],
                 w.space);
    }
  }

  // Adds the keys from `begin` to `end`, of whole tiles, to a panel.
  void add_keys(const Sequence& s, std::size_t key_head, std::int64_t begin, std::int64_t end,
                Panel& panel, typename Tiles::Space& w) const {
    constexpr auto step = static_cast<std::int64_t>(tile_keys);
    Steps steps;
    for (std::int64_t key = begin; key < end; key += step) {
      const auto count = static_cast<std::size_t>(
          std::min<std::int64_t>(step, static_cast<std::int64_t>(s.keys) - key));
      const Segments segments = tiles_.cut(panel, key, count);
      if (segments.count == 0 || !tiles_.load_terms(s, panel, key, count, w)) continue;
      tiles_.load_keys(s, panel, key_head, static_cast<std::size_t>(key), count, w);
      const bool is_made =
          !panel.packed || panel.odd_lanes != 0 || tiles_.late_factors(panel, w) == nullptr;
      if (is_made) {
        add_steps(panel, steps, w);
        tiles_.make_tile(s, panel, key, count, segments, w);
      }
      if (tiles_.weighs_packed(panel, w)) {
        const typename Tiles::PackedTile& tile = *w.now_packed;
        steps.factors = tiles_.late_factors(panel, w);
        steps.add(panel.band, key, count, is_made ? nullptr : tile.keys, tile.values);
        if (is_made) add_steps(panel, steps, w);
      } else {
        add_packed_sums(panel, w);
        if (panel.packed) tiles_.unpack_values(count, w);
        add_tile(panel, count, segments, w);
      }
    }
    add_steps(panel, steps, w);
    add_packed_sums(panel, w);
  }

  // Adds to one state of a panel another, over other keys.
  void merge(const Panel& panel, const State& to, const State& other) const {
    const std::size_t lane_step = panel.few ? tiles_.whole_vectors(in_.value_dim) : 1;
    const std::size_t dim_step = panel.few ? 1 : tiles_.lanes;
    for (std::size_t i = 0; i < panel.count; ++i) {
      if (other.sum[i] == 0) continue;  // it saw nothing
      to.top[i] = to.top[i] > other.top[i] ? to.top[i] : other.top[i];
      const double max = to.max[i] > other.max[i] ? to.max[i] : other.max[i];
      const double a = to.max[i] - max, b = other.max[i] - max;
      const double of_a = std::exp2(a), of_b = std::exp2(b);
      const auto moved = [](double mean, double distance, double sum) {
        return sum > 0 ? mean + distance * sum : mean;
      };
      to.mean[i] = static_cast<T>(of_a * moved(to.mean[i], a, to.sum[i]) +
                                  of_b * moved(other.mean[i], b, other.sum[i]));
      to.sum[i] = static_cast<T>(of_a * to.sum[i] + of_b * other.sum[i]);
      to.max[i] = static_cast<T>(max);
      for (std::size_t d = 0; d < in_.value_dim; ++d) {
        T& sum = to.sums[d * dim_step + i * lane_step];
        sum = static_cast<T>(of_a * sum + of_b * other.sums[d * dim_step + i * lane_step]);
      }
    }
  }

  // Adds a tile of logits to the softmax of a panel.
  void add_tile(Panel& panel, std::size_t count, const Segments& segments,
                typename Tiles::Space& w) const {
    const AttentionLoops<T>& loops = tiles_.loops;
    for (std::size_t v = 0; v < panel.band.vectors(); ++v) {
      const std::size_t begin = panel.band.begins[v], lane = v * loops.width;
      if (begin == panel.band.ends[v]) continue;
      if (tiles_.is_dense(panel, w))
        loops.soften_few(w.tile + begin * tiles_.few_stride(panel, w), panel.count,
                         panel.band.ends[v] - begin, panel.state.max, panel.state.sum,
                         with_mean_ ? panel.state.mean : nullptr, panel.factor);
      else
        loops.soften(w.tile + begin * tiles_.lanes + lane, panel.band.ends[v] - begin,
                     panel.state.max + lane, panel.state.sum + lane,
                     with_mean_ ? panel.state.mean + lane : nullptr, panel.factor + lane);
    }
    for (std::size_t i = 0; i < tiles_.lanes; ++i)
      panel.state.top[i] = std::max(panel.state.top[i], panel.state.max[i]);
    const std::size_t stride = tiles_.whole_vectors(in_.value_dim);
    const T* finite_rows[tile_keys + rows_ahead];
    const bool replaced =
        tiles_.hides(panel, w) &&
        tiles_.replace_infinite(w.value_rows, count, in_.value_dim, w, finite_rows);
    const T* const* values = replaced ? finite_rows : w.value_rows;
    for (std::size_t k = 0; k < segments.count; ++k) {
      const Segment& g = segments.data[k];
      if (panel.few) {
        const std::size_t row = tiles_.few_stride(panel, w), lane = g.first * loops.width;
        const std::size_t end = std::min(panel.count, lane + g.vectors * loops.width);
        loops.weigh_few(w.tile + g.begin * row + lane, row, end - lane, values + g.begin,
                        g.end - g.begin, in_.value_dim, panel.factor + lane,
                        panel.state.sums + lane * stride, stride);
      } else
        loops.weigh(w.tile + g.begin * tiles_.lanes, values + g.begin, g.end - g.begin,
                    in_.value_dim, g.first, g.vectors, panel.factor, panel.state.sums);
      if (replaced)
        tiles_.add_infinite(g, panel, w.tile, w.value_rows, finite_rows, in_.value_dim,
                            panel.state.sums, panel.few ? 1 : tiles_.lanes, panel.few ? stride : 1);
      // The sums are rescaled once.
      std::fill_n(panel.factor + g.first * loops.width, g.vectors * loops.width, T{1});
    }
  }

  // The same by PackedLoops for some tiles, but for add_packed_sums().
  void add_steps(Panel& panel, Steps& steps, typename Tiles::Space& w) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (steps.count() > 0)
        tiles_.packed_loops->attend(packed(panel, steps.factors), steps.data(), steps.count(),
                                    {w.tile, w.weights.data(), &w.packed_sums});
      steps.clear();
    }
  }

  void add_packed_sums(Panel& panel, typename Tiles::Space& w) const {
    if constexpr (sizeof(T) == sizeof(float))
      if (panel.packed) tiles_.packed_loops->add_sums(packed(panel, nullptr), w.packed_sums);
  }

  PackedPanel packed(const Panel& panel, const float* factors) const {
    const State& state = panel.state;
    return {panel.pairs, in_.head_dim,
            factors,     {state.top, state.max, state.sum, with_mean_ ? state.mean : nullptr},
            state.sums,  in_.value_dim};
  }

  void finish(const PanelTask& task, Workspace& w) const {
    const Sequence& s = in_.sequences[task.sequence];
    for (std::size_t p = 0; p < task.panels; ++p) finish(s, w.panels[p], w.space);
  }

  // Divides the sums of a panel by the sums of weights, and writes what the caller wants.
  void finish(const Sequence& s, Panel& panel, typename Tiles::Space& w) const {
    T* rows[max_queries];
    void* out_rows[max_queries];
    for (std::size_t i = 0; i < panel.count; ++i) {
      const std::size_t head = panel.heads[i], query = s.first_query + panel.queries_at[i];
      out_rows[i] =
          static_cast<char*>(out_.out.data) + tiles_.bytes_to(out_.out, s.query_batch, head, query);
      rows[i] = tiles_.is_half ? w.rows + i * in_.value_dim : static_cast<T*>(out_rows[i]);
      finish_row(panel, i, head, s.query_batch, query);
    }
    const std::size_t stride = tiles_.whole_vectors(in_.value_dim);
    if (!panel.few)
      tiles_.loops.unpack(panel.state.sums, panel.factor, panel.count, in_.value_dim, rows);
    for (std::size_t i = 0; panel.few && i < panel.count; ++i) {
      const T factor = panel.factor[i], *sums = panel.state.sums + i * stride;
      T* const row = rows[i];
      for (std::size_t d = 0, dim = in_.value_dim; d < dim; ++d) row[d] = sums[d] * factor;
    }
    for (std::size_t i = 0; tiles_.is_half && i < panel.count; ++i)
      tiles_.narrowed(rows[i], in_.value_dim, out_rows[i]);
  }

  // The factor of one row's sums, and its statistics.
  void finish_row(Panel& panel, std::size_t i, std::size_t head, std::size_t batch,
                  std::size_t query) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double top_logit = panel.state.top[i];
    double max = panel.state.max[i], sum = panel.state.sum[i], mean = panel.state.mean[i],
           factor = 1.0;
    const bool empty = sum == 0.0;
    if (out_.max_logit.data != nullptr)
      *out_.max_logit.at(batch, head, query) = static_cast<T>(empty ? -infinity : top_logit * ln_2);
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
  const Tiles tiles_;
  const bool with_mean_;
  std::size_t group_ = 1;
  bool parts_are_tasks_ = false;
  std::vector<PanelTask> tasks_;
};

}  // namespace

const AllAttentionLoops& attention_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
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

const AllPackedLoops* packed_loops(Isa isa) {
#if defined(LOGITKIT_HAS_AMX)
  if (isa == Isa::amx) return &amx::packed_loops;
#endif
  static_cast<void>(isa);
  return nullptr;
}

const PackedLoops* packed_bfloat16_loops(Isa isa) {
#if defined(LOGITKIT_HAS_AVX512_BF16)
  if (isa == Isa::avx512_bf16) return &avx512_bf16::packed_loops;
#endif
  const AllPackedLoops* all = packed_loops(isa);
  return all != nullptr ? &all->bfloat16 : nullptr;
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
