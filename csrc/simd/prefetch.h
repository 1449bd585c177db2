// Asking for memory ahead of its use. Include only from files with an instruction set of their own.
//
// Inlined always: GCC 12 takes a function that does nothing else for one without effect, and drops
// its calls.
#pragma once

#include <cstddef>

namespace logitkit {
namespace {

/// Asks for the cache line of x, which need not be readable, in the first-level cache.
[[gnu::always_inline]] inline void prefetch(const void* x) { __builtin_prefetch(x, 0, 3); }

/// The same in the second-level cache: for what is used thousands of cycles later. More such
/// requests are on their way at once than the first-level cache can wait for.
[[gnu::always_inline]] inline void prefetch_far(const void* x) { __builtin_prefetch(x, 0, 2); }

/// How many bytes ahead of a walk through memory that is.
constexpr std::size_t far_ahead = 16384;

}  // namespace
}  // namespace logitkit
