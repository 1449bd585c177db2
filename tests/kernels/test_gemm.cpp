// csrc/gemm, for every instruction set of this machine
#include "gemm/score.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "aligned.h"
#include "expect.h"
#include "gemm/parts.h"
#include "unit_in_use.h"

namespace logitkit::test {
namespace {

// Sizes are exact, for the sanitizer to see an over-read.
std::vector<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> x(count);
  for (float& value : x) value = distribution(random);
  return x;
}

std::vector<const float*> rows_of(const std::vector<float>& b, std::size_t count,
                                  std::size_t stride) {
  std::vector<const float*> rows;
  for (std::size_t j = 0; j < count; ++j) rows.push_back(b.data() + j * stride);
  return rows;
}

void test_pack(const ScoreLoops& loops) {
  for (const std::size_t rows : {std::size_t{1}, loops.lanes / 2 + 1, loops.lanes})
    for (const std::size_t depth : {1u, 7u, 8u, 15u, 16u, 17u, 33u}) {
      const std::size_t stride = depth + 3;
      const std::vector<float> a = normal((rows - 1) * stride + depth, 1);
      Aligned<float> panel(depth * loops.lanes);
      loops.pack(a.data(), stride, rows, depth, panel.data());
      bool right = true;
      for (std::size_t k = 0; k < depth; ++k)
        for (std::size_t i = 0; i < loops.lanes; ++i)
          right =
              right && panel.data()[k * loops.lanes + i] == (i < rows ? a[i * stride + k] : 0.0f);
      expect(right, "a packed panel is the transpose, filled up with zeros");
    }
}

// The contract in score.h: the sum in order of k, for every number of rows and any cut.
void test_score(const ScoreLoops& loops) {
  constexpr std::size_t depth = 37;
  const std::vector<float> a = normal(loops.lanes * depth, 2), b = normal(tile_rows * depth, 3);
  Aligned<float> panel(depth * loops.lanes), whole(tile_rows * loops.lanes),
      cut(tile_rows * loops.lanes);
  loops.pack(a.data(), depth, loops.lanes, depth, panel.data());
  for (std::size_t rows = 1; rows <= tile_rows; ++rows) {
    loops.score(panel.data(), rows_of(b, rows, depth).data(), 1, rows, depth, false, whole.data());
    bool within = true;
    for (std::size_t j = 0; j < rows; ++j)
      for (std::size_t i = 0; i < loops.lanes; ++i) {
        double exact = 0.0, size = 0.0;
        for (std::size_t k = 0; k < depth; ++k) {
          const double term = double{a[i * depth + k]} * double{b[j * depth + k]};
          exact += term;
          size += std::abs(term);
        }
        const double error = std::abs(double{whole.data()[j * loops.lanes + i]} - exact);
        within = within && error <= 1.0001 * depth * 0x1p-24 * size;
      }
    expect(within, "scores are within the bound");

    const std::vector<const float*> heads = rows_of(b, rows, depth);
    std::vector<const float*> rest = heads;
    for (const float*& row : rest) row += 20;
    loops.score(panel.data(), heads.data(), 1, rows, 20, false, cut.data());
    loops.score(panel.data() + 20 * loops.lanes, rest.data(), 1, rows, depth - 20, true,
                cut.data());
    expect(std::memcmp(cut.data(), whole.data(), rows * loops.lanes * sizeof(float)) == 0,
           "cutting the depth changes no bit");
  }
}

void test_stride(const ScoreLoops& loops) {
  constexpr std::size_t depth = 19, rows = 11;  // B^T as it lies: rows are columns
  const std::vector<float> a = normal(loops.lanes * depth, 4), b = normal(rows * depth, 5);
  std::vector<float> transposed(rows * depth);
  for (std::size_t j = 0; j < rows; ++j)
    for (std::size_t k = 0; k < depth; ++k) transposed[k * rows + j] = b[j * depth + k];
  Aligned<float> panel(depth * loops.lanes), straight(rows * loops.lanes),
      strided(rows * loops.lanes);
  loops.pack(a.data(), depth, loops.lanes, depth, panel.data());
  loops.score(panel.data(), rows_of(b, rows, depth).data(), 1, rows, depth, false, straight.data());
  loops.score(panel.data(), rows_of(transposed, rows, 1).data(), rows, rows, depth, false,
              strided.data());
  expect(std::memcmp(straight.data(), strided.data(), rows * loops.lanes * sizeof(float)) == 0,
         "an element stride changes no bit");
}

// A panel and rows with parts, and their products.
class Split {
 public:
  Split(const PartLoops& unit, const std::vector<float>& panel, const std::vector<float>& rows,
        std::size_t depth)
      : unit_(unit),
        depth_(depth),
        count_(rows.size() / depth),
        panel_(unit.of_panel(depth, lanes)),
        rows_(unit.of_rows(count_, depth)) {
    other_lanes = unit.split_panel(panel.data(), lanes, depth, 3, least_plain, panel_.data());
    other_rows =
        unit.split_rows(rows.data(), depth, nullptr, count_, depth, least_plain, rows_.data());
  }

  // The products of a depth in two pieces, if `cut` is not 0.
  std::vector<float> score(std::size_t vectors = 3, std::size_t cut = 0) {
    Aligned<float> tile(whole_blocks(count_, row_block) * lanes);
    const UnitInUse in_use(&unit_);
    if (cut > 0)
      unit_.score(panel_.data(), rows_.data(), depth_, count_, cut, vectors, false, tile.data(),
                  lanes, {});
    // The blocks of rows of the second piece begin where the first one ends.
    const std::size_t skipped = cut / depth_block * unit_.count * row_block * depth_block;
    unit_.score(panel_.data() + unit_.of_panel(cut, lanes), rows_.data() + skipped, depth_, count_,
                depth_ - cut, vectors, cut > 0, tile.data(), lanes, {});
    return {tile.data(), tile.data() + count_ * lanes};
  }

  static constexpr std::size_t lanes = 48;
  std::uint64_t other_lanes, other_rows;

 private:
  const PartLoops& unit_;
  std::size_t depth_, count_;
  Aligned<std::uint16_t> panel_, rows_;
};

// Products with `roundings` 2^-24 of their size, and `of_lengths` of the product of the lengths.
bool within(const std::vector<float>& tile, const std::vector<float>& panel,
            const std::vector<float>& rows, std::size_t depth, double roundings,
            double of_lengths) {
  constexpr std::size_t lanes = Split::lanes;
  for (std::size_t j = 0; j < rows.size() / depth; ++j)
    for (std::size_t i = 0; i < lanes; ++i) {
      double exact = 0.0, size = 0.0, a = 0.0, b = 0.0;
      for (std::size_t k = 0; k < depth; ++k) {
        const double x = panel[k * lanes + i], y = rows[j * depth + k];
        exact += x * y, size += std::abs(x * y), a += x * x, b += y * y;
      }
      const double bound = 1.0001 * roundings * 0x1p-24 * size + of_lengths * std::sqrt(a * b);
      if (!(std::abs(double{tile[j * lanes + i]} - exact) <= bound)) return false;
    }
  return true;
}

void test_parts(const PartLoops& exact, const PartLoops& rounded) {
  constexpr std::size_t lanes = Split::lanes;
  for (const std::size_t depth : {1u, 16u, 31u, 32u, 33u, 64u, 100u, 257u})
    for (const std::size_t count : {1u, 15u, 16u, 17u, 33u, 48u, 64u}) {
      const std::vector<float> panel = normal(depth * lanes, 6), rows = normal(count * depth, 7);
      Split split(exact, panel, rows, depth), of_rounded(rounded, panel, rows, depth);
      expect(split.other_lanes == 0 && split.other_rows == 0, "normal numbers are plain");
      const std::vector<float> tile = split.score();
      const double roundings = static_cast<double>(std::max<std::size_t>(depth, 32));
      expect(within(tile, panel, rows, depth, roundings, 0.0), "parts are within the bound");
      expect(within(of_rounded.score(), panel, rows, depth, roundings, 0x1.02p-7),
             "rounded numbers are within the bound");
      if (depth > 32) expect(split.score(3, 32) == tile, "cutting the depth changes no bit");
      for (const std::size_t vectors : {1u, 2u}) {
        const std::vector<float> some = split.score(vectors);
        bool same = true;
        for (std::size_t j = 0; j < count; ++j)
          for (std::size_t i = 0; i < 16 * vectors; ++i)
            same = same && some[j * lanes + i] == tile[j * lanes + i];
        expect(same, "the number of vectors changes no bit");
      }
    }
}

// The same pair has the same score in every row and lane, and so whatever blocks it is in.
void test_places(const PartLoops& unit) {
  constexpr std::size_t depth = 70, count = 59;
  const std::vector<float> a = normal(depth, 8), b = normal(depth, 9);
  std::vector<float> panel, rows;
  for (std::size_t k = 0; k < depth; ++k) panel.insert(panel.end(), Split::lanes, a[k]);
  for (std::size_t j = 0; j < count; ++j) rows.insert(rows.end(), b.begin(), b.end());
  const std::vector<float> tile = Split(unit, panel, rows, depth).score();
  expect(tile == std::vector<float>(tile.size(), tile[0]), "a pair has one score everywhere");
}

void test_plain(const PartLoops& unit) {
  constexpr std::size_t depth = 40, count = 40;
  const float infinity = INFINITY;
  const struct {
    float number;
    bool plain;
  } cases[] = {{0.0f, true},        {-0.0f, true},           {0x1p-48f, true},   {-0x1p48f, true},
               {0x1.8p-49f, false}, {0x1.000002p48f, false}, {0x1p-149f, false}, {NAN, false},
               {infinity, false},   {-infinity, false},      {-0x1p-60f, false}};
  for (const auto& [number, plain] : cases) {
    std::vector<float> panel(depth * Split::lanes, 1.0f), rows(count * depth, 1.0f);
    panel[37 * Split::lanes + 21] = rows[17 * depth + 33] = number;
    const Split split(unit, panel, rows, depth);
    expect(split.other_lanes == (plain ? 0 : std::uint64_t{1} << 21),
           "its lane alone is not plain");
    expect(split.other_rows == (plain ? 0 : std::uint64_t{1} << 17), "its row alone is not plain");
  }
}

// Rows with gaps between their units, and columns: the same parts as of rows.
void test_layouts(const PartLoops& unit) {
  constexpr std::size_t depth = 45, count = 37;
  const std::vector<float> rows = normal(count * depth, 10);
  Aligned<std::uint16_t> expected(unit.of_rows(count, depth)), actual(unit.of_rows(count, depth));
  const std::size_t bytes = unit.of_rows(count, depth) * sizeof(std::uint16_t);
  unit.split_rows(rows.data(), depth, nullptr, count, depth, 0.0f, expected.data());

  std::vector<float> columns(depth * count), spread(count * 100);
  const std::size_t units[] = {0, 70, 20};
  for (std::size_t j = 0; j < count; ++j)
    for (std::size_t k = 0; k < depth; ++k)
      columns[k * count + j] = spread[j * 100 + units[k / 16] + k % 16] = rows[j * depth + k];
  unit.split_rows(spread.data(), 100, units, count, depth, 0.0f, actual.data());
  expect(std::memcmp(actual.data(), expected.data(), bytes) == 0, "units may lie anywhere");
  std::memset(actual.data(), 0xff, bytes);
  expect(unit.split_columns(columns.data(), count, count, depth, least_plain, actual.data()),
         "columns of normal numbers are plain");
  expect(std::memcmp(actual.data(), expected.data(), bytes) == 0, "columns are rows of another");
  columns[5] = NAN;
  expect(!unit.split_columns(columns.data(), count, count, depth, 0.0f, actual.data()),
         "NaN is not plain");
}

}  // namespace

void test_gemm() {
  for (const Isa isa : supported_isas()) {
    const ScoreLoops& loops = score_loops(isa);
    expect(loops.lanes <= max_lanes, "a panel has a lane for each row");
    test_pack(loops);
    test_score(loops);
    test_stride(loops);
    if (const PartLoops* unit = part_loops(isa); unit != nullptr) {
      test_parts(*unit, *rounded_part_loops(isa));
      test_places(*unit);
      test_plain(*unit);
      test_layouts(*unit);
    }
  }
}

}  // namespace logitkit::test
