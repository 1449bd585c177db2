// The types of elements of arrays on a GPU, for code of any compiler.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace logitkit::cuda {

/// The type that elements stored as S are computed in.
template <class S>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class S>
using Compute = typename ComputeType<S>::type;

}  // namespace logitkit::cuda
