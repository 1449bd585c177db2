// What a block of threads works on, in the kernels whose rows are queries.
#pragma once

#include <type_traits>

#include "attention/rows_cuda.h"
#include "attention/tiles_cuda.h"

namespace logitkit::cuda {

/// Rows of one sequence that share their keys, of which each block takes a tile: the queries of a
/// head, or, where they are few, of all heads of a group.
struct Grid {
  bool groups;  // units are groups of heads
  int units, tiles;
  std::size_t blocks(std::size_t sequences) const {
    return sequences * static_cast<std::size_t>(units) * static_cast<std::size_t>(tiles);
  }
};

template <class S>
Grid grid_of(const AttentionInput<S>& in, int rows_of_tile) {
  const auto queries = static_cast<std::int64_t>(in.alike.queries);
  const bool groups = queries * 2 <= rows_of_tile;
  const std::int64_t rows = groups ? queries * (in.heads / in.key_heads) : queries;
  return {groups, groups ? in.key_heads : in.heads,
          static_cast<int>((rows + rows_of_tile - 1) / rows_of_tile)};
}

template <class S>
struct Unit {
  Sequence s;
  int key_head, first_head, rows, first_row;  // of this block

  __device__ Unit(const AttentionInput<S>& in, const Grid& grid, int rows_of_tile) {
    // The last rows first: under a causal mask they have the most to do.
    const unsigned tiles = static_cast<unsigned>(grid.tiles);
    const unsigned tile = tiles - 1 - blockIdx.x % tiles, unit = blockIdx.x / tiles;
    s = sequence_at(in, unit / static_cast<unsigned>(grid.units));
    first_head = static_cast<int>(unit % static_cast<unsigned>(grid.units));
    const int group = in.heads / in.key_heads;
    key_head = grid.groups ? first_head : first_head / group;
    rows = static_cast<int>(s.queries) * (grid.groups ? group : 1);
    if (grid.groups) first_head *= group;
    first_row = static_cast<int>(tile) * rows_of_tile;
  }
  __device__ int head_of(int row) const {
    return first_head + row / max(1, static_cast<int>(s.queries));
  }
  __device__ int query_of(int row) const { return row % max(1, static_cast<int>(s.queries)); }

  /// Where row `row` of an array like the queries lies; null beyond the last.
  template <class Data>
  __device__ Data* row_at(const Rows<Data>& x, int row) const {
    if (row >= rows) return nullptr;
    return at(x, static_cast<std::int64_t>(s.query_batch), head_of(row),
              static_cast<std::int64_t>(s.first_query) + query_of(row));
  }
};

/// The keys that any row of a block sees, and those that all of them do.
struct BlockRange {
  int begin, end, all_begin, all_end;

  /// Whether a row does not see all keys from `first` to `first + count`.
  __device__ bool hides(int first, int count) const {
    return first < all_begin || first + count > all_end;
  }
};

__device__ inline BlockRange merged(const BlockRange& a, const BlockRange& b) {
  return {min(a.begin, b.begin), max(a.end, b.end), max(a.all_begin, b.all_begin),
          min(a.all_end, b.all_end)};
}

constexpr int most_keys = 0x7fffffff;

__device__ inline void widen(BlockRange& range, const KeyRange& row) {
  if (row.begin < row.end) {
    range.begin = min(range.begin, row.begin);
    range.end = max(range.end, row.end);
  }
  range.all_begin = max(range.all_begin, row.begin);
  range.all_end = min(range.all_end, row.end);
}

template <int threads>
__device__ BlockRange range_of_block(const BlockRange& mine) {
  __shared__ BlockRange of_warp[threads / warp_size];
  return reduce_block<threads>(
      mine, of_warp, [](const BlockRange& a, const BlockRange& b) { return merged(a, b); });
}

/// What a lane holds of the rows 16m + g and 16m + g + 8 of its warp.
template <class S, int m_tiles>
struct LaneRows {
  Query<Compute<S>> query[m_tiles][2];
  KeyRange keys[m_tiles][2];

  template <int threads>
  __device__ BlockRange load(const AttentionInput<S>& in, const Unit<S>& unit, int first_row) {
    BlockRange range = {most_keys, 0, 0, most_keys};
#pragma unroll
    for (int m = 0; m < m_tiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = first_row + 16 * m + 8 * h + static_cast<int>(threadIdx.x % warp_size) / 4;
        keys[m][h] = {0, 0};
        query[m][h] = {unit.first_head, 0, 0};
        if (row >= unit.rows) continue;
        query[m][h] = query_at(in, unit.s, unit.head_of(row), unit.query_of(row));
        keys[m][h] = keys_seen(in, unit.s, query[m][h].row);
        widen(range, keys[m][h]);
      }
    return range_of_block<threads>(range);
  }
};

/// Whether pairs of columns of 2t and 2t + 1 are aligned.
template <class S>
__device__ bool is_aligned_pair(const Rows<S>& x) {
  return reinterpret_cast<std::uintptr_t>(x.data) % (2 * sizeof(S)) == 0 &&
         (x.batch | x.head | x.row) % 2 == 0;
}

/// Two neighbours of a row, of which there are `count`, 1 or 2.
template <class S>
__device__ void store_pair(S* to, float first, float second, int count, bool aligned) {
  if (aligned && count == 2) {
    *reinterpret_cast<Pack<S, 2>*>(to) = {{stored<S>(first), stored<S>(second)}};
  } else {
    if (count > 0) to[0] = stored<S>(first);
    if (count > 1) to[1] = stored<S>(second);
  }
}

/// Whether a device has tensor cores for S, and blocks with so much shared memory.
template <class S>
inline bool has_tensor_cores(std::size_t shared_bytes) {
  int device = 0, major = 0, minor = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  const int needed = std::is_same_v<S, __half> ? 75 : 80;
  return 10 * major + minor >= needed && shared_bytes <= static_cast<std::size_t>(most);
}

template <class S>
inline bool is_plain(const AttentionInput<S>& in) {
  return !(in.softcap > 0) && in.slopes == nullptr && in.mask.data == nullptr &&
         in.terms[0].data == nullptr && in.terms[1].data == nullptr;
}

}  // namespace logitkit::cuda
