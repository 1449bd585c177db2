#include "least_distance/least_distance.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace logitkit {
namespace {

constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

// A column of E is free to enter, active, or banned: it was tried and gave no
// progress, which stands until the residual changes.
enum : unsigned char { is_free, is_active, is_banned };

// A violation below this share of |r| is rounding.
constexpr double violation_tolerance = 1e-13;

double norm(const LeastDistanceLoops& loops, const double* v, std::size_t n) {
  double square;
  loops.dots(v, n, 1, v, n, &square);
  return std::sqrt(square);
}

}  // namespace

const LeastDistanceLoops& least_distance_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::least_distance_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::least_distance_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::least_distance_loops;
#endif
    default: return scalar::least_distance_loops;
  }
}

LeastDistance::LeastDistance(std::size_t dim)
    : dim_(dim),
      height_(dim + 1),
      stride_((dim + 8) / 8 * 8),
      q_(height_ * stride_),
      r_(height_ * stride_),
      by_slot_(stride_),
      residual_(stride_),
      direction_(dim) {
  residual_[dim_] = 1.0;
  for (std::size_t slot = height_; slot-- > 0;) free_slots_.push_back(slot);
}

bool LeastDistance::has(std::int64_t label) const {
  return std::find(labels_.begin(), labels_.end(), label) != labels_.end();
}

// False for a vector of length 0, which constrains nothing.
bool LeastDistance::append(const double* vector, double right_side, std::int64_t label) {
  double square = 0.0;
  for (std::size_t k = 0; k < dim_; ++k) square += vector[k] * vector[k];
  if (square == 0.0) return false;
  const double length = std::sqrt(square);
  columns_.resize(columns_.size() + stride_, 0.0);
  double* column = columns_.data() + columns_.size() - stride_;
  for (std::size_t k = 0; k < dim_; ++k) column[k] = vector[k] / length;
  column[dim_] = right_side;
  lengths_.push_back(length);
  labels_.push_back(label);
  state_.push_back(is_free);
  without_progress_ = 0;
  return true;
}

std::size_t LeastDistance::add_points(const double* center, const double* points,
                                      const std::int64_t* labels, std::size_t count) {
  forget_slack_constraints();
  columns_.reserve(columns_.size() + count * stride_);
  std::size_t added = 0;
  std::vector<double> difference(dim_);
  for (std::size_t j = 0; j < count; ++j) {
    if (has(labels[j])) continue;
    for (std::size_t k = 0; k < dim_; ++k) difference[k] = center[k] - points[j * dim_ + k];
    added += append(difference.data(), 1.0, labels[j]);
  }
  return added;
}

std::size_t LeastDistance::add_rays(const double* rays, const std::int64_t* labels,
                                    std::size_t count) {
  std::size_t added = 0;
  for (std::size_t j = 0; j < count; ++j)
    if (!has(labels[j])) added += append(rays + j * dim_, 0.0, labels[j]);
  return added;
}

// Keeps the scan short: of many constraints only those that are active or near
// to it stay. One that is forgotten and matters again will be added again.
void LeastDistance::forget_slack_constraints() {
  const std::size_t count = labels_.size();
  if (count < 4 * height_ + 64 || violation_.size() != count) return;
  std::vector<double> sorted(violation_);
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count / 2),
                   sorted.end());
  const double median = sorted[count / 2];
  std::vector<std::size_t> moved(count, none);
  std::size_t kept = 0;
  for (std::size_t j = 0; j < count; ++j) {
    const bool is_ray = columns_[j * stride_ + dim_] == 0.0;
    if (state_[j] != is_active && !is_ray && violation_[j] < median) continue;
    std::copy_n(columns_.begin() + static_cast<std::ptrdiff_t>(j * stride_), stride_,
                columns_.begin() + static_cast<std::ptrdiff_t>(kept * stride_));
    lengths_[kept] = lengths_[j];
    labels_[kept] = labels_[j];
    state_[kept] = state_[j];
    moved[j] = kept++;
  }
  columns_.resize(kept * stride_);
  lengths_.resize(kept);
  labels_.resize(kept);
  state_.resize(kept);
  violation_.clear();
  for (std::size_t& column : active_) column = moved[column];
}

// v <- v - Q Q^T v, and work_ = Q^T v. A block of Q is used twice while it is in the
// first-level cache; within a block this is the classical Gram-Schmidt process, from
// block to block the modified one.
void LeastDistance::project(const LeastDistanceLoops& loops, double* v) {
  constexpr std::size_t block = 16;
  const std::size_t k = active_.size();
  work_.resize(k);
  for (std::size_t j = 0; j < k; j += block) {
    const std::size_t count = std::min(block, k - j);
    const double* q = q_.data() + j * stride_;
    double minus[block];
    loops.dots(q, stride_, count, v, height_, work_.data() + j);
    for (std::size_t i = 0; i < count; ++i) minus[i] = -work_[j + i];
    loops.combine(q, stride_, count, minus, height_, v);
  }
}

// Looks through the constraints in turns, a block at a time, and takes the most
// violated one of the first block that has any (partial pricing).
std::size_t LeastDistance::most_violated(const LeastDistanceLoops& loops) {
  const std::size_t count = labels_.size();
  const std::size_t block = std::max<std::size_t>(64, count / 8);
  violation_.resize(count);
  if (scan_ >= count) scan_ = 0;
  for (std::size_t seen = 0; seen < count;) {
    const std::size_t end = std::min(count, scan_ + block);
    loops.dots(columns_.data() + scan_ * stride_, stride_, end - scan_, residual_.data(), height_,
               violation_.data() + scan_);
    double largest = violation_tolerance * residual_norm_;
    std::size_t column = none;
    for (std::size_t j = scan_; j < end; ++j)
      if (state_[j] == is_free && violation_[j] > largest) {
        largest = violation_[j];
        column = j;
      }
    seen += end - scan_;
    scan_ = end == count ? 0 : end;
    if (column != none) return column;
  }
  return none;
}

// Appends a column to E_active = Q R. False if it lies in the span of the others.
bool LeastDistance::activate(const LeastDistanceLoops& loops, std::size_t column) {
  const std::size_t k = active_.size();
  if (k == height_) return false;
  const std::size_t slot = free_slots_.back();
  double* q = q_.data() + k * stride_;
  std::copy_n(columns_.begin() + static_cast<std::ptrdiff_t>(column * stride_), stride_, q);
  const double length = norm(loops, q, height_);
  double before = length;
  for (std::size_t j = 0; j < k; ++j) r_[j * stride_ + slot] = 0.0;
  for (int pass = 0; pass < 3; ++pass) {
    project(loops, q);
    for (std::size_t j = 0; j < k; ++j) r_[j * stride_ + slot] += work_[j];
    const double after = norm(loops, q, height_);
    if (after <= 1e-13 * length) return false;
    const bool cancelled = after < 0.1 * before;
    before = after;
    if (!cancelled) break;
  }
  for (std::size_t i = 0; i < height_; ++i) q[i] /= before;
  r_[k * stride_ + slot] = before;
  slots_.push_back(slot);
  free_slots_.pop_back();

  double along;
  loops.dots(q, stride_, 1, residual_.data(), height_, &along);
  projection_.push_back(q[dim_]);  // q . f
  const double minus = -along;
  loops.combine(q, stride_, 1, &minus, height_, residual_.data());
  active_.push_back(column);
  x_.push_back(0.0);
  state_[column] = is_active;
  return true;
}

void LeastDistance::deactivate(const LeastDistanceLoops& loops, std::size_t position) {
  const std::size_t last = active_.size() - 1;
  const auto at = static_cast<std::ptrdiff_t>(position);
  state_[active_[position]] = is_free;
  free_slots_.push_back(slots_[position]);
  active_.erase(active_.begin() + at);
  slots_.erase(slots_.begin() + at);
  x_.erase(x_.begin() + at);
  // Without that column R is upper Hessenberg from `position` on: rotate it back.
  for (std::size_t i = position; i < last; ++i) {
    double* upper = r_.data() + i * stride_;
    double* lower = upper + stride_;
    const double a = upper[slots_[i]], b = lower[slots_[i]];
    const double length = std::sqrt(a * a + b * b);  // columns have length 1 or sqrt(2)
    const double c = a / length, s = b / length;
    loops.rotate(upper, lower, height_, c, s);
    loops.rotate(q_.data() + i * stride_, q_.data() + (i + 1) * stride_, height_, c, s);
    const double above = projection_[i], below = projection_[i + 1];
    projection_[i] = c * above + s * below;
    projection_[i + 1] = c * below - s * above;
  }
  // The direction that left the span goes back into the residual.
  loops.combine(q_.data() + last * stride_, stride_, 1, &projection_[last], height_,
                residual_.data());
  projection_.pop_back();
}

// R solution = Q^T f by back-substitution. Slots of columns yet to be solved, or of
// none, count for nothing: their entry of by_slot_ is 0.
void LeastDistance::solve_active(const LeastDistanceLoops& loops) {
  const std::size_t k = active_.size();
  solution_.resize(k);
  std::fill(by_slot_.begin(), by_slot_.end(), 0.0);
  for (std::size_t i = k; i-- > 0;) {
    const double* row = r_.data() + i * stride_;
    double known;
    loops.dots(row, stride_, 1, by_slot_.data(), height_, &known);
    solution_[i] = by_slot_[slots_[i]] = (projection_[i] - known) / row[slots_[i]];
  }
}

// Goes from x towards the least-squares solution of the active columns, dropping
// those that reach zero, until the solution is positive. False if the newest
// column was the first to go without a step: it gave no progress.
bool LeastDistance::move_to_solution(const LeastDistanceLoops& loops, std::size_t newest) {
  bool moved = false;
  for (;;) {
    ++iterations_;
    solve_active(loops);
    double step = 2.0;
    std::size_t leaving = none;
    for (std::size_t j = 0; j < active_.size(); ++j) {
      if (solution_[j] > 0.0) continue;
      const double limit = x_[j] / (x_[j] - solution_[j]);
      if (x_[j] <= 0.0 ? step > 0.0 : limit < step) {
        step = x_[j] <= 0.0 ? 0.0 : limit;
        leaving = j;
      }
    }
    if (leaving == none) {
      x_ = solution_;
      return true;
    }
    const bool is_newest = active_[leaving] == newest;
    for (std::size_t j = 0; j < active_.size(); ++j) x_[j] += step * (solution_[j] - x_[j]);
    deactivate(loops, leaving);
    if (is_newest && !moved && step == 0.0) {
      state_[newest] = is_banned;
      return false;
    }
    moved = moved || step > 0.0;
    if (active_.empty()) return true;
  }
}

LeastDistance::Status LeastDistance::solve(std::size_t max_iterations, Isa isa) {
  const LeastDistanceLoops& loops = least_distance_loops(isa);
  const std::size_t limit = iterations_ + max_iterations;
  Status status = Status::paused;
  double projected = std::numeric_limits<double>::infinity();  // |r| at the last projection
  while (iterations_ < limit) {
    residual_norm_ = norm(loops, residual_.data(), height_);
    if (residual_norm_ < 0.1 * projected) {
      // Leaves r orthogonal to the active columns to within rounding of |r| itself,
      // where its updates have left rounding of |f| = 1.
      project(loops, residual_.data());
      projected = residual_norm_ = norm(loops, residual_.data(), height_);
    }
    if (residual_norm_ <= zero_residual) {
      status = Status::infeasible;
      break;
    }
    // The residual falls with every change of the active set, but for rounding.
    if (residual_norm_ < best_ * (1.0 - 1e-12)) {
      best_ = residual_norm_;
      without_progress_ = 0;
      for (unsigned char& state : state_)
        if (state == is_banned) state = is_free;
    } else if (++without_progress_ > 50) {
      status = Status::stalled;
      break;
    }
    const std::size_t column = most_violated(loops);
    if (column == none) {
      status = Status::feasible;
      break;
    }
    if (!activate(loops, column)) {
      state_[column] = is_banned;
      ++iterations_;
      continue;
    }
    move_to_solution(loops, column);
  }
  for (unsigned char& state : state_)
    if (state == is_banned) state = is_free;
  project(loops, residual_.data());
  residual_norm_ = norm(loops, residual_.data(), height_);
  const double length = norm(loops, residual_.data(), dim_);
  for (std::size_t i = 0; i < dim_; ++i)
    direction_[i] = length > 0.0 ? -residual_[i] / length : 0.0;
  return status;
}

std::vector<std::int64_t> LeastDistance::active_labels() const {
  std::vector<std::int64_t> labels;
  for (const std::size_t column : active_) labels.push_back(labels_[column]);
  return labels;
}

std::vector<double> LeastDistance::active_weights() const {
  std::vector<double> weights;
  double sum = 0.0;
  for (std::size_t j = 0; j < active_.size(); ++j) {
    weights.push_back(x_[j] / lengths_[active_[j]]);
    if (columns_[active_[j] * stride_ + dim_] != 0.0) sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

}  // namespace logitkit
