// Which arithmetic bindings choose for the elements of an array.
#pragma once

#include "cuda/device_array.h"
#include "gemm/arithmetic_cuda.h"

namespace logitkit::cuda {

/// The fastest that the current device has, or of float32 Arithmetic::own if `exact`.
inline Arithmetic arithmetic_of(const DeviceArray& x, bool exact) {
  bool has_tensor_cores = false;
  throw_if_failed(ask_for_tensor_cores(has_tensor_cores));
  if (!has_tensor_cores && x.holds<__nv_bfloat16>())
    x.fail("is of bfloat16, which this GPU does not multiply: convert it to float16 or float32");
  return has_tensor_cores && !exact ? Arithmetic::tensor : Arithmetic::own;
}

}  // namespace logitkit::cuda
