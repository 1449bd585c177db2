// The part of the CUDA runtime that logitkit uses, on the processor: memory is main memory, a
// stream is nothing, and a kernel has run when its launch returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = void*;

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor
};

struct cudaDeviceProp {
  char name[256] = "emulated";
  std::size_t totalGlobalMem = 0;
  int major = 8, minor = 0, multiProcessorCount = 4;
};

inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess             ? "no error"
         : status == cudaErrorInvalidValue ? "invalid argument"
                                           : "invalid configuration argument";
}

namespace emulation {

/// What failed last, until somebody asks.
inline cudaError_t last_error = cudaSuccess;
inline cudaError_t failed(cudaError_t status) { return last_error = status; }

/// The GPU that is emulated: LOGITKIT_EMULATION_CAPABILITY, 80 unless that is set, with the shared
/// memory of the smallest ones of its kind.
inline int capability() {
  const char* given = std::getenv("LOGITKIT_EMULATION_CAPABILITY");
  return given ? std::atoi(given) : 80;
}
inline int most_shared_bytes() { return (capability() < 80 ? 64 : 99) << 10; }

}  // namespace emulation

inline cudaError_t cudaGetLastError() {
  const cudaError_t status = emulation::last_error;
  emulation::last_error = cudaSuccess;
  return status;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : emulation::failed(cudaErrorInvalidValue);
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->major = emulation::capability() / 10;
  properties->minor = emulation::capability() % 10;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; break;  // so that work is split
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = emulation::most_shared_bytes(); break;
    case cudaDevAttrComputeCapabilityMajor: *value = emulation::capability() / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = emulation::capability() % 10; break;
  }
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
