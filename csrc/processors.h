// The processors that this process may use.
#pragma once

#include <cstddef>

namespace logitkit {

/// The number of processors that this process may keep busy, at least 1. On Linux
/// that is its affinity mask, read at each call, and the CPU quota of its control
/// group, read at the first; elsewhere it is what the machine has.
std::size_t usable_processors();

}  // namespace logitkit
