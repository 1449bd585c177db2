// A small thread pool: survives fork, honours affinity, gives the same bits for any thread count.
#pragma once

#include <cstddef>
#include <functional>

namespace logitkit {

/// Calls task(i) once for every i in [0, count), on at most `threads` threads,
/// the calling one included, and returns when all are done. `threads` = 0 means
/// default_threads(). Tasks must be independent: which thread runs which is not
/// fixed, so a result is reproducible when the grid of tasks does not depend on
/// `threads`. A call from inside a task runs serially, and so does one that
/// finds the pool at work for another thread. If tasks throw, one of the
/// exceptions is rethrown here after all threads have stopped.
void parallel_for(std::size_t count, std::size_t threads,
                  const std::function<void(std::size_t)>& task);

/// usable_processors(), or LOGITKIT_NUM_THREADS if that is set and smaller.
/// Throws std::invalid_argument if it is set to anything but a positive integer.
std::size_t default_threads();

/// How many of `count` pieces of work make a task: at most `most`, and the same number of tasks for
/// each of `threads` threads (0: default_threads()) as long as there are pieces. Only for results
/// that do not depend on the grid of tasks.
std::size_t pieces_in_task(std::size_t count, std::size_t most, std::size_t threads);

}  // namespace logitkit
