// csrc/least_distance, for every instruction set of this machine
#include "least_distance/least_distance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "expect.h"

namespace logitkit::test {
namespace {

using Vector = std::vector<double>;

// Sizes are exact, for the sanitizer to see an over-read.
Vector normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> distribution;
  Vector x(count);
  for (double& value : x) value = distribution(random);
  return x;
}

// The values between two fences, which a loop must leave as they are.
constexpr std::size_t fence = 9;

Vector fenced(const Vector& x) {
  Vector y(x.size() + 2 * fence, 123.0);
  std::copy(x.begin(), x.end(), y.begin() + fence);
  return y;
}

bool fences_stand(const Vector& y) {
  return std::all_of(y.begin(), y.begin() + fence, [](double v) { return v == 123.0; }) &&
         std::all_of(y.end() - fence, y.end(), [](double v) { return v == 123.0; });
}

// |actual - exact| of a sum of n products that add up to `size` in absolute value.
bool close(double actual, double exact, double size, std::size_t n) {
  return std::abs(actual - exact) <= static_cast<double>(n + 1) * 0x1p-52 * size;
}

// Rows that lie `stride` apart, the last without what would follow it.
struct Rows {
  std::size_t n, count, stride;
  Vector values;

  Rows(std::size_t n, std::size_t count, std::size_t gap)
      : n(n),
        count(count),
        stride(n + gap),
        values(normal((count == 0 ? 0 : count - 1) * stride + n + (n == 0), 11)) {}
  double at(std::size_t j, std::size_t i) const { return values[j * stride + i]; }
};

void test_dots(const LeastDistanceLoops& loops, const Rows& rows) {
  const Vector v = normal(rows.n, 12);
  Vector out = fenced(Vector(rows.count));
  loops.dots(rows.values.data(), rows.stride, rows.count, v.data(), rows.n, out.data() + fence);
  bool right = fences_stand(out);
  for (std::size_t j = 0; j < rows.count; ++j) {
    double exact = 0.0, size = 0.0;
    for (std::size_t i = 0; i < rows.n; ++i) {
      exact += rows.at(j, i) * v[i];
      size += std::abs(rows.at(j, i) * v[i]);
    }
    right = right && close(out[fence + j], exact, size, rows.n);
  }
  expect(right, "dots");
}

void test_combine(const LeastDistanceLoops& loops, const Rows& rows) {
  const Vector coefficient = normal(rows.count, 13), before = normal(rows.n, 14);
  Vector y = fenced(before);
  loops.combine(rows.values.data(), rows.stride, rows.count, coefficient.data(), rows.n,
                y.data() + fence);
  bool right = fences_stand(y);
  for (std::size_t i = 0; i < rows.n; ++i) {
    double exact = before[i], size = std::abs(before[i]);
    for (std::size_t j = 0; j < rows.count; ++j) {
      exact += coefficient[j] * rows.at(j, i);
      size += std::abs(coefficient[j] * rows.at(j, i));
    }
    right = right && close(y[fence + i], exact, size, rows.count);
  }
  expect(right, "combine");
}

void test_rotate(const LeastDistanceLoops& loops, std::size_t n) {
  const double c = 0.6, s = -0.8;
  const Vector above = normal(n, 15), below = normal(n, 16);
  Vector x = fenced(above), y = fenced(below);
  loops.rotate(x.data() + fence, y.data() + fence, n, c, s);
  bool right = fences_stand(x) && fences_stand(y);
  for (std::size_t i = 0; i < n; ++i) {
    const double size = std::abs(above[i]) + std::abs(below[i]);
    right = right && close(x[fence + i], c * above[i] + s * below[i], size, 1) &&
            close(y[fence + i], c * below[i] - s * above[i], size, 1);
  }
  expect(right, "rotate");
}

// Around the vector widths, four of them, and the rows that are taken together.
void test_loops(const LeastDistanceLoops& loops) {
  for (const std::size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 121}) {
    for (const std::size_t count : {0, 1, 2, 3, 7, 8, 9, 11, 16, 17})
      for (const std::size_t gap : {0, 5}) {
        test_dots(loops, {n, count, gap});
        test_combine(loops, {n, count, gap});
      }
    test_rotate(loops, n);
  }
}

std::vector<std::int64_t> labels(std::size_t count) {
  std::vector<std::int64_t> result(count);
  std::iota(result.begin(), result.end(), 0);
  return result;
}

// The vertices of a cube, and more inside it: a vertex can win, the middle cannot.
void test_solve(Isa isa) {
  constexpr std::size_t d = 5, vertices = 1 << d, count = vertices + 40;
  Vector points = normal(count * d, 17);
  for (double& value : points) value = std::tanh(value);
  for (std::size_t j = 0; j < vertices; ++j)
    for (std::size_t k = 0; k < d; ++k) points[j * d + k] = (j >> k & 1) != 0 ? 1.0 : -1.0;

  const Vector corner(points.begin(), points.begin() + d), middle(d, 0.01);
  LeastDistance outside(d);
  expect(outside.add_points(corner.data(), points.data(), labels(count).data(), count) == count - 1,
         "a point that coincides with the center is left out");
  expect(outside.solve(1, isa) == LeastDistance::Status::paused, "one step is not enough");
  expect(outside.solve(10000, isa) == LeastDistance::Status::feasible, "a vertex can win");
  bool beats_all = outside.margin() > 0.1;
  for (std::size_t j = 1; j < count; ++j) {
    double product = 0.0, square = 0.0;
    for (std::size_t k = 0; k < d; ++k) {
      const double c = corner[k] - points[j * d + k];
      product += c * outside.direction()[k];
      square += c * c;
    }
    beats_all = beats_all && product >= (outside.margin() - 1e-12) * std::sqrt(square);
  }
  expect(beats_all, "every constraint has the margin");

  LeastDistance inside(d);
  inside.add_points(middle.data(), points.data(), labels(count).data(), count);
  expect(inside.solve(10000, isa) == LeastDistance::Status::infeasible, "the middle cannot win");
  const Vector weights = inside.active_weights();
  Vector average(d);
  double sum = 0.0;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    expect(weights[j] >= 0.0, "a weight is not negative");
    sum += weights[j];
    const auto label = static_cast<std::size_t>(inside.active_labels()[j]);
    for (std::size_t k = 0; k < d; ++k) average[k] += weights[j] * points[label * d + k];
  }
  bool balanced = std::abs(sum - 1.0) < 1e-14;
  for (std::size_t k = 0; k < d; ++k)
    balanced = balanced && std::abs(average[k] - middle[k]) < 1e-12;
  expect(balanced, "the weights average the points to the center");

  const Vector axis = {1.0, 0.0, 0.0, 0.0, 0.0};
  const std::int64_t label = -1;
  expect(outside.add_rays(axis.data(), &label, 1) == 1, "a ray is added");
  expect(outside.solve(10000, isa) == LeastDistance::Status::infeasible,
         "the corner at -1 wins nowhere in the half-space of that ray");
}

}  // namespace

void test_least_distance() {
  for (const Isa isa : supported_isas()) {
    test_loops(least_distance_loops(isa));
    test_solve(isa);
  }
}

}  // namespace logitkit::test
