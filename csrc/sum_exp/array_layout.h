// The arrays of Python as the loops over exponentials take them.
#pragma once

#include <pybind11/numpy.h>

#include <string>

#include "sum_exp/item_sums.h"

namespace logitkit {

template <class T>
using DenseArray = pybind11::array_t<T, pybind11::array::c_style>;

/// The layout of x, and a check that `axis` is one of its axes.
template <class T>
Layout layout_of(const DenseArray<T>& x, std::size_t axis) {
  const auto ndim = static_cast<std::size_t>(x.ndim());
  if (axis >= ndim)
    throw pybind11::value_error("axis " + std::to_string(axis) + " of an array of " +
                                std::to_string(ndim) + " dimensions");
  Layout layout = {1, static_cast<std::size_t>(x.shape(static_cast<pybind11::ssize_t>(axis))), 1};
  for (std::size_t k = 0; k < ndim; ++k) {
    const auto n = static_cast<std::size_t>(x.shape(static_cast<pybind11::ssize_t>(k)));
    if (k < axis) layout.outer *= n;
    if (k > axis) layout.inner *= n;
  }
  return layout;
}

/// The memory of an array that must hold `size` elements.
template <class T>
T* output_of(DenseArray<T>& array, std::size_t size, const char* name) {
  if (static_cast<std::size_t>(array.size()) != size)
    throw pybind11::value_error(std::string(name) + " has " + std::to_string(array.size()) +
                                " elements, not " + std::to_string(size));
  return array.mutable_data();
}

}  // namespace logitkit
