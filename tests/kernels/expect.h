// What a kernel test needs: a check that reports and counts, and its place in main.cpp.
#pragma once

namespace logitkit::test {

/// Counts a check, and prints `what` with the line if it failed.
void expect(bool holds, const char* what, const char* file = __builtin_FILE(),
            int line = __builtin_LINE());

/// Whether examples are left out that differ from others in their size only, as those that an
/// emulated processor takes minutes for.
bool only_small();

// One function for each file in this directory.
void test_isa();
void test_threads();
void test_simd();
void test_logsumexp();
void test_softmax();
void test_softmax_stats();
void test_gemm();
void test_least_distance();
void test_linear_argmax();
void test_linear_cross_entropy();
void test_attention();
void test_cross_entropy();
void test_noise_argmax();
void test_random();
void test_self_witness();

}  // namespace logitkit::test
