// Registers of a matrix unit, for as long as a thread needs them.
#pragma once

namespace logitkit {

/// Calls begin() of loops that use such a unit, and end() when it goes; null loops use none. Does
/// not nest in a thread, as the inner one would end the outer.
template <class Loops>
class UnitInUse {
 public:
  explicit UnitInUse(const Loops* loops) : loops_(loops) {
    if (loops_ != nullptr) loops_->begin();
  }
  ~UnitInUse() {
    if (loops_ != nullptr) loops_->end();
  }
  UnitInUse(const UnitInUse&) = delete;
  UnitInUse& operator=(const UnitInUse&) = delete;

 private:
  const Loops* loops_;
};

}  // namespace logitkit
