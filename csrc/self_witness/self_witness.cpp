#include "self_witness/self_witness.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <vector>

#include "gemm/scratch.h"
#include "threads.h"

namespace logitkit {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::size_t panels_in_group = 4;  // go over a tile's rows while these are in the cache

const WitnessLoops& witness_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::avx512: return avx512::witness_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::witness_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::witness_loops;
#endif
    default: return scalar::witness_loops;
  }
}

struct Problem {
  const Matrix& z;
  const float* tails;
  const float* squares;
  const ScoreLoops& score;
  const WitnessLoops& witness;

  std::size_t last_step() const { return witness_tails(z.columns) - 1; }
  float tail(std::size_t step, std::size_t j) const { return tails[step * z.rows + j]; }
};

// Lowers a slack to a margin; what is not positive, or NaN, is a failure.
void lower(float& slack, float margin) {
  if (!(margin >= slack)) slack = margin > 0.0f ? margin : 0.0f;
}

// A margin is a difference of two floats, rounded to nearest: makes it a lower bound again.
float round_down(float margin) { return margin * (1.0f - 0x1p-22f); }

// A tile's extremes: no row is shorter, none has a longer tail before the first step.
struct Extremes {
  float least_square = infinity, greatest_tail = 0.0f;
};

std::vector<Extremes> tile_extremes(const Problem& problem) {
  std::vector<Extremes> tiles((problem.z.rows + tile_rows - 1) / tile_rows);
  for (std::size_t j = 0; j < problem.z.rows; ++j) {
    Extremes& tile = tiles[j / tile_rows];
    tile.least_square = std::min(tile.least_square, problem.squares[j]);
    tile.greatest_tail = std::max(tile.greatest_tail, problem.tail(0, j));
  }
  return tiles;
}

// Rows [first_row, first_row + rows) of z as lanes, and what is known of them.
struct Panel {
  std::size_t first_row, rows;
  const float* packed;                   // [column][lane]
  const float* tails;                    // [step][lane]
  std::size_t first_check = 1;           // the step after which the next tile is looked at first
  std::size_t quiet = 0;                 // tiles in a row in which that look left next to nothing
  alignas(64) float squares[max_lanes];  // +inf in lanes without a row
  float slack[max_lanes];
  float limits[max_lanes];  // of the tile at hand: what a lane's bounds must stay below
  float worst[max_lanes];   // and how high they came

  bool has_failed() const {
    return std::any_of(slack, slack + rows, [](float s) { return s <= 0.0f; });
  }
};

// One group of panels against all tiles from its own on.
class Walk {
 public:
  Walk(const Problem& problem, const std::vector<Extremes>& extremes, std::size_t begin,
       std::size_t end, const float* slack)
      : problem_(problem),
        extremes_(extremes),
        lanes_(problem.score.lanes),
        packed_((panels_in_group * problem.z.columns) * lanes_),
        lane_tails_(panels_in_group * (problem.last_step() + 1) * lanes_),
        tile_(tile_rows * lanes_),
        row_slack(problem.z.rows, infinity) {
    for (std::size_t row = begin; row < end; row += lanes_)
      add_panel(row, std::min(lanes_, end - row), slack);
  }

  void run() {
    for (std::size_t t = panels_.front().first_row / tile_rows; t < extremes_.size(); ++t)
      for (Panel& panel : panels_)
        if (t >= panel.first_row / tile_rows) visit(panel, t);
    for (const Panel& panel : panels_)
      for (std::size_t i = 0; i < panel.rows; ++i)
        lower(row_slack[panel.first_row + i], panel.slack[i]);
  }

 private:
  void add_panel(std::size_t first_row, std::size_t rows, const float* slack) {
    const std::size_t n = problem_.z.rows, depth = problem_.z.columns, p = panels_.size();
    float* packed = packed_.data() + p * depth * lanes_;
    float* tails = lane_tails_.data() + p * (problem_.last_step() + 1) * lanes_;
    problem_.score.pack(problem_.z.data + first_row * depth, depth, rows, depth, packed);
    for (std::size_t s = 0; s <= problem_.last_step(); ++s) {
      std::copy_n(problem_.tails + s * n + first_row, rows, tails + s * lanes_);
      std::fill_n(tails + s * lanes_ + rows, lanes_ - rows, 0.0f);
    }
    Panel panel;
    panel.first_row = first_row, panel.rows = rows, panel.packed = packed, panel.tails = tails;
    std::fill_n(panel.squares, max_lanes, infinity);
    std::fill_n(panel.slack, max_lanes, infinity);
    std::fill_n(panel.limits, max_lanes, infinity);
    std::copy_n(problem_.squares + first_row, rows, panel.squares);
    std::copy_n(slack + first_row, rows, panel.slack);
    panels_.push_back(panel);
  }

  // Sets what bounds must stay below for lane and row to be safe from each other. A failed
  // lane is past saving, but rows must be safe from it; if even the product of the lengths
  // shows that, it has no limit, and lowers `margin`. Returns whether any lane has a limit.
  bool set_limits(Panel& panel, const Extremes& tile, float& margin) const {
    for (std::size_t i = 0; i < panel.rows; ++i)
      panel.limits[i] = std::min(panel.squares[i], tile.least_square);
    if (!panel.has_failed()) return true;
    bool any = false;
    for (std::size_t i = 0; i < panel.rows; ++i) {
      if (panel.slack[i] <= 0.0f) {
        const double product = double{panel.tails[i]} * double{tile.greatest_tail};
        const auto apart = static_cast<float>(double{tile.least_square} - product);
        panel.limits[i] = apart > 0.0f ? infinity : tile.least_square;
        if (apart > 0.0f) margin = std::min(margin, apart);
      }
      any |= panel.limits[i] < infinity;
    }
    return any;
  }

  void visit(Panel& panel, std::size_t t) {
    const std::size_t begin = t * tile_rows;
    const std::size_t count = std::min(tile_rows, problem_.z.rows - begin);
    float margin = infinity;  // between the tile's rows and all lanes
    if (set_limits(panel, extremes_[t], margin)) {
      std::fill_n(panel.worst, max_lanes, -infinity);
      compare(panel, begin, count);
      for (std::size_t i = 0; i < panel.rows; ++i) {
        const float lane_margin = panel.limits[i] - panel.worst[i];
        margin = std::min(margin, lane_margin);
        panel.slack[i] = std::min(panel.slack[i], lane_margin);
      }
    }
    for (std::size_t j = begin; j < begin + count; ++j)
      row_slack[j] = std::min(row_slack[j], margin);
  }

  // Adds up products until every row of the tile is pruned or complete.
  void compare(Panel& panel, std::size_t begin, std::size_t count) {
    std::uint32_t rows[tile_rows], survivors[tile_rows];
    const float* from[tile_rows];
    float row_tails[tile_rows];
    for (std::size_t r = 0; r < count; ++r) rows[r] = static_cast<std::uint32_t>(begin + r);

    std::size_t depth = 0;
    for (std::size_t step = panel.first_check;; ++step) {
      const std::size_t end = std::min(step * witness_step, problem_.z.columns);
      const float* lane_tails = panel.tails + step * lanes_;
      for (std::size_t r = 0; r < count; ++r) {
        from[r] = problem_.z.data + rows[r] * problem_.z.columns + depth;
        row_tails[r] = problem_.tail(step, rows[r]);
      }
      problem_.score.score(panel.packed + depth * lanes_, from, 1, count, end - depth, depth > 0,
                           tile_.data());
      multiply_adds += count * lanes_ * (end - depth);
      if (depth == 0) leave_out_diagonal(panel, begin, count);
      const std::size_t left = problem_.witness.prune(tile_.data(), count, lane_tails, row_tails,
                                                      panel.limits, panel.worst, survivors);
      if (depth == 0) aim(panel, left, count);
      for (std::size_t r = 0; r < left; ++r) {
        rows[r] = rows[survivors[r]];
        row_tails[r] = row_tails[survivors[r]];
        std::copy_n(tile_.data() + survivors[r] * lanes_, lanes_, tile_.data() + r * lanes_);
      }
      if (step == problem_.last_step()) settle(panel, rows, left, lane_tails, row_tails);
      if (step == problem_.last_step() || left == 0) return;
      depth = end;
      count = left;
    }
  }

  // A class is not compared with itself. -inf stays -inf whatever is added.
  void leave_out_diagonal(const Panel& panel, std::size_t begin, std::size_t count) {
    for (std::size_t i = 0; i < panel.rows; ++i)
      if (const std::size_t r = panel.first_row + i - begin; r < count)
        tile_.data()[r * lanes_ + i] = -infinity;
  }

  // Neighbouring tiles are alike: looks later when much survived, and now and then earlier.
  void aim(Panel& panel, std::size_t left, std::size_t count) const {
    panel.quiet = 16 * left <= count ? panel.quiet + 1 : 0;
    if (2 * left > count && panel.first_check < problem_.last_step()) ++panel.first_check;
    if (panel.quiet >= 4 && panel.first_check > 1) {
      --panel.first_check;
      panel.quiet = 0;
    }
  }

  // Complete rows, pair by pair.
  void settle(Panel& panel, const std::uint32_t* rows, std::size_t count, const float* lane_tails,
              const float* row_tails) {
    for (std::size_t r = 0; r < count; ++r) {
      const float* products = tile_.data() + r * lanes_;
      float& slack = row_slack[rows[r]];
      for (std::size_t i = 0; i < panel.rows; ++i) {
        const double bound = double{products[i]} + double{lane_tails[i]} * double{row_tails[r]};
        lower(panel.slack[i], static_cast<float>(double{panel.squares[i]} - bound));
        lower(slack, static_cast<float>(double{problem_.squares[rows[r]]} - bound));
      }
    }
  }

  const Problem& problem_;
  const std::vector<Extremes>& extremes_;
  std::size_t lanes_;
  Scratch packed_, lane_tails_, tile_;
  std::vector<Panel> panels_;

 public:
  std::vector<float> row_slack;  // of every row of z, +inf where nothing is known
  std::uint64_t multiply_adds = 0;
};

}  // namespace

std::uint64_t self_witness(const Matrix& z, const float* tails, const float* squares,
                           std::size_t begin, std::size_t end, float* slack, std::size_t threads,
                           Isa isa) {
  const Problem problem = {z, tails, squares, score_loops(isa), witness_loops(isa)};
  const std::vector<Extremes> extremes = tile_extremes(problem);
  const std::size_t group = panels_in_group * problem.score.lanes;
  std::vector<float> least(z.rows, infinity);
  std::uint64_t multiply_adds = 0;
  std::mutex merging;
  parallel_for((end - begin + group - 1) / group, threads, [&](std::size_t g) {
    const std::size_t first = begin + g * group;
    Walk walk(problem, extremes, first, std::min(first + group, end), slack);
    walk.run();
    const std::lock_guard<std::mutex> lock(merging);
    for (std::size_t j = 0; j < z.rows; ++j) least[j] = std::min(least[j], walk.row_slack[j]);
    multiply_adds += walk.multiply_adds;
  });
  for (std::size_t j = 0; j < z.rows; ++j) slack[j] = std::min(slack[j], round_down(least[j]));
  return multiply_adds;
}

}  // namespace logitkit
