#include "self_witness/walk.h"

#include <algorithm>

#include "unit_in_use.h"

namespace logitkit::witness {
namespace {

// Lowers a slack to a margin; what is not positive, or NaN, is a failure.
void lower(float& slack, float margin) {
  if (!(margin >= slack)) slack = margin > 0.0f ? margin : 0.0f;
}

// The least of max_lanes numbers, by eight at a time as a compiler can do at once.
float least(const float* x) {
  float of_eight[8];
  std::copy_n(x, 8, of_eight);
  for (std::size_t i = 8; i < max_lanes; i += 8)
    for (std::size_t k = 0; k < 8; ++k) of_eight[k] = std::min(of_eight[k], x[i + k]);
  return *std::min_element(of_eight, of_eight + 8);
}

}  // namespace

Walk::Walk(const Problem& problem, const std::vector<Extremes>& extremes)
    : problem_(&problem),
      extremes_(&extremes),
      lanes_(problem.score.lanes),
      packed_(most_panels(problem) * problem.z.columns * lanes_),
      lane_tails_(most_panels(problem) * (problem.last_step() + 1) * lanes_),
      tile_(tile_rows * lanes_),
      panel_parts_(problem.unit == nullptr
                       ? 0
                       : most_panels(problem) * problem.unit->of_panel(problem.z.columns, lanes_)),
      tile_parts_(problem.unit == nullptr ? 0
                                          : problem.unit->of_rows(tile_rows, problem.z.columns)),
      slack_(problem.z.rows, infinity) {}

void Walk::run(std::size_t begin, std::size_t end, const float* slack) {
  const UnitInUse in_use(problem_->unit);
  panels_.clear();
  split_step_ = 0;
  for (std::size_t row = begin; row < end; row += lanes_)
    add_panel(row, std::min(lanes_, end - row), slack);
  for (std::size_t t = begin / tile_rows; t < extremes_->size(); ++t)
    for (Panel& panel : panels_)
      if (t >= panel.first_row / tile_rows) visit(panel, t);
  for (const Panel& panel : panels_)
    for (std::size_t i = 0; i < panel.rows; ++i) lower(slack_[panel.first_row + i], panel.slack[i]);
}

void Walk::add_panel(std::size_t first_row, std::size_t rows, const float* slack) {
  const std::size_t n = problem_->z.rows, depth = problem_->z.columns, p = panels_.size();
  float* packed = packed_.data() + p * depth * lanes_;
  float* tails = lane_tails_.data() + p * (problem_->last_step() + 1) * lanes_;
  problem_->score.pack(problem_->z.data + first_row * depth, depth, rows, depth, packed);
  for (std::size_t s = 0; s <= problem_->last_step(); ++s) {
    std::copy_n(problem_->tails + s * n + first_row, rows, tails + s * lanes_);
    std::fill_n(tails + s * lanes_ + rows, lanes_ - rows, 0.0f);
  }
  Panel panel;
  panel.first_row = first_row, panel.rows = rows, panel.packed = packed, panel.tails = tails;
  panel.parts = nullptr;
  if (const PartLoops* unit = problem_->unit; unit != nullptr) {
    std::uint16_t* parts = panel_parts_.data() + p * unit->of_panel(depth, lanes_);
    if (unit->split_panel(packed, lanes_, depth, lanes_ / 16, least_plain, parts) == 0)
      panel.parts = parts;
  }
  std::fill_n(panel.squares, max_lanes, infinity);
  std::fill_n(panel.slack, max_lanes, infinity);
  std::fill_n(panel.limits, max_lanes, infinity);
  std::copy_n(problem_->squares + first_row, rows, panel.squares);
  std::copy_n(slack + first_row, rows, panel.slack);
  panels_.push_back(panel);
}

bool Walk::set_limits(Panel& panel, const Extremes& tile, float& margin) const {
  for (std::size_t i = 0; i < panel.rows; ++i)
    panel.limits[i] = std::min(panel.squares[i], tile.least_square);
  if (least(panel.slack) > 0.0f) return true;
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

void Walk::visit(Panel& panel, std::size_t t) {
  const std::size_t begin = t * tile_rows;
  const std::size_t count = std::min(tile_rows, problem_->z.rows - begin);
  float margin = infinity;  // between the tile's rows and all lanes
  if (set_limits(panel, (*extremes_)[t], margin)) {
    std::fill_n(panel.worst, max_lanes, -infinity);
    compare(panel, begin, count);
    float margins[max_lanes];  // +inf in lanes without a row
    for (std::size_t i = 0; i < max_lanes; ++i) {
      margins[i] = panel.limits[i] - panel.worst[i];
      panel.slack[i] = std::min(panel.slack[i], margins[i]);
    }
    margin = std::min(margin, least(margins));
  }
  for (std::size_t j = begin; j < begin + count; ++j) slack_[j] = std::min(slack_[j], margin);
}

const std::uint16_t* Walk::split_tile(std::size_t begin, std::size_t count, std::size_t step) {
  if (split_begin_ != begin || split_step_ < step) {
    split_begin_ = begin;
    split_step_ = step;
    tails_step_ = 0;
    for (const Panel& panel : panels_) split_step_ = std::max(split_step_, panel.first_check);
    const Matrix& z = problem_->z;
    split_plain_ = problem_->unit->split_rows(z.data + begin * z.columns, z.columns, nullptr, count,
                                              problem_->depth(split_step_), least_plain,
                                              tile_parts_.data()) == 0;
  }
  return split_plain_ ? tile_parts_.data() : nullptr;
}

std::size_t Walk::first_look(Panel& panel, const std::uint16_t* parts, std::uint32_t* rows,
                             std::size_t count) {
  const std::size_t step = panel.first_check;
  if (panel.rounded_step != step)
    for (std::size_t i = 0; i < max_lanes; ++i)
      panel.rounded_tails[i] =
          i < panel.rows ? problem_->rounded_tail(step, panel.first_row + i) : 0.0f;
  if (tails_step_ != step)
    for (std::size_t r = 0; r < count; ++r) row_tails_[r] = problem_->rounded_tail(step, rows[r]);
  panel.rounded_step = tails_step_ = step;
  problem_->unit->score(panel.parts, parts, problem_->depth(split_step_), count,
                        problem_->depth(step), lanes_ / 16, false, tile_.data(), lanes_, {});
  multiply_adds_ += count * lanes_ * problem_->depth(step);
  leave_out_diagonal(panel, rows, count);
  std::uint32_t survivors[tile_rows];
  const std::size_t left = problem_->witness.prune(
      tile_.data(), count, panel.rounded_tails, row_tails_, panel.limits, panel.worst, survivors);
  aim(panel, left, count);
  for (std::size_t r = 0; r < left; ++r) rows[r] = rows[survivors[r]];
  return left;
}

void Walk::compare(Panel& panel, std::size_t begin, std::size_t count) {
  std::uint32_t rows[tile_rows], survivors[tile_rows];
  const float* from[tile_rows];
  float row_tails[tile_rows];
  for (std::size_t r = 0; r < count; ++r) rows[r] = static_cast<std::uint32_t>(begin + r);

  const std::size_t first = panel.first_check;
  const std::uint16_t* parts = panel.parts != nullptr ? split_tile(begin, count, first) : nullptr;
  if (parts != nullptr) count = first_look(panel, parts, rows, count);
  std::size_t depth = 0;
  for (std::size_t step = first; count > 0; ++step) {
    const std::size_t end = problem_->depth(step);
    const float* lane_tails = panel.tails + step * lanes_;
    for (std::size_t r = 0; r < count; ++r) {
      from[r] = problem_->z.data + rows[r] * problem_->z.columns + depth;
      row_tails[r] = problem_->tail(step, rows[r]);
    }
    problem_->score.score(panel.packed + depth * lanes_, from, 1, count, end - depth, depth > 0,
                          tile_.data());
    multiply_adds_ += count * lanes_ * (end - depth);
    if (depth == 0) leave_out_diagonal(panel, rows, count);
    const std::size_t left = problem_->witness.prune(tile_.data(), count, lane_tails, row_tails,
                                                     panel.limits, panel.worst, survivors);
    if (depth == 0 && parts == nullptr) aim(panel, left, count);
    for (std::size_t r = 0; r < left; ++r) {
      rows[r] = rows[survivors[r]];
      row_tails[r] = row_tails[survivors[r]];
      std::copy_n(tile_.data() + survivors[r] * lanes_, lanes_, tile_.data() + r * lanes_);
    }
    if (step == problem_->last_step()) {
      settle(panel, rows, left, lane_tails, row_tails);
      return;
    }
    depth = end;
    count = left;
  }
}

void Walk::leave_out_diagonal(const Panel& panel, const std::uint32_t* rows, std::size_t count) {
  if (rows[count - 1] < panel.first_row) return;
  for (std::size_t r = 0; r < count; ++r)
    if (const std::size_t i = rows[r] - panel.first_row; i < panel.rows)
      tile_.data()[r * lanes_ + i] = -infinity;
}

void Walk::aim(Panel& panel, std::size_t left, std::size_t count) const {
  // Rows that survive a look at rounded numbers are looked at anew, which takes longer.
  const std::size_t few = panel.parts != nullptr ? 128 : 16, many = panel.parts != nullptr ? 16 : 2;
  panel.quiet = few * left <= count ? panel.quiet + 1 : 0;
  if (many * left > count && panel.first_check < problem_->last_step()) ++panel.first_check;
  if (panel.quiet >= 4 && panel.first_check > 1) {
    --panel.first_check;
    panel.quiet = 0;
  }
}

void Walk::settle(Panel& panel, const std::uint32_t* rows, std::size_t count,
                  const float* lane_tails, const float* row_tails) {
  for (std::size_t r = 0; r < count; ++r) {
    const float* products = tile_.data() + r * lanes_;
    float& slack = slack_[rows[r]];
    for (std::size_t i = 0; i < panel.rows; ++i) {
      const double bound = double{products[i]} + double{lane_tails[i]} * double{row_tails[r]};
      lower(panel.slack[i], static_cast<float>(double{panel.squares[i]} - bound));
      lower(slack, static_cast<float>(double{problem_->squares[rows[r]]} - bound));
    }
  }
}

}  // namespace logitkit::witness
