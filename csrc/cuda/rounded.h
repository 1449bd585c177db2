// Operations of IEEE 754 that the compiler must neither fuse nor split, and the bits of numbers:
// for results that are the same, bit by bit, on every processor.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace logitkit::cuda {

inline __device__ float sum(float a, float b) { return __fadd_rn(a, b); }
inline __device__ double sum(double a, double b) { return __dadd_rn(a, b); }
inline __device__ float difference(float a, float b) { return __fsub_rn(a, b); }
inline __device__ double difference(double a, double b) { return __dsub_rn(a, b); }
inline __device__ float product(float a, float b) { return __fmul_rn(a, b); }
inline __device__ double product(double a, double b) { return __dmul_rn(a, b); }
inline __device__ float quotient(float a, float b) { return __fdiv_rn(a, b); }
inline __device__ double quotient(double a, double b) { return __ddiv_rn(a, b); }
inline __device__ float root(float a) { return __fsqrt_rn(a); }
inline __device__ double root(double a) { return __dsqrt_rn(a); }
/// a b + c, rounded once.
inline __device__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
inline __device__ double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

inline __device__ std::uint32_t bits_of(float x) { return __float_as_uint(x); }
inline __device__ std::uint64_t bits_of(double x) {
  return static_cast<std::uint64_t>(__double_as_longlong(x));
}
inline __device__ float from_bits(std::uint32_t bits) { return __uint_as_float(bits); }
inline __device__ double from_bits(std::uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

}  // namespace logitkit::cuda
