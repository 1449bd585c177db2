// How kernels read and write elements.
#pragma once

#include <cuda_runtime.h>

#include "cuda/element.h"

namespace logitkit::cuda {

inline __device__ float load(float x) { return x; }
inline __device__ double load(double x) { return x; }
inline __device__ float load(__half x) { return __half2float(x); }
inline __device__ float load(__nv_bfloat16 x) { return __bfloat162float(x); }

/// `x` rounded to the nearest element.
template <class S>
__device__ S stored(Compute<S> x);
template <>
inline __device__ float stored<float>(float x) {
  return x;
}
template <>
inline __device__ double stored<double>(double x) {
  return x;
}
template <>
inline __device__ __half stored<__half>(float x) {
  return __float2half_rn(x);
}
template <>
inline __device__ __nv_bfloat16 stored<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// `count` elements that are read and written at once.
template <class S, int count>
struct alignas(sizeof(S) * count) Pack {
  S element[count];
};

/// How many elements a thread moves with one instruction, where memory is aligned for it.
template <class S>
constexpr int pack_size = 16 / static_cast<int>(sizeof(S));

template <class T>
__device__ inline T infinity();
template <>
__device__ inline float infinity<float>() {
  return __int_as_float(0x7f800000);
}
template <>
__device__ inline double infinity<double>() {
  return __longlong_as_double(0x7ff0000000000000LL);
}

}  // namespace logitkit::cuda
