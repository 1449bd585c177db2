// The instruction sets for which this library has kernels.
#pragma once

#include <vector>

namespace logitkit {

/// Weakest first. On top of all of avx512 come the dot products of bfloat16 in vectors, and on top
/// of these, for amx, its products in tile registers: an op that has no loops for it runs those of
/// avx512.
enum class Isa { scalar, neon, avx2, avx512, avx512_bf16, amx };

/// Every Isa that both this build and this machine can run, weakest first.
std::vector<Isa> supported_isas();

/// The strongest supported Isa, or a weaker one if the environment variable
/// LOGITKIT_ISA names it. Decided at the first call.
Isa default_isa();

}  // namespace logitkit
