// CUDA's language on the processor, for tests where there is no GPU: a kernel is a function that
// each thread of a block runs as a fiber, one block after the other.
//
// A fiber runs until it waits, for its block or its warp. Which of those that can go on is next
// is drawn anew each time, so that a barrier that is missing shows. Memory that blocks share
// begins as NaNs and signals nothing that is read too early otherwise.
#pragma once

#include <math.h>  // whose functions are overloaded for float, as those of CUDA are

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__
#define __grid_constant__
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulation {

constexpr unsigned warp_size = 32;

// What the fiber that runs now knows of itself.
extern dim3 grid_size, block_size;
extern uint3 block_index, thread_index;

void wait_for_block();

/// Waits until all threads of the warp that have not ended are here too; `given` bytes of each
/// lie then, for its lane, in what is returned, until the warp waits again. Lanes that give
/// another number of bytes are at another instruction, and end the program.
struct LaneBytes {
  alignas(16) unsigned char of_lane[warp_size][64];
  unsigned lanes;  // a bit for each that gave something
};
const LaneBytes& exchange(const void* given, std::size_t size);
unsigned lane();

void* shared_bytes();

/// Ends the program with a message unless `holds`: for what a GPU traps, or leaves undefined.
void require(bool holds, const char* what);
inline void require_all_lanes(unsigned mask) {
  require(mask == ~0u, "a mask that leaves lanes out");
}
inline void require_aligned(const void* address, std::size_t multiple) {
  require(reinterpret_cast<std::uintptr_t>(address) % multiple == 0,
          "an address that is not aligned");
}

/// Runs `body(context)` for every thread of every block.
void run(dim3 grid, dim3 block, std::size_t shared_bytes, void (*body)(void*), void* context);

template <class T>
T from_lane(const LaneBytes& bytes, unsigned lane) {
  T value;
  std::memcpy(&value, bytes.of_lane[lane], sizeof(T));
  return value;
}

}  // namespace emulation

#define gridDim emulation::grid_size
#define blockDim emulation::block_size
#define blockIdx emulation::block_index
#define threadIdx emulation::thread_index

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned mask = ~0u) {
  emulation::require_all_lanes(mask);
  emulation::exchange(nullptr, 0);
}
inline void __threadfence() {}

template <class T>
T __shfl_sync(unsigned lanes, T value, int source, int width = 32) {
  emulation::require_all_lanes(lanes);
  const auto& all = emulation::exchange(&value, sizeof(T));
  const unsigned first = emulation::lane() / width * width;
  return emulation::from_lane<T>(all, first + static_cast<unsigned>(source) % width);
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int mask, int = 32) {
  emulation::require_all_lanes(lanes);
  const auto& all = emulation::exchange(&value, sizeof(T));
  return emulation::from_lane<T>(all, emulation::lane() ^ static_cast<unsigned>(mask));
}
template <class T>
T __shfl_down_sync(unsigned lanes, T value, unsigned delta, int width = 32) {
  emulation::require_all_lanes(lanes);
  const auto& all = emulation::exchange(&value, sizeof(T));
  const unsigned lane = emulation::lane();
  return emulation::from_lane<T>(
      all, lane % width + delta < static_cast<unsigned>(width) ? lane + delta : lane);
}
template <class T>
T __shfl_up_sync(unsigned lanes, T value, unsigned delta, int width = 32) {
  emulation::require_all_lanes(lanes);
  const auto& all = emulation::exchange(&value, sizeof(T));
  const unsigned lane = emulation::lane();
  return emulation::from_lane<T>(all, lane % width >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  emulation::require_all_lanes(mask);
  const auto& all = emulation::exchange(&predicate, sizeof predicate);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < emulation::warp_size; ++lane)
    if (all.lanes >> lane & 1)
      votes |= static_cast<unsigned>(emulation::from_lane<int>(all, lane) != 0) << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline int __syncthreads_or(int predicate) {
  static int any;  // of the block
  __syncthreads();
  any = 0;
  __syncthreads();
  any |= predicate != 0;
  __syncthreads();
  return any;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32);
}
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <class To, class From>
To emulation_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &value, sizeof to);
  return to;
}
inline float __uint_as_float(unsigned x) { return emulation_bits<float>(x); }
inline float __int_as_float(int x) { return emulation_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emulation_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emulation_bits<int>(x); }
inline double __longlong_as_double(long long x) { return emulation_bits<double>(x); }
inline long long __double_as_longlong(double x) { return emulation_bits<long long>(x); }

// Rounding is written where it matters: nvcc fuses what may be fused, GCC here does not.
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline int atomicAdd(int* address, int value) {
  const int old = *address;
  *address += value;
  return old;
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  const unsigned old = *address;
  *address += value;
  return old;
}
inline int atomicMax(int* address, int value) {
  const int old = *address;
  if (value > old) *address = value;
  return old;
}
inline unsigned long long atomicMax(unsigned long long* address, unsigned long long value) {
  const unsigned long long old = *address;
  if (value > old) *address = value;
  return old;
}
