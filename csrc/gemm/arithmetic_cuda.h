// How a GPU multiplies and adds the elements of matrices.
#pragma once

#include <cuda_runtime_api.h>

namespace logitkit::cuda {

/// Half types take the tensor cores, and double never does, whatever is asked for.
enum class Arithmetic {
  own,    // of the elements' precision: with n terms within n 2^-24 sum |x y|
  tensor  // float as the sum of two shorter floats: within 3.5 (n + 16) 2^-23 sum |x y|
};

/// Whether the current device multiplies bfloat16, and shorter floats (compute capability 8.0).
inline cudaError_t ask_for_tensor_cores(bool& has_them) {
  int device = 0, major = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess)
    status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  has_them = major >= 8;
  return status;
}

}  // namespace logitkit::cuda
