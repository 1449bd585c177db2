// The loops of the update of a diffusion sampler, one table for each instruction set.
#pragma once

#include <cstddef>

#include "isa.h"
#include "random/philox.h"

namespace logitkit {

/// Elements of one row.
template <class T>
struct UpdateRow {
  const T* x;
  const T* y;  // null: none
  T a, b, c, lower, upper;
  T* out;
};

template <class T>
struct UpdateLoops {
  void (*update)(const UpdateRow<T>& row, std::size_t count);
  /// The same, writing around the caches: for results larger than they are.
  void (*update_large)(const UpdateRow<T>& row, std::size_t count);
  void (*update_with_noise)(const UpdateRow<T>& row, const Draw& draw);
  bool (*has_nan)(const T* x, std::size_t count);
};

struct AllUpdateLoops {
  UpdateLoops<float> f32;
  UpdateLoops<double> f64;
};

template <class T>
const UpdateLoops<T>& loops_for(const AllUpdateLoops& loops);
template <>
inline const UpdateLoops<float>& loops_for(const AllUpdateLoops& loops) {
  return loops.f32;
}
template <>
inline const UpdateLoops<double>& loops_for(const AllUpdateLoops& loops) {
  return loops.f64;
}

namespace scalar { extern const AllUpdateLoops update_loops; }
namespace avx2 { extern const AllUpdateLoops update_loops; }
namespace avx512 { extern const AllUpdateLoops update_loops; }
namespace neon { extern const AllUpdateLoops update_loops; }

}  // namespace logitkit
