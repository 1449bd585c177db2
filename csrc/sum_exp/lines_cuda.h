// Which lines of an array on a GPU are summed.
#pragma once

#include <cstddef>

namespace logitkit::cuda {

/// A dense array (outer, terms, inner), whose lines run along its second axis: line
/// i * inner + j begins at element i * terms * inner + j.
struct Lines {
  std::size_t outer, terms, inner;
};

}  // namespace logitkit::cuda
