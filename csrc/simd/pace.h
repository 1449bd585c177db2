// Work that is done beside other work, a little at a time.
#pragma once

#include <cstddef>

namespace logitkit {
namespace {

using std::size_t;

/// Spreads the parts of some work evenly over products, beside which it is done.
class Pace {
 public:
  void spread(size_t parts, size_t products) {
    parts_ = parts;
    products_ = products > 0 ? products : 1;
  }
  /// After each product: calls do_part() as often as is due.
  template <class F>
  [[gnu::always_inline]] void after(const F& do_part) {
    due_ += parts_;
    while (due_ >= products_) {
      due_ -= products_;
      do_part();
    }
  }

 private:
  size_t parts_ = 0, products_ = 1, due_ = 0;
};

}  // namespace
}  // namespace logitkit
