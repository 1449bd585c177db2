#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#endif
#if defined(LOGITKIT_HAS_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace logitkit {
namespace {

Isa parse(const std::string& name) {
  if (name == "scalar") return Isa::scalar;
  if (name == "neon") return Isa::neon;
  if (name == "avx2") return Isa::avx2;
  if (name == "avx512") return Isa::avx512;
  if (name == "avx512_bf16") return Isa::avx512_bf16;
  if (name == "amx") return Isa::amx;
  throw std::runtime_error(
      "LOGITKIT_ISA must be 'scalar', 'neon', 'avx2', 'avx512', 'avx512_bf16' or 'amx', not '" +
      name + "'");
}

Isa choose() {
  const std::vector<Isa> supported = supported_isas();
  const char* wanted = std::getenv("LOGITKIT_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported.back();
  const Isa cap = parse(wanted);
  Isa chosen = Isa::scalar;
  for (const Isa isa : supported)
    if (isa <= cap) chosen = isa;
  return chosen;
}

#if defined(LOGITKIT_HAS_AVX2) || defined(LOGITKIT_HAS_AVX512)
#if defined(_MSC_VER)
// MSVC has no __builtin_cpu_supports: CPUID says what the processor can do, and
// XGETBV whether the operating system saves the registers.
bool has_bits(int leaf, int reg, unsigned bits) {
  int info[4];
  __cpuidex(info, leaf, 0);
  return (static_cast<unsigned>(info[reg]) & bits) == bits;
}
bool saves_registers(unsigned long long mask) {
  return has_bits(1, 2, 1u << 27) && (_xgetbv(0) & mask) == mask;
}
bool has_avx2() {
  return saves_registers(0x6) && has_bits(1, 2, (1u << 12) | (1u << 29)) && has_bits(7, 1, 1u << 5);
}
bool has_avx512() {
  return saves_registers(0xe6) && has_bits(7, 1, (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31));
}
#else
// The builtin also asks the operating system whether it saves the registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif
#endif

#if defined(LOGITKIT_HAS_AVX512_BF16)
bool has_avx512_bf16() { return __builtin_cpu_supports("avx512bf16"); }
#endif

#if defined(LOGITKIT_HAS_AMX)
// The operating system keeps tile registers for a process that has asked for them, as it takes
// more memory for signals then. To ask again changes nothing.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  if ((d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

}  // namespace

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas = {Isa::scalar};
#if defined(LOGITKIT_HAS_NEON)
  isas.push_back(Isa::neon);  // part of every 64-bit Arm processor
#endif
#if defined(LOGITKIT_HAS_AVX2)
  if (has_avx2()) isas.push_back(Isa::avx2);
#endif
#if defined(LOGITKIT_HAS_AVX512)
  if (has_avx2() && has_avx512()) isas.push_back(Isa::avx512);
#endif
#if defined(LOGITKIT_HAS_AVX512_BF16)
  if (isas.back() == Isa::avx512 && has_avx512_bf16()) isas.push_back(Isa::avx512_bf16);
#endif
#if defined(LOGITKIT_HAS_AMX)
  if (isas.back() == Isa::avx512_bf16 && has_amx()) isas.push_back(Isa::amx);
#endif
  return isas;
}

Isa default_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace logitkit
