// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/gradient_loops.h"
#include "simd/amx.h"
#include "simd/exp2.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, lanes = panel_vectors * width;
constexpr size_t block = side * depth_step, pair_block = side * width;  // of a tile register
constexpr size_t blocks_of_rows = 4;
constexpr size_t rows_of_step = GradientLoops::rows_of_step;
constexpr size_t pairs_of_step = GradientLoops::pairs_of_step;
constexpr size_t pairs_of_vector = tile_keys / depth_step * pairs_of_step;
constexpr size_t vector_of_lane_pairs = GradientLoops::most_lane_pairs * pairs_of_step;

size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

/// The elements from `begin` on of a row of `depth`, 0 beyond.
F32 load_columns(const float* row, size_t begin, size_t depth) {
  if (begin + width <= depth) return F32::load(row + begin);
  return begin < depth ? F32::load_first(row + begin, depth - begin, F32::all(0)) : F32::all(0);
}

/// Both halves of a step of one row, the smallest part first, for the order of Column.
void store_row(const Parts& first, const Parts& second, std::uint16_t* to) {
  _mm512_store_si512(to, pair(first.low, second.low));
  _mm512_store_si512(to + blocks_of_rows * block, pair(first.middle, second.middle));
  _mm512_store_si512(to + 2 * blocks_of_rows * block, pair(first.high, second.high));
}
void store_pairs(const Parts& first, const Parts& second, std::uint32_t* to) {
  _mm512_store_si512(to, pair(first.high, second.high));
  _mm512_store_si512(to + pair_block, pair(first.middle, second.middle));
  _mm512_store_si512(to + 2 * pair_block, pair(first.low, second.low));
}

__m512i magnitude(F32 x) {
  return _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7fffffff));
}
float largest_of(__m512i magnitudes) {
  const int bits = _mm512_reduce_max_epi32(magnitudes);
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
}

float largest(const float* const* rows, size_t count, size_t depth) {
  __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t j = 0; j < count; ++j)
    for (size_t d = 0; d < depth; d += 2 * width)
#pragma GCC unroll 2
      for (size_t k = 0; k < 2; ++k)
        most[k] = _mm512_max_epi32(most[k], magnitude(load_columns(rows[j], d + k * width, depth)));
  return largest_of(_mm512_max_epi32(most[0], most[1]));
}

void pack_rows(const float* const* rows, size_t count, size_t depth, std::uint16_t* to) {
  for (size_t j = 0; j < round_up(count, side); ++j)
    for (size_t d = 0; d < depth; d += depth_step) {
      const size_t columns = j < count ? depth : 0;
      const float* row = rows[j < count ? j : 0];
      store_row(split(load_columns(row, d, columns)), split(load_columns(row, d + width, columns)),
                to + d / depth_step * rows_of_step + j / side * block + j % side * depth_step);
    }
}

void pack_columns(const float* const* rows, size_t count, size_t depth, std::uint16_t* to) {
  for (size_t d = 0; d < depth; d += side)
    for (size_t j = 0; j < count; j += depth_step) {
      F32 keys[2][side];
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
        F32 x[side];
#pragma GCC unroll 16
        for (size_t k = 0; k < side; ++k) {
          const size_t key = j + half * side + k;
          x[k] = key < count ? load_columns(rows[key], d, depth) : F32::all(0);
        }
        transpose(x);
#pragma GCC unroll 16
        for (size_t k = 0; k < side; ++k) keys[half][k] = x[k];
      }
      const size_t first = d / side, steps = tile_keys / depth_step;
      std::uint16_t* at = to + (first / blocks_of_rows * steps + j / depth_step) * rows_of_step +
                          first % blocks_of_rows * block;
      for (size_t k = 0; k < side; ++k)
        store_row(split(keys[0][k]), split(keys[1][k]), at + k * depth_step);
    }
}

float pack_panel(const float* panel, size_t depth, std::uint32_t* pairs) {
  __m512i most = _mm512_setzero_si512();
  const auto row = [&](size_t d) {
    const F32 x = d < depth ? F32::load(panel + d * lanes) : F32::all(0);
    most = _mm512_max_epi32(most, magnitude(x));
    return split(x);
  };
  for (size_t d = 0; d < depth; d += depth_step)
    for (size_t k = 0; k < side; ++k)
      store_pairs(row(d + k), row(d + side + k),
                  pairs + d / depth_step * pairs_of_step + k * width);
  return largest_of(most);
}

void pack_lanes(const float* first, const float* second, size_t depth, std::uint32_t* pairs) {
  for (size_t d = 0; d < depth; d += width)
    for (size_t k = 0; k < side; ++k) {
      const auto row = [&](const float* rows) {
        return split(rows != nullptr ? F32::load(rows + k * depth + d) : F32::all(0));
      };
      store_pairs(row(first), row(second), pairs + d / width * vector_of_lane_pairs + k * width);
    }
}

/// Up to four blocks of rows times one vector of pairs. The numbers of tile registers are part of
/// instructions: 0 to 3 hold sums, 4 to 6 the parts of the pairs of a step, and each block of rows
/// comes into 7 once. There are 15 loads for 24 products, 12 of them of rows that lie one after the
/// other: these products run at the peak even where rows come from the second-level cache. Blocks
/// are those whose bits are set.
struct Column {
  unsigned blocks;

  template <size_t n, class F>
  void each(const F& f) const {
    if (blocks & (1u << n)) f(Index<n>());
    if constexpr (n + 1 < blocks_of_rows) each<n + 1>(f);
  }
  template <size_t n>
  struct Index {
    static constexpr size_t value = n;
  };

  void clear() const {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  void load(const float* from, size_t stride) const {
    each<0>([&](auto n) {
      const float* at = from + n.value * side * stride;
      const auto bytes = static_cast<long>(stride * sizeof(float));
      if constexpr (n.value == 0) _tile_loadd(0, at, bytes);
      if constexpr (n.value == 1) _tile_loadd(1, at, bytes);
      if constexpr (n.value == 2) _tile_loadd(2, at, bytes);
      if constexpr (n.value == 3) _tile_loadd(3, at, bytes);
    });
  }
  void store(float* to, size_t stride) const {
    each<0>([&](auto n) {
      float* at = to + n.value * side * stride;
      const auto bytes = static_cast<long>(stride * sizeof(float));
      if constexpr (n.value == 0) _tile_stored(0, at, bytes);
      if constexpr (n.value == 1) _tile_stored(1, at, bytes);
      if constexpr (n.value == 2) _tile_stored(2, at, bytes);
      if constexpr (n.value == 3) _tile_stored(3, at, bytes);
    });
  }

  /// Adds one step: the low parts of rows times the high ones of pairs, then middle ones times
  /// middle and high ones, then high ones times all. Calls `aside` now and then, for work that
  /// vector registers do in the meantime.
  template <class Aside>
  void add(const std::uint16_t* rows, const std::uint32_t* pairs, Aside& aside) const {
    _tile_loadd(4, pairs, 64);
    each<0>([&](auto n) {
      _tile_loadd(7, rows + n.value * block, 64);
      multiply<n.value, 0>();
    });
    aside();
    _tile_loadd(5, pairs + pair_block, 64);
    each<0>([&](auto n) {
      _tile_loadd(7, rows + (blocks_of_rows + n.value) * block, 64);
      multiply<n.value, 1>();
      multiply<n.value, 0>();
      if constexpr (n.value % 2 == 1) aside();
    });
    _tile_loadd(6, pairs + 2 * pair_block, 64);
    each<0>([&](auto n) {
      _tile_loadd(7, rows + (2 * blocks_of_rows + n.value) * block, 64);
      multiply<n.value, 2>();
      multiply<n.value, 1>();
      multiply<n.value, 0>();
      aside();
    });
  }

  template <size_t sum, size_t part>
  static void multiply() {
    if constexpr (sum == 0 && part == 0) _tile_dpbf16ps(0, 7, 4);
    if constexpr (sum == 0 && part == 1) _tile_dpbf16ps(0, 7, 5);
    if constexpr (sum == 0 && part == 2) _tile_dpbf16ps(0, 7, 6);
    if constexpr (sum == 1 && part == 0) _tile_dpbf16ps(1, 7, 4);
    if constexpr (sum == 1 && part == 1) _tile_dpbf16ps(1, 7, 5);
    if constexpr (sum == 1 && part == 2) _tile_dpbf16ps(1, 7, 6);
    if constexpr (sum == 2 && part == 0) _tile_dpbf16ps(2, 7, 4);
    if constexpr (sum == 2 && part == 1) _tile_dpbf16ps(2, 7, 5);
    if constexpr (sum == 2 && part == 2) _tile_dpbf16ps(2, 7, 6);
    if constexpr (sum == 3 && part == 0) _tile_dpbf16ps(3, 7, 4);
    if constexpr (sum == 3 && part == 1) _tile_dpbf16ps(3, 7, 5);
    if constexpr (sum == 3 && part == 2) _tile_dpbf16ps(3, 7, 6);
  }
};

/// The bits of the blocks with rows from `begin` to `end`.
unsigned blocks_between(size_t begin, size_t end) {
  return (1u << round_up(end, side) / side) - (1u << begin / side);
}

void score(const std::uint16_t* keys, const std::uint32_t* queries, size_t depth, size_t begin,
           size_t end, float* tile) {
  const Column column{blocks_between(begin, end)};
  auto nothing = [] {};
  finish_stores();
  column.clear();
  for (size_t step = 0; step * depth_step < depth; ++step)
    column.add(keys + step * rows_of_step, queries + step * pairs_of_step, nothing);
  column.store(tile, lanes);
  finish_stores();
}

template <class Aside>
void weigh(const std::uint16_t* columns, const std::uint32_t* gradients, size_t depth, size_t begin,
           size_t end, float* out, Aside& aside) {
  constexpr size_t dims = blocks_of_rows * side;
  for (size_t d = 0; d < depth; d += dims) {
    const Column column{blocks_between(0, depth - d < dims ? depth - d : dims)};
    column.load(out + d * lanes, lanes);
    for (size_t step = begin / depth_step; step * depth_step < end; ++step)
      column.add(columns + step * rows_of_step, gradients + step * pairs_of_step, aside);
    column.store(out + d * lanes, lanes);
    columns += tile_keys / depth_step * rows_of_step;
  }
}

template <class Aside>
void spread(const std::uint16_t* weights, unsigned blocks, const std::uint32_t* rows, size_t depth,
            float* out, Aside& aside) {
  const Column column{blocks};
  const size_t stride = round_up(depth, width);
  for (size_t d = 0; d < depth; d += width) {
    column.load(out + d, stride);
    column.add(weights, rows, aside);
    column.store(out + d, stride);
    rows += vector_of_lane_pairs;
  }
}

/// exp2() where denormal results are flushed: these processors are not slow then.
F32 exp2_flushed(F32 x) {
  using C = Exp2Constants<float>;
  const F32 r = fraction(x);
  F32 p = F32::all(C::c[5]);
#pragma GCC unroll 5
  for (size_t k = 5; k > 0; --k) p = fma(p, r, F32::all(C::c[k - 1]));
  return {_mm512_scalef_ps(fma(p, r, F32::all(1)).v, x.v)};
}

using Lanes = GradientLoops::Lanes;

/// Packed weights and gradients of two vectors of lanes.
struct Graded {
  std::uint16_t *weights, *gradients;
  std::uint32_t* pairs;
};

/// Makes weights and gradients of two vectors of lanes, some keys in each turn.
class Grading {
 public:
  Grading(const Lanes* const (&of)[2], bool is_graded, const Graded& to)
      : of_{of[0], of[1]}, is_graded_(is_graded), to_(to), most_(_mm512_setzero_si512()) {
    size_t begin = tile_keys, end = 0;
    for (size_t v = 0; v < 2; ++v) {
      if (of[v]->begin == of[v]->end) continue;
      begin = of[v]->begin < begin ? of[v]->begin : begin;
      end = of[v]->end > end ? of[v]->end : end;
    }
    if (begin >= end) return;
    blocks_ = blocks_between(begin, end);
    now_ = begin / depth_step * depth_step;
    last_ = round_up(end, depth_step);
  }

  /// A turn, if there is one left: the key k of a step in even ones, and k + 16 in odd ones.
  void operator()() {
    if (now_ == last_) return;
    const size_t turn = now_++;
    if (is_graded_)
      add_key<Kind::graded>(turn);
    else if (of_[0]->slopes != nullptr || of_[1]->slopes != nullptr)
      add_key<Kind::with_slopes>(turn);
    else
      add_key<Kind::plain>(turn);
  }
  void skip() { now_ = last_; }
  void finish() {
    while (now_ != last_) (*this)();
  }

  const Graded& graded() const { return to_; }
  const Lanes& lanes(size_t v) const { return *of_[v]; }
  unsigned blocks() const { return blocks_; }
  float largest() const { return largest_of(most_); }

 private:
  enum class Kind { graded, plain, with_slopes };

  struct Item {
    Parts weight, gradient;
  };

  // See grade() of make_loops.h: the same numbers, but for sums that are not finite, with which
  // this is done again there.
  template <Kind kind>
  Item item(size_t v, size_t key) {
    const Lanes& of = *of_[v];
    const auto seen = static_cast<__mmask16>(-(of.begin <= key && key < of.end));
    const float* z = of.logits + key * amx::lanes;
    const F32 product = {_mm512_maskz_loadu_ps(seen, of.products + key * amx::lanes)};
    // Nothing is there where nothing is seen.
    const auto of_lanes = [&](const float* x) { return F32{_mm512_maskz_loadu_ps(seen, x)}; };
    F32 p, gradient;
    if constexpr (kind == Kind::graded) {
      p = {_mm512_maskz_loadu_ps(seen, z)};
      gradient = product;
    } else {
      const __m512 hidden = _mm512_set1_ps(-__builtin_inff());
      const F32 t = F32{_mm512_mask_loadu_ps(hidden, seen, z)} - of_lanes(of.logsumexp);
      p = exp2_flushed(t);
      F32 sum = product + of_lanes(of.terms);
      if constexpr (kind == Kind::with_slopes)
        sum = fnma(of_lanes(of.slopes), max(F32::all(-256.0f), t), sum);
      gradient = p * sum;
    }
    most_ = _mm512_max_epi32(most_, magnitude(gradient));
    return {split(p), split(gradient)};
  }

  template <Kind kind>
  void add_key(size_t turn) {
    const size_t step = turn / depth_step, k = turn % depth_step / 2, half = turn % 2;
    const size_t key = step * depth_step + half * side + k;
    const size_t row = 2 * step * block + k * depth_step;
    const Item first = item<kind>(0, key), second = item<kind>(1, key);
    store_row(first.weight, second.weight, to_.weights + row + half * block);
    std::uint16_t* gradients = to_.gradients + row;
    store_row(first.gradient, second.gradient, gradients + half * block);
    if (half == 0) return;
    std::uint32_t* pairs = to_.pairs + step * pairs_of_step + k * width;
#pragma GCC unroll 3
    for (size_t part = 0; part < 3; ++part) {
      // What was stored for key - 16 and now: each lane holds both vectors.
      const std::uint16_t* at = gradients + (2 - part) * blocks_of_rows * block;
      const __m512i even = _mm512_load_si512(at), odd = _mm512_load_si512(at + block);
      _mm512_store_si512(pairs + part * pair_block,
                         _mm512_mask_blend_epi16(0xaaaaaaaa, even, _mm512_slli_epi32(odd, 16)));
      _mm512_store_si512(pairs + part * pair_block + pairs_of_vector, pair(even, odd));
    }
  }

  const Lanes* of_[2];
  bool is_graded_;
  Graded to_;
  __m512i most_;
  size_t now_ = 0, last_ = 0;
  unsigned blocks_ = 0;
};

template <class Aside>
void add_products(const GradientLoops::Tile& tile, const Grading& lanes, size_t pair,
                  Aside& aside) {
  const Graded& graded = lanes.graded();
  spread(graded.weights, lanes.blocks(), tile.grad_rows + pair * pairs_of_step, tile.value_dim,
         tile.grad_values, aside);
  spread(graded.gradients, lanes.blocks(), tile.query_rows + pair * pairs_of_step, tile.head_dim,
         tile.grad_keys, aside);
  for (size_t v = 0; v < 2; ++v) {
    const Lanes& of = lanes.lanes(v);
    if (of.begin < of.end)
      weigh(tile.columns, graded.pairs + v * pairs_of_vector, tile.head_dim, of.begin, of.end,
            of.sums, aside);
  }
}

unsigned add(const GradientLoops::Tile& tile, float most) {
  constexpr size_t size = GradientLoops::space / 2;
  static_assert(size == 2 * rows_of_step + 4 * pairs_of_vector);
  const auto grading = [&](size_t pair) {
    std::uint16_t* space = tile.space + pair % 2 * size;
    auto* pairs = reinterpret_cast<std::uint32_t*>(space + 2 * rows_of_step);
    const Lanes* const of[2] = {tile.lanes + 2 * pair, tile.lanes + 2 * pair + 1};
    return Grading(of, tile.is_graded, {space, space + rows_of_step, pairs});
  };
  unsigned failed = 0;
  finish_stores();
  Grading now = grading(0);
  now.finish();
  for (size_t pair = 0; pair < tile.lane_pairs; ++pair) {
    const bool is_last = pair + 1 == tile.lane_pairs;
    Grading next = grading(is_last ? pair : pair + 1);
    if (is_last) next.skip();
    finish_stores();
    if (now.blocks() != 0 && now.largest() <= most)
      add_products(tile, now, pair, next);
    else if (now.blocks() != 0)
      failed |= 1u << pair;
    next.finish();
    now = next;
  }
  finish_stores();
  return failed;
}

}  // namespace

const GradientLoops gradient_loops = {begin,      end,        largest, pack_rows, pack_columns,
                                      pack_panel, pack_lanes, score,   add};

}  // namespace logitkit::amx
