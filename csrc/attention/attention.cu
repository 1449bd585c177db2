#include "attention/attention_cuda.h"

#include <type_traits>

#include "attention/blocks_cuda.h"

namespace logitkit::cuda {
namespace {

constexpr int warps = 4, threads = warps * static_cast<int>(warp_size);

// Of a block: 64 or 128 queries, and tiles of keys and values of at most 16 KiB each; 8 KiB of
// float with 128 queries, for registers and for two blocks in 164 KiB. What is not plain takes code
// for each logit of a lane, of which there are fewer then.
template <class S, int D, bool plain>
struct Shape {
  static constexpr int m_tiles = plain && D <= 128 ? 2 : 1, rows = 16 * m_tiles * warps;
  static constexpr int tile_bytes = (m_tiles == 2 && sizeof(S) == 4 ? 8 : 16) << 10;
  static constexpr int fitting = tile_bytes / (D * static_cast<int>(sizeof(S)));
  static constexpr int most = plain && sizeof(S) == 2 ? 64 : 32;
  static constexpr int keys = fitting < most ? fitting : most, n_tiles = keys / 8;
  static constexpr std::size_t tiles_bytes = std::size_t{rows + 2 * keys} * D * sizeof(S);
  static constexpr std::size_t shared_bytes = tiles_bytes + rows * sizeof(float);  // and scales
  using Scores = float[m_tiles][n_tiles][4];
};

// The part of a softmax that a lane holds: of its rows, in columns 8n + 2t and 8n + 2t + 1.
template <class S, int D, bool plain>
struct Softmax {
  using Of = Shape<S, D, plain>;
  float out[Of::m_tiles][D / 8][4] = {};
  RowSums<float> sums[Of::m_tiles][2];

  __device__ Softmax() {
#pragma unroll
    for (int m = 0; m < Of::m_tiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) sums[m][h] = {-infinity<float>(), 0, 0};
  }

  // Turns logits into weights, and moves the sums to their largest.
  __device__ void weigh(typename Of::Scores& z) {
#pragma unroll
    for (int m = 0; m < Of::m_tiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float max = sums[m][h].max;
#pragma unroll
        for (int n = 0; n < Of::n_tiles; ++n)
          max = fmaxf(max, fmaxf(z[m][n][2 * h], z[m][n][2 * h + 1]));
        max = reduce_lanes<4>(max, [](float a, float b) { return fmaxf(a, b); });
        const float factor = raise(sums[m][h], max), shift = shift_of(max);
        float sum = 0, mean = 0;
#pragma unroll
        for (int n = 0; n < Of::n_tiles; ++n)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e) {
            const float down = z[m][n][e] - shift, weight = fast_exp2(down);
            sum += weight;
            if (!plain) mean += weight > 0.0f ? weight * down : 0.0f;
            z[m][n][e] = weight;
          }
        sums[m][h].sum += sum;
        sums[m][h].mean = plain ? 0.0f : sums[m][h].mean + mean;
#pragma unroll
        for (int d = 0; d < D / 8; ++d) {
          out[m][d][2 * h] *= factor;
          out[m][d][2 * h + 1] *= factor;
        }
      }
  }
};

// Scores become logits; row `first_row` of the unit is the first of this warp, whose `scales` lie
// in shared memory: which head and query a row is of takes divisions, and many keys need not know.
template <class S, int D, bool plain>
__device__ void make_logits(const AttentionInput<S>& in, const Unit<S>& unit, int first_row,
                            const float* scales, int first_key, bool hides,
                            typename Shape<S, D, plain>::Scores& z) {
  using Of = Shape<S, D, plain>;
  const int lane = threadIdx.x % warp_size;
#pragma unroll
  for (int m = 0; m < Of::m_tiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int place = 16 * m + 8 * h + lane / 4, row = min(first_row + place, unit.rows - 1);
      if constexpr (plain) {
        const float scale = scales[place] * per_logit<float>;
#pragma unroll
        for (int n = 0; n < Of::n_tiles; ++n)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e) z[m][n][e] *= scale;
        if (!hides) continue;
      }
      const int head = unit.head_of(row), query = unit.query_of(row);
      const LogitRow<plain, S> logit(in, unit.s, head, query, first_key, scales[place]);
      const KeyRange seen = keys_seen(in, unit.s, query);
#pragma unroll
      for (int n = 0; n < Of::n_tiles; ++n)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          const int k = 8 * n + 2 * (lane % 4) + e % 2;
          const bool is_seen = !hides || seen.holds(first_key + k);
          if (!plain && is_seen) z[m][n][e] = logit(in, k, z[m][n][e]).value;
          if (!is_seen) z[m][n][e] = -infinity<float>();
        }
    }
}

// Row `warp_row` of the block is the first of this warp; `tile` is memory for its rows.
template <class S, int D, bool plain>
__device__ void finish(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                       const Unit<S>& unit, int warp_row, const Softmax<S, D, plain>& softmax,
                       const Tile<S, D>& tile) {
  constexpr int m_tiles = Shape<S, D, plain>::m_tiles;
  const int lane = threadIdx.x % warp_size, k = lane % 4;
  // Of four lanes that have the same rows each finishes one.
  RowSums<float> mine = {-infinity<float>(), 0, 0};
#pragma unroll
  for (int i = 0; i < 2 * m_tiles; ++i) {
    RowSums<float> sums = softmax.sums[i / 2][i % 2];
    const auto add = [](float a, float b) { return a + b; };
    sums.sum = reduce_lanes<4>(sums.sum, add);
    sums.mean = reduce_lanes<4>(sums.mean, add);
    if (k == i) mine = sums;
  }
  const int row = unit.first_row + warp_row + 8 * k + lane / 4;
  const int inside = min(row, unit.rows - 1);
  const float my_factor = finish_row(in, out, unit.s, unit.head_of(inside), unit.query_of(inside),
                                     mine, row < unit.rows && k < 2 * m_tiles);
#pragma unroll
  for (int i = 0; i < 2 * m_tiles; ++i) {
    const float factor = __shfl_sync(all_lanes, my_factor, lane - k + i);
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      const float* sums = &softmax.out[i / 2][d][2 * (i % 2)];
      put_pair(tile, warp_row + 8 * i + lane / 4, d, factor == 0.0f ? 0.0f : sums[0] * factor,
               factor == 0.0f ? 0.0f : sums[1] * factor);
    }
  }
  __syncwarp();
  store_rows(tile, warp_row, 16 * m_tiles, in.value_dim, is_aligned<S>(out.out),
             [&](int r) { return unit.row_at(out.out, unit.first_row + r); });
}

// A block goes over the keys that its queries see. Values arrive while scores are computed, and
// the next keys while values are weighted.
template <class S, int D, bool plain>
__global__ void __launch_bounds__(threads, 2)
    attend(const __grid_constant__ AttentionInput<S> in,
           const __grid_constant__ AttentionOutput<S> out, const Grid grid, const bool aligned) {
  if (!has_products<S>()) return;
  using Of = Shape<S, D, plain>;
  const Unit<S> unit(in, grid, Of::rows);
  if (unit.first_row >= unit.rows) return;
  unsigned char* memory = dynamic_shared<unsigned char>();
  const Tile<S, D> queries = {memory}, keys = {queries.data + Of::rows * queries.row_bytes},
                   values = {keys.data + Of::keys * keys.row_bytes};
  auto* scales = reinterpret_cast<float*>(memory + Of::tiles_bytes);
  const int warp_row = 16 * Of::m_tiles * static_cast<int>(threadIdx.x / warp_size);
  const int first_row = unit.first_row + warp_row;
  load_rows<threads>(queries, Of::rows, in.head_dim, aligned,
                     [&](int row) { return unit.row_at(in.query, unit.first_row + row); });
  for (int row = threadIdx.x; row < Of::rows; row += threads)
    scales[row] = unit.scale_of_row(in, min(unit.first_row + row, unit.rows - 1));
  const BlockRange range = range_of_rows<threads, Of::m_tiles>(in, unit, first_row);
  const int key_count = static_cast<int>(unit.s.keys);
  const auto load_keys = [&](const Tile<S, D>& tile, const Rows<const S>& x, int dim, int first) {
    load_rows<threads>(tile, Of::keys, dim, aligned, [&](int row) -> const S* {
      return first + row < key_count ? key_row(in, x, unit.s, unit.key_head, first + row) : nullptr;
    });
  };
  Softmax<S, D, plain> softmax;
  const bool works = first_row < unit.rows;  // the same for all lanes of a warp
  bool starts_over = false;
  // Before the first keys there is a turn that only loads them, so that the code is there once.
  int first = range.begin / Of::keys * Of::keys - Of::keys;
  for (; first < range.end; first += Of::keys) {
    const bool has_keys = first >= range.begin / Of::keys * Of::keys;
    wait_for_copies();
    __syncthreads();
    if (has_keys) load_keys(values, in.value, in.value_dim, first);
    typename Of::Scores z = {};
    if (has_keys && works) multiply_rows(queries, warp_row, keys, z);
    wait_for_copies();
    __syncthreads();
    if (first + Of::keys < range.end) load_keys(keys, in.key, in.head_dim, first + Of::keys);
    if (!has_keys) continue;
    const bool hides = range.hides(first, Of::keys);
    // 0 times a value that is not finite would not be 0.
    if (!plain || hides) starts_over |= part_not_finite<threads>(values, Of::keys);
    if (!works) continue;
    make_logits<S, D, plain>(in, unit, first_row, scales + warp_row, first, hides, z);
    softmax.weigh(z);
    add_weighted(z, values, softmax.out);
  }
  wait_for_copies();
  const Unit<S> again(in, grid, Of::rows);  // rather than hold it in registers
  if (!__syncthreads_or(starts_over)) {
    if (works) finish(in, out, again, warp_row, softmax, queries);
    return;
  }
  float* of_warp = reinterpret_cast<float*>(memory) + row_memory(in) * (threadIdx.x / warp_size);
#pragma unroll 1
  for (int r = warp_row; r < warp_row + 16 * Of::m_tiles && again.first_row + r < again.rows; ++r)
    attend_row(in, out, again.s, again.head_of(again.first_row + r),
               again.query_of(again.first_row + r), of_warp);
}

template <class S>
__global__ void __launch_bounds__(threads)
    attend_rows(const __grid_constant__ AttentionInput<S> in,
                const __grid_constant__ AttentionOutput<S> out, const Grid grid) {
  const Unit<S> unit(in, grid, warps);
  const int warp = threadIdx.x / warp_size, row = unit.first_row + warp;
  if (row >= unit.rows) return;
  Compute<S>* memory = dynamic_shared<Compute<S>>() + row_memory(in) * warp;
  attend_row(in, out, unit.s, unit.head_of(row), unit.query_of(row), memory);
}

// Returns whether the device can do it, and queues it.
template <class S, int D, bool plain>
bool launch_tiles(const AttentionInput<S>& in, const AttentionOutput<S>& out, cudaStream_t stream,
                  cudaError_t& status) {
  using Of = Shape<S, D, plain>;
  if (!has_tensor_cores<S>(Of::shared_bytes)) return false;
  const Grid grid = grid_of(in, Of::rows);
  const bool aligned = is_aligned<S>(in.query) && is_aligned<S>(in.key) && is_aligned<S>(in.value);
  const Launch how = {{grid.blocks(in.sequence_count)}, dim3(threads), Of::shared_bytes, stream};
  status = launch(&attend<S, D, plain>, how, in, out, grid, aligned);
  return true;
}

template <class S, bool plain>
bool launch_tiles(const AttentionInput<S>& in, const AttentionOutput<S>& out, cudaStream_t stream,
                  cudaError_t& status) {
  const int dim = in.head_dim > in.value_dim ? in.head_dim : in.value_dim;
  if (dim <= 64) return launch_tiles<S, 64, plain>(in, out, stream, status);
  if (dim <= 128)
    return launch_tiles<S, 128, plain>(in, out, stream, status) ||
           launch_tiles<S, 128, false>(in, out, stream, status);  // takes less shared memory
  if (dim <= 256) return launch_tiles<S, 256, false>(in, out, stream, status);
  return false;
}

}  // namespace

template <class S>
cudaError_t attention(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                      cudaStream_t stream) {
  if (in.heads == 0 || in.alike.queries == 0 || in.sequence_count == 0) return cudaSuccess;
  if constexpr (!std::is_same_v<S, double>) {
    const bool plain = is_plain(in) && out.entropy.data == nullptr;
    cudaError_t status = cudaSuccess;
    if (plain ? launch_tiles<S, true>(in, out, stream, status)
              : launch_tiles<S, false>(in, out, stream, status))
      return status;
  }
  const Grid grid = grid_of(in, warps);
  const std::size_t bytes = std::size_t{warps} * row_memory(in) * sizeof(Compute<S>);
  const Launch how = {{grid.blocks(in.sequence_count)}, dim3(threads), bytes, stream};
  return launch(&attend_rows<S>, how, in, out, grid);
}

template cudaError_t attention(const AttentionInput<float>&, const AttentionOutput<float>&,
                               cudaStream_t);
template cudaError_t attention(const AttentionInput<double>&, const AttentionOutput<double>&,
                               cudaStream_t);
template cudaError_t attention(const AttentionInput<__half>&, const AttentionOutput<__half>&,
                               cudaStream_t);
template cudaError_t attention(const AttentionInput<__nv_bfloat16>&,
                               const AttentionOutput<__nv_bfloat16>&, cudaStream_t);

}  // namespace logitkit::cuda
