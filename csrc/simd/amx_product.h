// Products of matrices in tile registers. Include only from amx.cpp files.
#pragma once

#include "simd/amx.h"

namespace logitkit::amx {
namespace {

template <size_t n>
struct Constant {
  static constexpr size_t value = n;
};

/// Sums of 16 or 32 rows by 1 to 3 vectors of floats stay in registers: the numbers of tile
/// registers are part of instructions, and 0 to 2 hold those of the first 16 rows, 3 to 5 the
/// others.
template <size_t rows, size_t vectors>
void clear_sums() {
  static_assert(rows <= 2 && vectors <= 3);
  _tile_zero(0);
  if constexpr (vectors > 1) _tile_zero(1);
  if constexpr (vectors > 2) _tile_zero(2);
  if constexpr (rows > 1) _tile_zero(3);
  if constexpr (rows > 1 && vectors > 1) _tile_zero(4);
  if constexpr (rows > 1 && vectors > 2) _tile_zero(5);
}

/// Sums from and to memory where a row begins `stride` floats after the last one.
template <size_t rows, size_t vectors>
void load_sums(const float* from, size_t stride) {
  const float* next = from + side * stride;
  const auto bytes = static_cast<long>(stride * sizeof(float));
  _tile_loadd(0, from, bytes);
  if constexpr (vectors > 1) _tile_loadd(1, from + side, bytes);
  if constexpr (vectors > 2) _tile_loadd(2, from + 2 * side, bytes);
  if constexpr (rows > 1) _tile_loadd(3, next, bytes);
  if constexpr (rows > 1 && vectors > 1) _tile_loadd(4, next + side, bytes);
  if constexpr (rows > 1 && vectors > 2) _tile_loadd(5, next + 2 * side, bytes);
}

template <size_t rows, size_t vectors>
void store_sums(float* to, size_t stride) {
  float* next = to + side * stride;
  const auto bytes = static_cast<long>(stride * sizeof(float));
  _tile_stored(0, to, bytes);
  if constexpr (vectors > 1) _tile_stored(1, to + side, bytes);
  if constexpr (vectors > 2) _tile_stored(2, to + 2 * side, bytes);
  if constexpr (rows > 1) _tile_stored(3, next, bytes);
  if constexpr (rows > 1 && vectors > 1) _tile_stored(4, next + side, bytes);
  if constexpr (rows > 1 && vectors > 2) _tile_stored(5, next + 2 * side, bytes);
}

/// What is done while tile registers multiply: nothing.
struct NoWork {
  template <size_t product>
  void after() {}
};

/// A matrix of bfloat16 times another, added to the sums: `a` has 16 or 32 rows of `depth`
/// elements; `b` has 1 to 3 vectors of columns, and its rows 2 k and 2 k + 1 stand in pairs, as
/// row k. The depth is rounded up to 32, beyond which one of the two is 0 and the other finite.
/// Both are sums of `parts` matrices, the larger parts first (see split()): the part i of a and
/// the part j of b are multiplied if i + j <= 2, which leaves out less than a rounding.
template <size_t parts>
struct Product {
  const std::uint16_t* a;
  size_t a_stride, a_part;  // elements from one row, and from one part, to the next
  const std::uint32_t* b;
  size_t b_stride, b_part;  // pairs
  size_t depth;

  /// Sums are of rows * 16 rows. The processor does other work while tile registers multiply if it
  /// stands among these instructions: work.after<k>() comes after the product k of each 32 elements
  /// of depth.
  template <size_t rows, size_t vectors, class Work>
  void add(Work& work) const {
    for (size_t d = 0; d < depth; d += depth_step) add_steps<rows, vectors, 0, 0>(d, work);
  }
  template <size_t rows, size_t vectors>
  void add() const {
    NoWork none;
    add<rows, vectors>(none);
  }

 private:
  // A tile of a is loaded in each turn, those of the smallest part first, and multiplied by all
  // tiles of b that it meets, on the way back in every second turn: the first one of most turns
  // is still there then. There is less than one load for a product and a sixth.
  template <size_t rows, size_t vectors, size_t turn>
  struct Turn {
    static constexpr size_t part = parts - 1 - turn / rows, row = turn % rows;
    static constexpr size_t tiles = vectors * (parts < 3 - part ? parts : 3 - part);
    static constexpr bool back = turn % 2 == 1;
    static constexpr size_t tile(size_t step) { return back ? tiles - 1 - step : step; }
  };
  template <size_t rows, size_t vectors, size_t turn>
  static constexpr bool finds_first() {
    if constexpr (turn == 0) {
      return false;
    } else {
      using Last = Turn<rows, vectors, turn - 1>;
      return Last::tile(Last::tiles - 1) == Turn<rows, vectors, turn>::tile(0);
    }
  }

  template <size_t rows, size_t vectors, size_t turn>
  static constexpr size_t products_before() {
    if constexpr (turn == 0)
      return 0;
    else
      return products_before<rows, vectors, turn - 1>() + Turn<rows, vectors, turn - 1>::tiles;
  }

  template <size_t rows, size_t vectors, size_t turn, size_t step, class Work>
  void add_steps(size_t d, Work& work) const {
    using Now = Turn<rows, vectors, turn>;
    constexpr size_t tile = Now::tile(step), vector = tile % vectors;
    if constexpr (step == 0)
      _tile_loadd(6, a + Now::part * a_part + Now::row * side * a_stride + d,
                  static_cast<long>(a_stride * sizeof(std::uint16_t)));
    if constexpr (step > 0 || !finds_first<rows, vectors, turn>())
      _tile_loadd(7, b + tile / vectors * b_part + d / 2 * b_stride + vector * side,
                  static_cast<long>(b_stride * sizeof(std::uint32_t)));
    multiply<Now::row * 3 + vector>();
    work.template after<products_before<rows, vectors, turn>() + step>();
    if constexpr (step + 1 < Now::tiles)
      add_steps<rows, vectors, turn, step + 1>(d, work);
    else if constexpr (turn + 1 < rows * parts)
      add_steps<rows, vectors, turn + 1, 0>(d, work);
  }

  template <size_t sum>
  static void multiply() {
    if constexpr (sum == 0) _tile_dpbf16ps(0, 6, 7);
    if constexpr (sum == 1) _tile_dpbf16ps(1, 6, 7);
    if constexpr (sum == 2) _tile_dpbf16ps(2, 6, 7);
    if constexpr (sum == 3) _tile_dpbf16ps(3, 6, 7);
    if constexpr (sum == 4) _tile_dpbf16ps(4, 6, 7);
    if constexpr (sum == 5) _tile_dpbf16ps(5, 6, 7);
  }
};

}  // namespace
}  // namespace logitkit::amx
