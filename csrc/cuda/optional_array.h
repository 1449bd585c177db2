// Arguments of bindings that may be None.
#pragma once

#include <initializer_list>
#include <optional>

#include "cuda/device_array.h"

namespace logitkit::cuda {

/// A DeviceArray of a shape, or none.
class OptionalArray {
 public:
  OptionalArray(const pybind11::object& array, const char* name,
                std::initializer_list<std::size_t> shape) {
    if (array.is_none()) return;
    array_.emplace(array, name);
    bool fits = array_->ndim() == static_cast<int>(shape.size());
    int axis = 0;
    for (const std::size_t n : shape) fits = fits && array_->shape(axis++) == n;
    if (!fits) array_->fail("has an unexpected shape");
  }

  /// The elements, or null.
  template <class T>
  T* data() const {
    return array_ ? array_->data<T>() : nullptr;
  }

 private:
  std::optional<DeviceArray> array_;
};

}  // namespace logitkit::cuda
