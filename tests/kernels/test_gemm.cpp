// csrc/gemm, for every instruction set of this machine
#include "gemm/score.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "expect.h"
#include "gemm/scratch.h"

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
      Scratch panel(depth * loops.lanes);
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
  Scratch panel(depth * loops.lanes), whole(tile_rows * loops.lanes), cut(tile_rows * loops.lanes);
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
  Scratch panel(depth * loops.lanes), straight(rows * loops.lanes), strided(rows * loops.lanes);
  loops.pack(a.data(), depth, loops.lanes, depth, panel.data());
  loops.score(panel.data(), rows_of(b, rows, depth).data(), 1, rows, depth, false, straight.data());
  loops.score(panel.data(), rows_of(transposed, rows, 1).data(), rows, rows, depth, false,
              strided.data());
  expect(std::memcmp(straight.data(), strided.data(), rows * loops.lanes * sizeof(float)) == 0,
         "an element stride changes no bit");
}

}  // namespace

void test_gemm() {
  for (const Isa isa : supported_isas()) {
    const ScoreLoops& loops = score_loops(isa);
    expect(loops.lanes <= max_lanes, "a panel has a lane for each row");
    test_pack(loops);
    test_score(loops);
    test_stride(loops);
  }
}

}  // namespace logitkit::test
