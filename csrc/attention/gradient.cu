#include "attention/attention_cuda.h"
#include "attention/blocks_cuda.h"
#include "attention/gradient_rows_cuda.h"

namespace logitkit::cuda {
namespace {

constexpr int row_threads = 128, row_warps = row_threads / static_cast<int>(warp_size);

// Of a block: as many rows as it has warps times 16, whose operands stay in shared memory, and
// columns whose operands take 8 KiB at most and are loaded while the ones before are used.
template <class S, int D>
struct Shape {
  static constexpr int row_bytes = D * static_cast<int>(sizeof(S));
  static constexpr int warps = row_bytes > 512 ? 2 : 4, threads = warps * 32, rows = 16 * warps;
  static constexpr int columns = row_bytes > 256 ? (8 << 10) / row_bytes : 32;
  static constexpr int n_tiles = columns / 8;
  // The gradients of keys and of values do not fit the registers together: two blocks take one.
  static constexpr bool both = D <= 128;
  static constexpr std::size_t tiles_bytes = std::size_t{2 * rows + 4 * columns} * row_bytes;
  static constexpr std::size_t shared_bytes =
      tiles_bytes + 2 * columns * sizeof(GradientRow<float>);
  using Scores = float[1][n_tiles][4];
};

// What the gradient needs of each row, of all `count` rows of the array of queries.
template <class S>
__global__ void __launch_bounds__(row_threads)
    find_rows(const AttentionInput<S> in, const AttentionGradient<S> g,
              const GradientRows<Compute<S>> rows, const std::int64_t count) {
  using T = Compute<S>;
  const std::int64_t index =
      std::int64_t{blockIdx.x} * row_warps + static_cast<int>(threadIdx.x / warp_size);
  if (index >= count) return;
  const std::int64_t row = index % rows.rows, head = index / rows.rows % rows.heads;
  const std::int64_t batch = index / rows.rows / rows.heads;
  const S *out = at(g.out, batch, head, row), *grad_out = at(g.grad_out, batch, head, row);
  T product = 0;
  for (int d = threadIdx.x % warp_size; d < in.value_dim; d += warp_size)
    product += static_cast<T>(load(out[d])) * static_cast<T>(load(grad_out[d]));
  product = warp_sum(product);
  if (threadIdx.x % warp_size != 0) return;
  const auto value = [&](const Rows<const T>& x) {
    return x.data == nullptr ? T(0) : *at(x, batch, head, row);
  };
  const T logsumexp = *at(g.logsumexp, batch, head, row), slope = value(g.grad_entropy);
  const bool empty = logsumexp == -infinity<T>();
  rows.data[index] = {empty ? infinity<T>() : logsumexp * per_logit<T>,
                      value(g.grad_logsumexp) - product - slope * value(g.entropy),
                      slope * logit_unit<T>, *at(in.scale, batch, head, row)};
}

// Scores become weights, and gradients of weights gradients of scores, of rows of queries.
template <class S, int D>
__device__ void grade_rows(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                           const GradientRows<float>& of_rows, const Unit<S>& unit, int first_row,
                           int first_key, bool hides, const typename Shape<S, D>::Scores& z,
                           typename Shape<S, D>::Scores& gradients) {
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
    for (int n = 0; n < Shape<S, D>::n_tiles; ++n)
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
__global__ void __launch_bounds__(Shape<S, D>::threads, 256 / Shape<S, D>::threads)
    grade_queries(const __grid_constant__ AttentionInput<S> in,
                  const __grid_constant__ AttentionGradient<S> g,
                  const __grid_constant__ GradientRows<float> of_rows, const Grid grid,
                  const bool aligned) {
  using Of = Shape<S, D>;
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

// The same as grade_rows() where rows are keys and columns queries of one head; `of_columns` lie
// in shared memory.
template <class S, int D>
__device__ void grade_columns(const AttentionInput<S>& in, const GradientRow<float>* of_columns,
                              const Sequence& s, int head, int first_query, int first_key,
                              bool hides, typename Shape<S, D>::Scores& z,
                              typename Shape<S, D>::Scores& gradients) {
  const int lane = threadIdx.x % warp_size;
  const int j = min(first_key + lane / 4, static_cast<int>(s.keys) - 1);
  const int other = min(first_key + 8 + lane / 4, static_cast<int>(s.keys) - 1);
  const KeyRange seeing[2] = {queries_seeing(in, s, j), queries_seeing(in, s, other)};
#pragma unroll
  for (int n = 0; n < Shape<S, D>::n_tiles; ++n)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column = 8 * n + 2 * (lane % 4) + c, i = first_query + column;
      const GradientRow<float> of_row = of_columns[column];
      const int inside = min(i, static_cast<int>(s.queries) - 1);
      const LogitRow<false, S> logit(in, s, head, inside, j, of_row.scale);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float &weight = z[0][n][2 * h + c], &gradient = gradients[0][n][2 * h + c];
        if (hides && !seeing[h].holds(i)) {
          weight = gradient = 0.0f;
          continue;
        }
        const Logit<float> x = logit(in, h == 0 ? 0 : other - j, weight);
        const Graded<float> result = graded(of_row, x.value, gradient);
        weight = result.weight;
        gradient = result.gradient * (x.derivative * of_row.scale);
      }
    }
}

// The gradients of keys and values: a block goes over the queries that see its keys, those of all
// heads of the group.
template <class S, int D>
__global__ void __launch_bounds__(Shape<S, D>::threads, 256 / Shape<S, D>::threads)
    grade_keys(const AttentionInput<S> in, const AttentionGradient<S> g,
               const GradientRows<float> of_rows, const unsigned tiles, const bool aligned) {
  using Of = Shape<S, D>;
  unsigned index = blockIdx.x;
  bool of_values = false;
  if constexpr (!Of::both) {
    of_values = index % 2 == 0;
    index /= 2;
  }
  const int key_head = static_cast<int>(index / tiles % static_cast<unsigned>(in.key_heads));
  const Sequence s = sequence_at(in, index / tiles / static_cast<unsigned>(in.key_heads));
  const int tile_key = static_cast<int>(index % tiles) * Of::rows;
  const int key_count = static_cast<int>(s.keys), query_count = static_cast<int>(s.queries);
  if (tile_key >= key_count) return;
  unsigned char* memory = dynamic_shared<unsigned char>();
  const Tile<S, D> keys = {memory}, values = {memory + Of::rows * Of::row_bytes};
  const auto columns_at = [&](int place) {
    return Tile<S, D>{memory + (2 * Of::rows + place * Of::columns) * Of::row_bytes};
  };
  auto* columns = reinterpret_cast<GradientRow<float>*>(memory + Of::tiles_bytes);
  const auto load_tile = [&](const Tile<S, D>& tile, const Rows<const S>& x, int dim) {
    load_rows<Of::threads>(tile, Of::rows, dim, aligned, [&](int row) -> const S* {
      return tile_key + row < key_count ? key_row(in, x, s, key_head, tile_key + row) : nullptr;
    });
  };
  load_tile(keys, in.key, in.head_dim);
  load_tile(values, in.value, in.value_dim);
  const int warp_row = 16 * static_cast<int>(threadIdx.x / warp_size);
  const int first_key = tile_key + warp_row;
  BlockRange range = {most_keys, 0, 0, most_keys};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int j = first_key + 8 * h + static_cast<int>(threadIdx.x % warp_size) / 4;
    if (j < key_count) widen(range, queries_seeing(in, s, j));
  }
  range = range_of_block<Of::threads>(range);
  const int begin = range.begin / Of::columns * Of::columns;
  const int per_head =
      range.begin < range.end ? (range.end - begin + Of::columns - 1) / Of::columns : 0;
  const int group = in.heads / in.key_heads, turns = group * per_head;
  const auto load_columns = [&](int stage, int turn) {
    const int head = key_head * group + turn / per_head;
    const int first = begin + turn % per_head * Of::columns;
    const auto load_queries = [&](const Tile<S, D>& tile, const Rows<const S>& x, int dim) {
      load_rows<Of::threads>(tile, Of::columns, dim, aligned, [&](int row) -> const S* {
        if (first + row >= query_count) return nullptr;
        // What saw nothing gives nothing, be it infinite.
        if (of_rows.at(s, head, first + row).logsumexp == infinity<float>()) return nullptr;
        return at(x, static_cast<std::int64_t>(s.query_batch), head,
                  static_cast<std::int64_t>(s.first_query) + first + row);
      });
    };
    load_queries(columns_at(stage), in.query, in.head_dim);
    load_queries(columns_at(stage + 1), g.grad_out, in.value_dim);
    const int column = static_cast<int>(threadIdx.x);
    if (column < Of::columns) {
      const bool there = first + column < query_count;
      copy_async(columns + stage / 2 * Of::columns + column,
                 there ? &of_rows.at(s, head, first + column) : nullptr,
                 there ? static_cast<int>(sizeof(GradientRow<float>)) : 0);
    }
  };
  float key_sums[1][Of::both ? D / 8 : 1][4] = {}, sums[1][D / 8][4] = {};
  const bool works = first_key < key_count;
  int stage = 0;
  for (int turn = -1; turn < turns; ++turn, stage ^= 2) {
    wait_for_copies();
    __syncthreads();
    if (turn + 1 < turns) load_columns(stage ^ 2, turn + 1);
    if (turn < 0 || !works) continue;
    const Tile<S, D> queries = columns_at(stage), grad_out = columns_at(stage + 1);
    const int first = begin + turn % per_head * Of::columns;
    typename Of::Scores z = {}, gradients = {};
    multiply_rows(keys, warp_row, queries, z);
    multiply_rows(values, warp_row, grad_out, gradients);
    grade_columns<S, D>(in, columns + stage / 2 * Of::columns, s,
                        key_head * group + turn / per_head, first, first_key,
                        range.hides(first, Of::columns), z, gradients);
    if constexpr (Of::both) {
      add_weighted(z, grad_out, sums);
      add_weighted(gradients, queries, key_sums);
    } else {
#pragma unroll
      for (int n = 0; n < Of::n_tiles; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) z[0][n][e] = of_values ? z[0][n][e] : gradients[0][n][e];
      add_weighted(z, of_values ? grad_out : queries, sums);
    }
  }
  wait_for_copies();
  if (!works) return;
  const auto store = [&](const Tile<S, D>& tile, const auto& gradient, const Rows<S>& to, int dim) {
#pragma unroll
    for (int d = 0; d < D / 8; ++d)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        put_pair(tile, warp_row + 8 * h + static_cast<int>(threadIdx.x % warp_size) / 4, d,
                 gradient[0][d][2 * h], gradient[0][d][2 * h + 1]);
    __syncwarp();
    store_rows(tile, warp_row, 16, dim, is_aligned<S>(to), [&](int row) -> S* {
      if (tile_key + row >= key_count) return nullptr;
      return at(to, static_cast<std::int64_t>(s.key_batch), key_head,
                static_cast<std::int64_t>(s.first_key) + tile_key + row);
    });
  };
  if constexpr (Of::both) {
    store(values, sums, g.grad_value, in.value_dim);
    store(keys, key_sums, g.grad_key, in.head_dim);
  } else {
    store(keys, sums, of_values ? g.grad_value : g.grad_key,
          of_values ? in.value_dim : in.head_dim);
  }
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

template <class S>
__global__ void __launch_bounds__(row_threads)
    grade_key_rows(const AttentionInput<S> in, const AttentionGradient<S> g,
                   const GradientRows<Compute<S>> of_rows, const unsigned tiles) {
  const int warp = threadIdx.x / warp_size;
  const unsigned key_heads = static_cast<unsigned>(in.key_heads);
  const Sequence s = sequence_at(in, blockIdx.x / tiles / key_heads);
  const int j = static_cast<int>(blockIdx.x % tiles) * row_warps + warp;
  if (j >= static_cast<int>(s.keys)) return;
  Compute<S>* memory = dynamic_shared<Compute<S>>() + gradient_memory(in) * warp;
  grade_key(in, g, of_rows, s, static_cast<int>(blockIdx.x / tiles % key_heads), j, memory);
}

template <class S>
Blocks key_blocks(const AttentionInput<S>& in, std::size_t rows, int passes, unsigned& tiles) {
  tiles = static_cast<unsigned>((in.alike.keys + rows - 1) / rows);
  return {in.sequence_count * static_cast<std::size_t>(in.key_heads) * tiles *
          static_cast<std::size_t>(passes)};
}

// Queues both kernels, and returns whether the device can do it.
template <class S, int D>
bool launch_tiles(const AttentionInput<S>& in, const AttentionInput<S>& by_key,
                  const AttentionGradient<S>& g, const GradientRows<float>& of_rows,
                  cudaStream_t stream, cudaError_t& status) {
  using Of = Shape<S, D>;
  if (!has_tensor_cores<S>(Of::shared_bytes)) return false;
  const Grid grid = grid_of(in, Of::rows);
  const bool aligned = is_aligned<S>(in.query) && is_aligned<S>(in.key) &&
                       is_aligned<S>(in.value) && is_aligned<S>(g.grad_out);
  Launch how = {{grid.blocks(in.sequence_count)}, dim3(Of::threads), Of::shared_bytes, stream};
  status = launch(&grade_queries<S, D>, how, in, g, of_rows, grid, aligned);
  unsigned tiles = 0;
  how.grid = key_blocks(by_key, Of::rows, Of::both ? 1 : 2, tiles);
  if (status == cudaSuccess)
    status = launch(&grade_keys<S, D>, how, by_key, g, of_rows, tiles, aligned);
  return true;
}

template <class S>
bool launch_tiles(const AttentionInput<S>& in, const AttentionInput<S>& by_key,
                  const AttentionGradient<S>& g, const GradientRows<float>& of_rows,
                  cudaStream_t stream, cudaError_t& status) {
  const int dim = in.head_dim > in.value_dim ? in.head_dim : in.value_dim;
  if (dim <= 64) return launch_tiles<S, 64>(in, by_key, g, of_rows, stream, status);
  if (dim <= 128) return launch_tiles<S, 128>(in, by_key, g, of_rows, stream, status);
  if (dim <= 256) return launch_tiles<S, 256>(in, by_key, g, of_rows, stream, status);
  return false;
}

}  // namespace

template <class S>
std::size_t attention_gradient_workspace(std::size_t rows) {
  return rows * sizeof(GradientRow<Compute<S>>);
}

template <class S>
cudaError_t attention_gradient(const AttentionInput<S>& in, const AttentionInput<S>& by_key,
                               const AttentionGradient<S>& g, std::size_t batches, std::size_t rows,
                               cudaStream_t stream) {
  using T = Compute<S>;
  if (in.heads == 0 || in.sequence_count == 0) return cudaSuccess;
  const GradientRows<T> of_rows = {static_cast<GradientRow<T>*>(g.workspace), in.heads,
                                   static_cast<std::int64_t>(rows)};
  const std::size_t count = batches * static_cast<std::size_t>(in.heads) * rows;
  Launch how = {{groups_of(count, row_warps)}, dim3(row_threads), 0, stream};
  cudaError_t status = launch(&find_rows<S>, how, in, g, of_rows, static_cast<std::int64_t>(count));
  if (status != cudaSuccess) return status;
  if constexpr (!std::is_same_v<S, double>) {
    if (launch_tiles(in, by_key, g, of_rows, stream, status)) return status;
  }
  const Grid grid = grid_of(in, row_warps);
  how.shared_bytes = std::size_t{row_warps} * gradient_memory(in) * sizeof(T);
  how.grid = {grid.blocks(in.sequence_count)};
  status = launch(&grade_query_rows<S>, how, in, g, of_rows, grid);
  if (status != cudaSuccess) return status;
  unsigned tiles = 0;
  how.grid = key_blocks(by_key, row_warps, 1, tiles);
  return launch(&grade_key_rows<S>, how, by_key, g, of_rows, tiles);
}

template std::size_t attention_gradient_workspace<float>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<float>&, const AttentionInput<float>&,
                                        const AttentionGradient<float>&, std::size_t, std::size_t,
                                        cudaStream_t);
template std::size_t attention_gradient_workspace<double>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<double>&,
                                        const AttentionInput<double>&,
                                        const AttentionGradient<double>&, std::size_t, std::size_t,
                                        cudaStream_t);
template std::size_t attention_gradient_workspace<__half>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<__half>&,
                                        const AttentionInput<__half>&,
                                        const AttentionGradient<__half>&, std::size_t, std::size_t,
                                        cudaStream_t);
template std::size_t attention_gradient_workspace<__nv_bfloat16>(std::size_t);
template cudaError_t attention_gradient(const AttentionInput<__nv_bfloat16>&,
                                        const AttentionInput<__nv_bfloat16>&,
                                        const AttentionGradient<__nv_bfloat16>&, std::size_t,
                                        std::size_t, cudaStream_t);

}  // namespace logitkit::cuda
