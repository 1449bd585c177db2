// Weights and gradients of tiles of logits for tile registers. Include only from amx.cpp files and
// their like.
#pragma once

#include "attention/exp2_flushed_avx512.h"
#include "attention/gradient_loops.h"
#include "simd/amx_product.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, lanes = panel_vectors * width;
constexpr size_t rows_of_step = GradientLoops::rows_of_step;
constexpr size_t pairs_of_step = GradientLoops::pairs_of_step;
constexpr size_t most_lane_pairs = GradientLoops::most_lane_pairs;
static_assert(rows_of_step == Column<3>::rows_of_step && pairs_of_step == Column<3>::pairs_of_step);

/// Both halves of a step of one row, the smallest part first, for the order of Column.
inline void store_row(const Parts& first, const Parts& second, std::uint16_t* to) {
  _mm512_store_si512(to, pair(first.low, second.low));
  _mm512_store_si512(to + blocks_of_rows * block, pair(first.middle, second.middle));
  _mm512_store_si512(to + 2 * blocks_of_rows * block, pair(first.high, second.high));
}
inline void store_pairs(const Parts& first, const Parts& second, std::uint32_t* to) {
  _mm512_store_si512(to, pair(first.high, second.high));
  _mm512_store_si512(to + pair_block, pair(first.middle, second.middle));
  _mm512_store_si512(to + 2 * pair_block, pair(first.low, second.low));
}

inline __m512i magnitude(F32 x) {
  return _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7fffffff));
}
inline float largest_of(__m512i magnitudes) {
  const int bits = _mm512_reduce_max_epi32(magnitudes);
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
}

/// What a tile is made into, for each pair of vectors of lanes: weights and gradients as rows of
/// keys, with the lanes of the pair as a step, and gradients as pairs of keys for each vector.
struct Graded {
  static constexpr size_t pairs_of_vector = tile_keys / depth_step * pairs_of_step;
  static_assert(GradientLoops::space ==
                2 * most_lane_pairs * (rows_of_step + 2 * pairs_of_vector));  // in 16 bits

  explicit Graded(std::uint16_t* space) : rows_(space) {}
  std::uint16_t* weights(size_t pair) const { return rows_ + pair * rows_of_step; }
  std::uint16_t* gradients(size_t pair) const { return weights(most_lane_pairs + pair); }
  std::uint32_t* pairs(size_t vector) const {
    return reinterpret_cast<std::uint32_t*>(weights(2 * most_lane_pairs)) +
           vector * pairs_of_vector;
  }

 private:
  std::uint16_t* rows_;
};

/// Makes the weights and gradients of a tile, two keys of a pair of vectors at a time, as the work
/// of Column::add().
class Grading {
 public:
  /// Gradients are to be at most `most`.
  Grading(GradientLoops::Tile& tile, float most) : tile_(tile), to_(tile.space), most_(most) {
    for (unsigned& blocks : tile.blocks) blocks = 0;
    start_pair(0);
  }

  /// Says beside how many products it is done.
  void spread_over(size_t products) {
    size_t parts = 0;
    for (size_t k = pair_; k < most_lane_pairs; ++k) {
      const Range range = range_of(k);
      parts += (range.end - range.begin) / keys_at_once;
    }
    pace_.spread(parts, products);
  }
  [[gnu::always_inline]] void after() {
    pace_.after([this] { do_some(); });
  }
  void finish() {
    while (pair_ < most_lane_pairs) do_some();
  }

  /// The pairs with other gradients, one bit for each: they are to be left out.
  unsigned failed() const { return failed_; }

 private:
  static constexpr size_t keys_at_once = 2;
  using Lanes = GradientLoops::Lanes;
  struct Range {
    size_t begin, end;  // in whole steps
  };
  enum class Kind { plain, with_slopes, graded };

  const Lanes* lanes_of(size_t pair) const { return tile_.lanes + 2 * pair; }

  // The keys that one of the vectors of a pair sees.
  Range range_of(size_t pair) const {
    const Lanes *first = lanes_of(pair), *second = first + 1;
    if (first->begin == first->end) first = second;
    if (second->begin == second->end) second = first;
    if (first->begin == first->end) return {0, 0};
    const size_t begin = first->begin < second->begin ? first->begin : second->begin;
    const size_t end = first->end > second->end ? first->end : second->end;
    return {begin / depth_step * depth_step, round_up(end, depth_step)};
  }

  void start_pair(size_t pair) {
    for (pair_ = pair; pair_ < most_lane_pairs; ++pair_) {
      range_ = range_of(pair_);
      if (range_.begin == range_.end) continue;
      row_ = range_.begin;
      largest_ = _mm512_setzero_si512();
      for (size_t v = 0; v < 2; ++v) {
        // Of a vector that sees nothing no memory is touched.
        const Lanes& of = lanes_of(pair_)[v];
        const auto any = static_cast<__mmask16>(-(of.begin < of.end && !tile_.is_graded));
        logsumexp_[v].v = _mm512_maskz_loadu_ps(any, of.logsumexp);
        terms_[v].v = _mm512_maskz_loadu_ps(any, of.terms);
        if (any != 0 && of.slopes != nullptr) has_slopes_ = true;
        slopes_[v].v = _mm512_maskz_loadu_ps(has_slopes_ ? any : 0, of.slopes);
      }
      return;
    }
  }

  [[gnu::noinline]] void do_some() {
    if (pair_ == most_lane_pairs) return;
    const size_t step = row_ / depth_step * depth_step;
    bool sees_all = true;
    for (size_t v = 0; v < 2; ++v) {
      const Lanes& of = lanes_of(pair_)[v];
      sees_all = sees_all && of.begin <= step && step + depth_step <= of.end;
    }
    const auto make = [&](auto kind) {
      sees_all ? make_rows<decltype(kind)::value, true>()
               : make_rows<decltype(kind)::value, false>();
    };
    if (tile_.is_graded)
      make(Of<Kind::graded>());
    else if (has_slopes_)
      make(Of<Kind::with_slopes>());
    else
      make(Of<Kind::plain>());
    if (++row_ % side == 0) row_ += side;
    if (row_ == range_.end) finish_pair();
  }
  template <Kind kind>
  struct Of {
    static constexpr Kind value = kind;
  };

  // The keys `row_` and `row_` + 16. See grade() of weights.h: the same numbers, but for sums
  // that are not finite, with which this is done again there.
  template <Kind kind, bool sees_all>
  void make_rows() {
    const size_t at = row_ / side * block + row_ % side * depth_step;
    std::uint16_t *const weights = to_.weights(pair_) + at, *const gradients =
                                                                to_.gradients(pair_) + at;
    std::uint32_t* const pairs =
        to_.pairs(2 * pair_) + row_ / depth_step * pairs_of_step + row_ % side * width;
    F32 weight[4], gradient[4];  // of both vectors for the first key, then for the second
    const F32 hidden = F32::all(kind == Kind::graded ? 0.0f : -__builtin_inff());
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      const Lanes& of = lanes_of(pair_)[i % 2];
      const size_t key = row_ + i / 2 * side;
      const bool sees = sees_all || (of.begin <= key && key < of.end);
      const auto seen = static_cast<__mmask16>(sees ? 0xffff : 0);
      const size_t at = sees ? key * lanes : 0;  // in what may be null
      weight[i].v = _mm512_mask_loadu_ps(hidden.v, seen, of.logits + at);
      gradient[i].v = _mm512_maskz_loadu_ps(seen, of.products + at);
    }
    if constexpr (kind != Kind::graded) {
      F32 t[4];
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i) weight[i] = t[i] = weight[i] - logsumexp_[i % 2];
      exp2_flushed(weight);
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i) {
        gradient[i] = gradient[i] + terms_[i % 2];
        if constexpr (kind == Kind::with_slopes)
          gradient[i] = fnma(slopes_[i % 2], max(F32::all(-256.0f), t[i]), gradient[i]);
        gradient[i] = weight[i] * gradient[i];
      }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) largest_ = _mm512_max_epi32(largest_, magnitude(gradient[i]));
    const Parts w[4] = {split(weight[0]), split(weight[1]), split(weight[2]), split(weight[3])};
    store_row(w[0], w[1], weights);
    store_row(w[2], w[3], weights + block);
    const Parts g[4] = {split(gradient[0]), split(gradient[1]), split(gradient[2]),
                        split(gradient[3])};
    store_row(g[0], g[1], gradients);
    store_row(g[2], g[3], gradients + block);
    store_pairs(g[0], g[2], pairs);
    store_pairs(g[1], g[3], pairs + Graded::pairs_of_vector);
  }

  void finish_pair() {
    if (largest_of(largest_) <= most_)
      tile_.blocks[pair_] = blocks_between(range_.begin, range_.end);
    else
      failed_ |= 1u << pair_;
    start_pair(pair_ + 1);
  }

  GradientLoops::Tile& tile_;
  const Graded to_;
  const float most_;
  Pace pace_;
  size_t pair_, row_;  // what is next
  Range range_;
  bool has_slopes_ = false;
  unsigned failed_ = 0;
  __m512i largest_;
  F32 logsumexp_[2], terms_[2], slopes_[2];
};

}  // namespace
}  // namespace logitkit::amx
