// Products of small matrices by the tensor cores, for a warp: mma.sync and what loads its
// operands. tests/cuda/emulation has the same for the processor.
//
// With g = lane / 4 and t = lane % 4, a lane holds of a 16 x 8 matrix C
//   c[0], c[1]: row g, columns 2t and 2t + 1;  c[2], c[3]: the same of row g + 8
// and of the operands, whose rows of A and columns of B are 32 bytes long,
//   a[0]: row g, bytes 4t to 4t + 3;  a[1]: row g + 8;  a[2], a[3]: the same 16 bytes further
//   b[0]: column g, bytes 4t to 4t + 3;  b[1]: the same 16 bytes further
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

namespace logitkit::cuda {

/// Whether there are products of S on the architecture that is compiled for. A kernel of those that
/// there are not is never launched, and left empty.
template <class S>
__device__ constexpr bool has_products() {
#if __CUDA_ARCH__ >= 800
  return true;
#else
  return std::is_same_v<S, __half>;
#endif
}

/// c += A B of float16, 16 x 16 times 16 x 8. Compute capability 7.5.
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    const __half*) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int k = 0; k < 2; ++k)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
#endif
}

/// The same of bfloat16. Compute capability 8.0.
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    const __nv_bfloat16*) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

/// The same of tf32, which is float32 with 11 bits (cuda/tf32.h), 16 x 8 times 8 x 8. Compute
/// capability 8.0.
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    const float*) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

/// Four matrices of 8 rows of 16 bytes; row r of matrix k begins where lane 8k + r says. Of each
/// a lane gets bytes 4t to 4t + 3 of row g.
__device__ inline void load_matrices(unsigned (&x)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}

/// The same of matrices of 8 x 8 elements of 2 bytes, transposed: a lane gets those of rows 2t and
/// 2t + 1 in column g.
__device__ inline void load_transposed(unsigned (&x)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}

/// Two elements of a half type, the first in the lower bytes.
__device__ inline unsigned packed(float first, float second, const __half*) {
  const __half2 pair = __floats2half2_rn(first, second);
  unsigned word;
  memcpy(&word, &pair, sizeof word);
  return word;
}
__device__ inline unsigned packed(float first, float second, const __nv_bfloat16*) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  unsigned word;
  memcpy(&word, &pair, sizeof word);
  return word;
}

/// 2^x within two units in the last place; results below 2^-126 are 0.
__device__ inline float fast_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace logitkit::cuda
