// The memory of an array of NumPy, or of any library with DLPack's table of functions, without
// a call of a Python function.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>

#include "dlpack.h"

namespace logitkit {

/// Numbers of float or double in main memory, in the order of C.
struct PlainArray {
  const void* data = nullptr;
  bool is_double;
  bool writeable;
  int ndim;
  const std::int64_t* shape;  // of the array: valid as long as it is
  std::size_t size;
  PyTypeObject* type;
  const dlpack::ExchangeApi* api;  // null: an array of NumPy

  bool same_shape(const PlainArray& other) const;
};

/// Describes an array. False if it is of another library, device, type or order, or of a subclass:
/// then it takes more than its memory to work with it. So it does for an array that wants a
/// gradient, unless one just reads it.
bool look_at(pybind11::handle object, PlainArray& array, bool refuse_gradient);

/// A new array of the library, type and shape of another one, and its memory.
pybind11::object new_like(const PlainArray& array, void*& data);

}  // namespace logitkit
