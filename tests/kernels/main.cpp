// Runs the kernel tests without Python: on emulated processors, and under sanitizers.
//
//   kernel_tests            every test
//   kernel_tests NAME       one of them
//   kernel_tests --small    every test, without large examples, for emulated processors
//
// The first line names the instruction sets that were tested. Exit status 1 if a check failed.

#include <cstdio>
#include <cstring>

#include "expect.h"
#include "isa.h"

namespace logitkit::test {
namespace {

int checks = 0;
int failures = 0;
bool small = false;

struct Test {
  const char* name;
  void (*run)();
};

constexpr Test tests[] = {
    {"isa", test_isa},
    {"threads", test_threads},
    {"simd", test_simd},
    {"logsumexp", test_logsumexp},
    {"softmax", test_softmax},
    {"softmax_stats", test_softmax_stats},
    {"gemm", test_gemm},
    {"least_distance", test_least_distance},
    {"linear_argmax", test_linear_argmax},
    {"linear_cross_entropy", test_linear_cross_entropy},
    {"attention", test_attention},
    {"cross_entropy", test_cross_entropy},
    {"noise_argmax", test_noise_argmax},
    {"random", test_random},
    {"self_witness", test_self_witness},
};

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::neon: return "neon";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512_bf16: return "avx512_bf16";
    case Isa::amx: return "amx";
  }
  return "?";
}

int run(const char* wanted) {
  std::printf("isas:");
  for (const Isa isa : supported_isas()) std::printf(" %s", name_of(isa));
  std::printf("\n");
  for (const Test& test : tests) {
    if (wanted != nullptr && std::strcmp(wanted, test.name) != 0) continue;
    const int before = checks;
    test.run();
    std::printf("%-14s%8d checks\n", test.name, checks - before);
  }
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}

}  // namespace

bool only_small() { return small; }

void expect(bool holds, const char* what, const char* file, int line) {
  ++checks;
  if (holds) return;
  ++failures;
  std::printf("%s:%d: failed: %s\n", file, line, what);
}

}  // namespace logitkit::test

int main(int argc, char** argv) {
  const char* argument = argc > 1 ? argv[1] : nullptr;
  if (argument == nullptr || std::strcmp(argument, "--small") != 0)
    return logitkit::test::run(argument);
  logitkit::test::small = true;
  return logitkit::test::run(nullptr);
}
