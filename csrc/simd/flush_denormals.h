// Denormal numbers are a hundred times slower than others on most processors.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include <cstdint>

namespace logitkit {

/// While an object of this class lives, its thread takes denormal results of SIMD instructions
/// for zero and, where asked, denormal operands too. What was set before is then set again.
class FlushDenormals {
 public:
  enum class What { results, results_and_operands };

#if defined(__x86_64__) || defined(_M_X64)
  explicit FlushDenormals(What what) : before_(_mm_getcsr()) {
    constexpr unsigned flush_to_zero = 1u << 15, denormals_are_zero = 1u << 6;
    _mm_setcsr(before_ | flush_to_zero |
               (what == What::results_and_operands ? denormals_are_zero : 0u));
  }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__) && defined(__GNUC__)
  explicit FlushDenormals(What what) {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    // One bit is for operands and results here.
    constexpr std::uint64_t flush_to_zero = std::uint64_t{1} << 24;
    const bool both = what == What::results_and_operands;
    __asm__ volatile("msr fpcr, %0" : : "r"(before_ | (both ? flush_to_zero : 0)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  std::uint64_t before_;
#else
  explicit FlushDenormals(What) {}
#endif

 public:
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

}  // namespace logitkit
