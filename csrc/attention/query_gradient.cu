#include "attention/gradient_parts_cuda.h"

namespace logitkit::cuda {
namespace {

// Scores become weights, and gradients of weights gradients of scores, of rows of queries.
template <class S, int D>
__device__ void grade_rows(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                           const GradientRows<float>& of_rows, const Unit<S>& unit, int first_row,
                           int first_key, bool hides, const typename GradientShape<S, D>::Scores& z,
                           typename GradientShape<S, D>::Scores& gradients) {
  const int lane = threadIdx.x % warp_size;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = min(first_row + 8 * h + lane / 4, unit.rows - 1);
    const int head = unit.head_of(row), query = unit.query_of(row);
    const GradientRow<float> of_row = of_rows.at(unit.s, head, query);
    const LogitRow<false, S> logit(in, unit.s, head, query, first_key, of_row.scale);
    const KeyRange seen = keys_seen(in, unit.s, query);
    const bool writes = g.grad_logits != nullptr && first_row + 8 * h + lane / 4 < unit.rows;
#pragma unroll
    for (int n = 0; n < GradientShape<S, D>::n_tiles; ++n)
#pragma unroll
      for (int e = 2 * h; e < 2 * h + 2; ++e) {
        const int k = 8 * n + 2 * (lane % 4) + e % 2;
        float& gradient = gradients[0][n][e];
        if (hides && !seen.holds(first_key + k)) {
          gradient = 0.0f;
          continue;
        }
        const Logit<float> x = logit(in, k, z[0][n][e]);
        gradient = graded(of_row, x.value, gradient).gradient;
        if (writes) write_logit(g, unit.s, head, query, first_key + k, gradient);
        gradient *= x.derivative;
      }
  }
}

// The gradient of queries: a block goes over the keys that its rows see.
template <class S, int D>
__global__ void __launch_bounds__(GradientShape<S, D>::threads, 256 / GradientShape<S, D>::threads)
    grade_queries(const __grid_constant__ AttentionInput<S> in,
                  const __grid_constant__ AttentionGradient<S> g,
                  const __grid_constant__ GradientRows<float> of_rows, const Grid grid,
                  const bool aligned) {
  if (!has_products<S>()) return;
  using Of = GradientShape<S, D>;
  const Unit<S> unit(in, grid, Of::rows);
  if (unit.first_row >= unit.rows) return;
  unsigned char* memory = dynamic_shared<unsigned char>();
  const Tile<S, D> queries = {memory}, grad_out = {memory + Of::rows * Of::row_bytes};
  const auto columns_at = [&](int place) {
    return Tile<S, D>{memory + (2 * Of::rows + place * Of::columns) * Of::row_bytes};
  };
  const int warp_row = 16 * static_cast<int>(threadIdx.x / warp_size);
  const int first_row = unit.first_row + warp_row;
  const auto load_tile = [&](const Tile<S, D>& tile, const Rows<const S>& x, int dim) {
    load_rows<Of::threads>(tile, Of::rows, dim, aligned,
                           [&](int row) { return unit.row_at(x, unit.first_row + row); });
  };
  load_tile(queries, in.query, in.head_dim);
  load_tile(grad_out, g.grad_out, in.value_dim);
  const BlockRange range = range_of_rows<Of::threads, 1>(in, unit, first_row);
  const int key_count = static_cast<int>(unit.s.keys);
  const auto load_columns = [&](int place, const Rows<const S>& x, int dim, int first) {
    load_rows<Of::threads>(columns_at(place), Of::columns, dim, aligned, [&](int row) -> const S* {
      return first + row < key_count ? key_row(in, x, unit.s, unit.key_head, first + row) : nullptr;
    });
  };
  float sums[1][D / 8][4] = {};
  const bool works = first_row < unit.rows;
  bool starts_over = false;
  int stage = 0;
  const int begin = range.begin / Of::columns * Of::columns;
  // Before the first tile there is a turn that only loads it, so that the code is there once.
  for (int first = begin - Of::columns; first < range.end; first += Of::columns, stage ^= 2) {
    wait_for_copies();
    __syncthreads();
    if (first + Of::columns < range.end) {
      load_columns(stage ^ 2, in.key, in.head_dim, first + Of::columns);
      load_columns((stage ^ 2) + 1, in.value, in.value_dim, first + Of::columns);
    }
    if (first < begin) continue;
    const Tile<S, D> keys = columns_at(stage), values = columns_at(stage + 1);
    const bool hides = range.hides(first, Of::columns);
    // 0 times a key that is not finite would not be 0.
    if (hides || !is_plain(in)) starts_over |= part_not_finite<Of::threads>(keys, Of::columns);
    if (!works) continue;
    typename Of::Scores z = {}, gradients = {};
    multiply_rows(queries, warp_row, keys, z);
    multiply_rows(grad_out, warp_row, values, gradients);
    grade_rows<S, D>(in, g, of_rows, unit, first_row, first, hides, z, gradients);
    add_weighted(gradients, keys, sums);
  }
  wait_for_copies();
  const Unit<S> again(in, grid, Of::rows);  // rather than hold it in registers
  if (__syncthreads_or(starts_over)) {
    float* of_warp = reinterpret_cast<float*>(memory) +
                     gradient_memory(in) * static_cast<int>(threadIdx.x / warp_size);
#pragma unroll 1
    for (int r = first_row; r < first_row + 16 && r < again.rows; ++r)
      grade_query(in, g, of_rows, again.s, again.head_of(r), again.query_of(r), of_warp);
    return;
  }
  const int lane = threadIdx.x % warp_size;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = warp_row + 8 * h + lane / 4;
    const int inside = min(again.first_row + row, again.rows - 1);
    const int head = again.head_of(inside), query = again.query_of(inside);
    const GradientRow<float> of_row = of_rows.at(again.s, head, query);
    float of_scale = 0;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      float* pair = &sums[0][d][2 * h];
      const Pack<S, 2> of_query = pair_at(queries, row, d);
      of_scale += load(of_query.element[0]) * pair[0] + load(of_query.element[1]) * pair[1];
      put_pair(queries, row, d, pair[0] * of_row.scale, pair[1] * of_row.scale);
    }
    of_scale = reduce_lanes<4>(of_scale, [](float a, float b) { return a + b; });
    if (g.grad_scale.data != nullptr && again.first_row + row < again.rows && lane % 4 == 0)
      *at(g.grad_scale, static_cast<std::int64_t>(again.s.query_batch), head,
          static_cast<std::int64_t>(again.s.first_query) + query) =
          of_row.logsumexp == infinity<float>() ? 0.0f : of_scale;
  }
  __syncwarp();
  store_rows(queries, warp_row, 16, in.head_dim, is_aligned<S>(g.grad_query),
             [&](int r) { return again.row_at(g.grad_query, again.first_row + r); });
}

template <class S>
__global__ void __launch_bounds__(row_threads)
    grade_query_rows(const __grid_constant__ AttentionInput<S> in,
                     const __grid_constant__ AttentionGradient<S> g,
                     const __grid_constant__ GradientRows<Compute<S>> of_rows, const Grid grid) {
  const Unit<S> unit(in, grid, row_warps);
  const int warp = threadIdx.x / warp_size, row = unit.first_row + warp;
  if (row >= unit.rows) return;
  Compute<S>* memory = dynamic_shared<Compute<S>>() + gradient_memory(in) * warp;
  grade_query(in, g, of_rows, unit.s, unit.head_of(row), unit.query_of(row), memory);
}

}  // namespace

template <class S>
cudaError_t query_gradient(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                           const GradientRows<Compute<S>>& of_rows, cudaStream_t stream) {
  if constexpr (!std::is_same_v<S, double>) {
    cudaError_t status = cudaSuccess;
    const auto launch_tiles = [&](auto columns) {
      using Of = GradientShape<S, columns>;
      const Grid grid = grid_of(in, Of::rows);
      const Launch how = {
          {grid.blocks(in.sequence_count)}, dim3(Of::threads), Of::shared_bytes, stream};
      status = launch(&grade_queries<S, columns>, how, in, g, of_rows, grid, are_aligned(in, g));
    };
    if (with_tiles(in, launch_tiles)) return status;
  }
  const Grid grid = grid_of(in, row_warps);
  const Launch how = {{grid.blocks(in.sequence_count)},
                      dim3(row_threads),
                      std::size_t{row_warps} * gradient_memory(in) * sizeof(Compute<S>),
                      stream};
  return launch(&grade_query_rows<S>, how, in, g, of_rows, grid);
}

template cudaError_t query_gradient(const AttentionInput<float>&, const AttentionGradient<float>&,
                                    const GradientRows<Compute<float>>&, cudaStream_t);
template cudaError_t query_gradient(const AttentionInput<double>&, const AttentionGradient<double>&,
                                    const GradientRows<Compute<double>>&, cudaStream_t);
template cudaError_t query_gradient(const AttentionInput<__half>&, const AttentionGradient<__half>&,
                                    const GradientRows<Compute<__half>>&, cudaStream_t);
template cudaError_t query_gradient(const AttentionInput<__nv_bfloat16>&,
                                    const AttentionGradient<__nv_bfloat16>&,
                                    const GradientRows<Compute<__nv_bfloat16>>&, cudaStream_t);

}  // namespace logitkit::cuda
