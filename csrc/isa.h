// The instruction sets for which this library has kernels.
#pragma once

#include <vector>

namespace logitkit {

/// Weakest first. That of amx are the tile registers for bfloat16, on top of all of avx512: an op
/// that has no loops for it runs those.
enum class Isa { scalar, neon, avx2, avx512, amx };

/// Every Isa that both this build and this machine can run, weakest first.
std::vector<Isa> supported_isas();

/// The strongest supported Isa, or a weaker one if the environment variable
/// LOGITKIT_ISA names it. Decided at the first call.
Isa default_isa();

}  // namespace logitkit
