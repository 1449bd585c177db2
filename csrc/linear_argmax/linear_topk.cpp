#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "aligned.h"
#include "linear_argmax/linear_argmax.h"

namespace logitkit {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct Candidate {
  float score;
  std::int64_t index;
};

// Whether a comes before b in the result.
bool ahead(const Candidate& a, const Candidate& b) {
  if (std::isnan(a.score) != std::isnan(b.score)) return std::isnan(a.score);
  if (a.score > b.score) return true;
  if (a.score < b.score) return false;
  return a.index < b.index;
}

// The best k candidates of one row of x: a heap with the last of them on top.
class Best {
 public:
  Best(Candidate* heap, std::size_t k) : heap_(heap), k_(k) {}

  void offer(const Candidate& candidate) {
    if (size_ == k_) {
      if (!ahead(candidate, heap_[0])) return;
      std::pop_heap(heap_, heap_ + size_--, ahead);
    }
    heap_[size_++] = candidate;
    std::push_heap(heap_, heap_ + size_, ahead);
  }

  // Any score that is not above this one would be refused. NaN while there is room, since
  // nothing compares <= NaN.
  float threshold() const {
    return size_ == k_ ? heap_[0].score : std::numeric_limits<float>::quiet_NaN();
  }

  void sort() { std::sort_heap(heap_, heap_ + size_, ahead); }

 private:
  Candidate* heap_;
  std::size_t k_, size_ = 0;
};

}  // namespace

void linear_topk(const Matrix& x, const Matrix& weight, const float* bias, std::size_t k,
                 float* values, std::int64_t* indices, std::size_t threads, Isa isa) {
  const ArgmaxLoops& argmax = argmax_loops(isa);
  const std::size_t lanes = score_loops(isa).lanes;
  std::vector<Candidate> heaps(x.rows * k);
  std::vector<Best> best;
  for (std::size_t i = 0; i < x.rows; ++i) best.emplace_back(heaps.data() + i * k, k);
  Aligned<float> thresholds((x.rows + lanes - 1) / lanes * max_lanes);

  stream_scores(x, weight, isa, threads, [&](std::size_t panel, const Tile& tile) {
    const float* tile_bias = bias != nullptr ? bias + tile.first_row : no_bias();
    const std::size_t first = panel * lanes, live = std::min(lanes, x.rows - first);
    float* threshold = thresholds.data() + panel * max_lanes;
    if (tile.first_row == 0)
      for (std::size_t i = 0; i < lanes; ++i)
        threshold[i] = i < live ? best[first + i].threshold() : infinity;
    std::uint64_t above[tile_rows];
    argmax.compare(tile.scores, tile.rows, tile_bias, threshold, above);
    for (std::size_t r = 0; r < tile.rows; ++r)
      for (std::size_t i = 0; above[r] >> i != 0 && i < live; ++i)
        if ((above[r] >> i & 1) != 0) {
          best[first + i].offer({tile.scores[r * lanes + i] + tile_bias[r],
                                 static_cast<std::int64_t>(tile.first_row + r)});
          threshold[i] = best[first + i].threshold();
        }
  });

  for (std::size_t i = 0; i < x.rows; ++i) {
    best[i].sort();
    for (std::size_t r = 0; r < k; ++r) {
      values[i * k + r] = heaps[i * k + r].score;
      indices[i * k + r] = heaps[i * k + r].index;
    }
  }
}

}  // namespace logitkit
