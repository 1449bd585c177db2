// How rows are cut into tasks: chunks of long rows, groups of short ones.
#pragma once

#include <algorithm>
#include <cstddef>

#include "threads.h"

namespace logitkit {

/// Elements of a task; even, as Draw wants the first one of each.
constexpr std::size_t chunk_size = 16384;

/// Elements first, ..., first + count - 1 of a row.
struct Chunk {
  std::size_t row, first, count;
};

inline std::size_t chunks_of_row(std::size_t count) {
  return std::max<std::size_t>(1, (count + chunk_size - 1) / chunk_size);
}

/// Calls use(chunk) for each chunk of each row of `count` elements, in tasks.
template <class Use>
void for_each_chunk(std::size_t rows, std::size_t count, std::size_t threads, const Use& use) {
  const std::size_t chunks = chunks_of_row(count);
  const std::size_t group = std::max<std::size_t>(1, chunk_size / std::max<std::size_t>(1, count));
  const std::size_t groups = (rows + group - 1) / group;
  parallel_for(groups * chunks, threads, [&](std::size_t task) {
    const std::size_t first = task % chunks * chunk_size;
    const std::size_t begin = task / chunks * group, end = std::min(rows, begin + group);
    for (std::size_t row = begin; row < end; ++row)
      use(Chunk{row, first, std::min(chunk_size, count - first)});
  });
}

}  // namespace logitkit
