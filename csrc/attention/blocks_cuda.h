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

  __device__ Compute<S> scale_of_row(const AttentionInput<S>& in, int row) const {
    return scale_of(in, s, head_of(row), query_of(row));
  }

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

constexpr std::size_t most_warps = 4;  // of a block

template <int threads>
__device__ BlockRange range_of_block(const BlockRange& mine) {
  static_assert(threads <= most_warps * warp_size, "what has_tensor_cores() counts");
  __shared__ BlockRange of_warp[threads / warp_size];
  return reduce_block<threads>(
      mine, of_warp, [](const BlockRange& a, const BlockRange& b) { return merged(a, b); });
}

/// The keys that the rows of a block see, of which this lane's warp begins at `first_row`.
template <int threads, int m_tiles, class S>
__device__ BlockRange range_of_rows(const AttentionInput<S>& in, const Unit<S>& unit,
                                    int first_row) {
  BlockRange range = {most_keys, 0, 0, most_keys};
#pragma unroll
  for (int k = 0; k < 2 * m_tiles; ++k) {
    const int row = first_row + 8 * k + static_cast<int>(threadIdx.x % warp_size) / 4;
    if (row < unit.rows) widen(range, keys_seen(in, unit.s, unit.query_of(row)));
  }
  return range_of_block<threads>(range);
}

/// Two neighbours of a row of a tile: columns 8d + 2t and 8d + 2t + 1, with t = lane % 4.
template <class S, int D>
__device__ Pack<S, 2>& pair_at(const Tile<S, D>& tile, int row, int d) {
  constexpr int chunks = static_cast<int>(sizeof(S)) / 2;  // of eight elements
  const int bytes = static_cast<int>(threadIdx.x % 4) * 2 * static_cast<int>(sizeof(S));
  return *reinterpret_cast<Pack<S, 2>*>(tile.chunk(row, chunks * d + bytes / 16) + bytes % 16);
}
template <class S, int D>
__device__ void put_pair(const Tile<S, D>& tile, int row, int d, float first, float second) {
  pair_at(tile, row, d) = {{stored<S>(first), stored<S>(second)}};
}

/// Stores `rows` rows of a tile, those of a warp, to where row_at(row) says, unless that is null.
template <class S, int D, class RowAt>
__device__ void store_rows(const Tile<S, D>& tile, int first_row, int rows, int dim, bool aligned,
                           const RowAt& row_at) {
  constexpr int chunks = Tile<S, D>::chunks, pack = pack_size<S>;
#pragma unroll 1
  for (int index = threadIdx.x % warp_size; index < rows * chunks; index += warp_size) {
    const int row = first_row + index / chunks, column = index % chunks * pack;
    S* to = row_at(row);
    if (to == nullptr || column >= dim) continue;
    const auto& from = *reinterpret_cast<const Pack<S, pack>*>(tile.chunk(row, index % chunks));
    if (aligned && column + pack <= dim) {
      *reinterpret_cast<Pack<S, pack>*>(to + column) = from;
    } else {
#pragma unroll 1
      for (int k = 0; k < pack && column + k < dim; ++k) to[column + k] = from.element[k];
    }
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
  constexpr std::size_t of_range = most_warps * sizeof(BlockRange);  // beside what is asked for
  return 10 * major + minor >= needed && shared_bytes + of_range <= static_cast<std::size_t>(most);
}

/// Whether logits are scaled scores, and only the distance of query and key hides any.
template <class S>
__host__ __device__ inline bool is_plain(const AttentionInput<S>& in) {
  return !(in.softcap > 0) && in.slopes == nullptr && in.mask.data == nullptr &&
         in.terms[0].data == nullptr && in.terms[1].data == nullptr;
}

}  // namespace logitkit::cuda
