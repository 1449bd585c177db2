// Products of matrices in tile registers. Include only from amx.cpp files and their like.
#pragma once

#include "simd/amx.h"
#include "simd/pace.h"

namespace logitkit::amx {
namespace {

/// The bits of the blocks with rows from `begin` to `end`.
inline unsigned blocks_between(size_t begin, size_t end) {
  return (1u << round_up(end, side) / side) - (1u << begin / side);
}

/// What is done while tile registers multiply: nothing.
struct NoWork {
  void after() {}
};

/// Up to four blocks of 16 rows times one vector of pairs, of matrices that are sums of `parts` of
/// bfloat16 (see split()): the part i of one and the part j of the other are multiplied if
/// i + j < parts, or all of them. Rows lie as rows[part][block][row][32 elements], the smallest
/// part first, and pairs as pairs[part][16 pairs of elements][column], the largest part first, for
/// each step of 32 elements.
///
/// The numbers of tile registers are part of instructions: 0 to 3 hold sums, 4 to 6 the parts of
/// the pairs of a step, and each block of rows comes into 7 once. Of three parts there are 15 loads
/// for 24 products, 12 of them of rows that lie one after the other: these products run at the peak
/// even where rows come from the second-level cache. Blocks are those whose bits are set.
template <size_t parts, bool all = false>
struct Column {
  static constexpr size_t rows_of_step = StepLayout<parts>::rows_of_step;
  static constexpr size_t pairs_of_step = StepLayout<parts>::pairs_of_step;
  static constexpr size_t products = all ? parts * parts : parts * (parts + 1) / 2;  // of a block

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
  /// Sums from and to memory where a row begins `stride` floats after the last one.
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

  /// Adds sums to memory. They begin at 0, for their error does then not grow with the number of
  /// tiles where all that is summed has one sign.
  void store_added(float* to, size_t stride) const {
    alignas(64) float sums[blocks_of_rows * side * side];
    store(sums, side);
    finish_stores();
    each<0>([&](auto n) {
      for (size_t j = n.value * side; j < (n.value + 1) * side; ++j)
        (F32::load(to + j * stride) + F32::load(sums + j * side)).store(to + j * stride);
    });
  }

  /// Adds one step, products of small parts first. The processor does other work while tile
  /// registers multiply if it stands among these instructions: work.after() comes after each
  /// product.
  template <class Work>
  void add(const std::uint16_t* rows, const std::uint32_t* pairs, Work& work) const {
    add_part<0>(rows, pairs, work);
  }
  void add(const std::uint16_t* rows, const std::uint32_t* pairs) const {
    NoWork none;
    add(rows, pairs, none);
  }

 private:
  // The rows of the part parts - 1 - turn.
  template <size_t turn, class Work>
  void add_part(const std::uint16_t* rows, const std::uint32_t* pairs, Work& work) const {
    constexpr size_t meets = all ? parts : turn + 1;  // parts of pairs
    if constexpr (turn == 0 || !all) load_pairs<turn, meets>(pairs);
    each<0>([&](auto n) {
      _tile_loadd(7, rows + (turn * blocks_of_rows + n.value) * block, 64);
      multiply_parts<n.value, meets>(work);
    });
    if constexpr (turn + 1 < parts) add_part<turn + 1>(rows, pairs, work);
  }

  template <size_t part, size_t end>
  static void load_pairs(const std::uint32_t* pairs) {
    if constexpr (part == 0) _tile_loadd(4, pairs, 64);
    if constexpr (part == 1) _tile_loadd(5, pairs + pair_block, 64);
    if constexpr (part == 2) _tile_loadd(6, pairs + 2 * pair_block, 64);
    if constexpr (part + 1 < end) load_pairs<part + 1, end>(pairs);
  }

  // With the parts of pairs before `end`, the last one first.
  template <size_t sum, size_t end, class Work>
  static void multiply_parts(Work& work) {
    multiply<sum, end - 1>();
    work.after();
    if constexpr (end > 1) multiply_parts<sum, end - 1>(work);
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

}  // namespace
}  // namespace logitkit::amx
