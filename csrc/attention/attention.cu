#include "attention/attention_cuda.h"

#include <type_traits>

#include "attention/blocks_cuda.h"

namespace logitkit::cuda {
namespace {

constexpr int warps = 4, threads = warps * static_cast<int>(warp_size);

// Of a block: 64 or 128 queries, and keys and values of 16 KiB each.
template <class S, int D>
struct Shape {
  static constexpr int m_tiles = D <= 128 ? 2 : 1, rows = 16 * m_tiles * warps;
  static constexpr int fitting = (16 << 10) / (D * static_cast<int>(sizeof(S)));
  static constexpr int keys = fitting < 64 ? fitting : 64, n_tiles = keys / 8;
  static constexpr std::size_t shared_bytes = std::size_t{rows + 2 * keys} * D * sizeof(S);
};

// The part of a softmax that a lane holds: of its rows, in columns 8n + 2t and 8n + 2t + 1.
template <class S, int D>
struct Softmax {
  static constexpr int m_tiles = Shape<S, D>::m_tiles, n_tiles = Shape<S, D>::n_tiles;
  float out[m_tiles][D / 8][4] = {};
  RowSums<float> sums[m_tiles][2];

  __device__ Softmax() {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) sums[m][h] = {-infinity<float>(), 0, 0};
  }

  // Turns logits into weights, and moves the sums to their largest.
  template <bool with_mean>
  __device__ void weigh(float (&z)[m_tiles][n_tiles][4]) {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float max = sums[m][h].max;
#pragma unroll
        for (int n = 0; n < n_tiles; ++n) max = fmaxf(max, fmaxf(z[m][n][2 * h], z[m][n][2 * h + 1]));
        max = reduce_lanes<4>(max, [](float a, float b) { return fmaxf(a, b); });
        const float factor = raise(sums[m][h], max), shift = shift_of(max);
        float sum = 0, mean = 0;
#pragma unroll
        for (int n = 0; n < n_tiles; ++n)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e) {
            const float down = z[m][n][e] - shift, weight = fast_exp2(down);
            sum += weight;
            if (with_mean) mean += weight > 0.0f ? weight * down : 0.0f;
            z[m][n][e] = weight;
          }
        sums[m][h].sum += sum;
        sums[m][h].mean += mean;
#pragma unroll
        for (int d = 0; d < D / 8; ++d) {
          out[m][d][2 * h] *= factor;
          out[m][d][2 * h + 1] *= factor;
        }
      }
  }
};

template <class S, int D, bool plain>
__device__ void make_logits(const AttentionInput<S>& in, const Unit<S>& unit,
                            const LaneRows<S, Shape<S, D>::m_tiles>& rows, int first, bool hides,
                            float (&z)[Shape<S, D>::m_tiles][Shape<S, D>::n_tiles][4]) {
  const int column = 2 * static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int m = 0; m < Shape<S, D>::m_tiles; ++m)
#pragma unroll
    for (int n = 0; n < Shape<S, D>::n_tiles; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int j = first + 8 * n + column + e % 2;
        const bool seen = !hides || rows.keys[m][e / 2].holds(j);
        if (plain || seen) z[m][n][e] = logit_of<plain>(in, unit.s, rows.query[m][e / 2], j, z[m][n][e]).value;
        if (!seen) z[m][n][e] = -infinity<float>();
      }
}

template <class S, int D>
__device__ void finish(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                       const Unit<S>& unit, const LaneRows<S, Shape<S, D>::m_tiles>& rows,
                       int first_row, const Softmax<S, D>& softmax) {
  const int lane = threadIdx.x % warp_size, column = 2 * (lane % 4);
  const bool aligned = is_aligned_pair(out.out);
#pragma unroll
  for (int m = 0; m < Shape<S, D>::m_tiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      RowSums<float> sums = softmax.sums[m][h];
      const auto add = [](float a, float b) { return a + b; };
      sums.sum = reduce_lanes<4>(sums.sum, add);
      sums.mean = reduce_lanes<4>(sums.mean, add);
      const int row = first_row + 16 * m + 8 * h + lane / 4;
      if (row >= unit.rows) continue;
      const Query<float>& query = rows.query[m][h];
      const float factor =
          finish_row(in, out, unit.s, query.head, query.row, sums, lane % 4 == 0);
      S* to = unit.row_at(out.out, row);
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        const float first = softmax.out[m][d][2 * h], second = softmax.out[m][d][2 * h + 1];
        const int at = 8 * d + column;
        store_pair(to + at, factor == 0.0f ? 0.0f : first * factor,
                   factor == 0.0f ? 0.0f : second * factor, min(2, in.value_dim - at), aligned);
      }
    }
}

// A block goes over the keys that its queries see. Values arrive while scores are computed, and
// the next keys while values are weighted.
template <class S, int D, bool plain>
__global__ void __launch_bounds__(threads, 2)
    attend(const AttentionInput<S> in, const AttentionOutput<S> out, const Grid grid,
           const bool aligned) {
  using Of = Shape<S, D>;
  const Unit<S> unit(in, grid, Of::rows);
  if (unit.first_row >= unit.rows) return;
  unsigned char* memory = dynamic_shared<unsigned char>();
  const Tile<S, D> queries = {memory}, keys = {queries.data + Of::rows * queries.row_bytes},
                   values = {keys.data + Of::keys * keys.row_bytes};
  const int warp_row = 16 * Of::m_tiles * static_cast<int>(threadIdx.x / warp_size);
  const int first_row = unit.first_row + warp_row;
  load_rows<threads>(queries, Of::rows, in.head_dim, aligned,
                     [&](int row) { return unit.row_at(in.query, unit.first_row + row); });
  LaneRows<S, Of::m_tiles> rows;
  const BlockRange range = rows.template load<threads>(in, unit, first_row);
  const auto load_keys = [&](const Tile<S, D>& tile, const Rows<const S>& x, int dim, int first) {
    load_rows<threads>(tile, Of::keys, dim, aligned, [&](int row) -> const S* {
      if (first + row >= static_cast<int>(unit.s.keys)) return nullptr;
      return key_row(in, x, unit.s, unit.key_head, first + row);
    });
  };
  Softmax<S, D> softmax;
  const bool works = first_row < unit.rows;  // the same for all lanes of a warp
  bool starts_over = false;
  int first = range.begin / Of::keys * Of::keys;
  if (first < range.end) load_keys(keys, in.key, in.head_dim, first);
  for (; first < range.end; first += Of::keys) {
    wait_for_copies();
    __syncthreads();
    load_keys(values, in.value, in.value_dim, first);
    float z[Of::m_tiles][Of::n_tiles][4] = {};
    if (works) multiply_rows(queries, warp_row, keys, z);
    wait_for_copies();
    __syncthreads();
    if (first + Of::keys < range.end) load_keys(keys, in.key, in.head_dim, first + Of::keys);
    const bool hides = range.hides(first, Of::keys);
    // 0 times a value that is not finite would not be 0.
    if (!plain || hides) starts_over |= part_not_finite<threads>(values, Of::keys);
    if (!works) continue;
    make_logits<S, D, plain>(in, unit, rows, first, hides, z);
    softmax.template weigh<!plain>(z);
    add_weighted(z, values, softmax.out);
  }
  wait_for_copies();
  if (!__syncthreads_or(starts_over)) return finish(in, out, unit, rows, first_row, softmax);
  float* of_warp = reinterpret_cast<float*>(memory) + row_memory(in) * (threadIdx.x / warp_size);
  for (int r = warp_row; r < warp_row + 16 * Of::m_tiles && unit.first_row + r < unit.rows; ++r)
    attend_row(in, out, unit.s, unit.head_of(unit.first_row + r),
               unit.query_of(unit.first_row + r), of_warp);
}

template <class S>
__global__ void __launch_bounds__(threads)
    attend_rows(const AttentionInput<S> in, const AttentionOutput<S> out, const Grid grid) {
  const Unit<S> unit(in, grid, warps);
  const int warp = threadIdx.x / warp_size, row = unit.first_row + warp;
  if (row >= unit.rows) return;
  Compute<S>* memory = dynamic_shared<Compute<S>>() + row_memory(in) * warp;
  attend_row(in, out, unit.s, unit.head_of(row), unit.query_of(row), memory);
}

template <class S, int D>
cudaError_t launch_tiles(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                         cudaStream_t stream) {
  using Of = Shape<S, D>;
  const Grid grid = grid_of(in, Of::rows);
  const bool aligned = is_aligned<S>(in.query) && is_aligned<S>(in.key) && is_aligned<S>(in.value);
  const bool plain = is_plain(in) && out.entropy.data == nullptr;
  const Launch how = {dim3(static_cast<unsigned>(grid.blocks(in.sequence_count))), dim3(threads),
                      Of::shared_bytes, stream};
  return launch(plain ? &attend<S, D, true> : &attend<S, D, false>, how, in, out, grid, aligned);
}

}  // namespace

template <class S>
cudaError_t attention(const AttentionInput<S>& in, const AttentionOutput<S>& out,
                      cudaStream_t stream) {
  if (in.heads == 0 || in.alike.queries == 0 || in.sequence_count == 0) return cudaSuccess;
  if constexpr (!std::is_same_v<S, double>) {
    const int dim = in.head_dim > in.value_dim ? in.head_dim : in.value_dim;
    if (dim <= 64 && has_tensor_cores<S>(Shape<S, 64>::shared_bytes))
      return launch_tiles<S, 64>(in, out, stream);
    if (dim <= 128 && has_tensor_cores<S>(Shape<S, 128>::shared_bytes))
      return launch_tiles<S, 128>(in, out, stream);
    if (dim <= 256 && has_tensor_cores<S>(Shape<S, 256>::shared_bytes))
      return launch_tiles<S, 256>(in, out, stream);
  }
  const Grid grid = grid_of(in, warps);
  const std::size_t bytes = std::size_t{warps} * row_memory(in) * sizeof(Compute<S>);
  const Launch how = {dim3(static_cast<unsigned>(grid.blocks(in.sequence_count))), dim3(threads),
                      bytes, stream};
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
