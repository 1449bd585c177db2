#include "attention/gradient_parts_cuda.h"

namespace logitkit::cuda {
namespace {

// Scores become weights, and gradients of weights gradients of scores, where rows are keys and
// columns queries of one head; `of_columns` lie in shared memory.
template <class S, int D>
__device__ void grade_columns(const AttentionInput<S>& in, const GradientRow<float>* of_columns,
                              const Sequence& s, int head, int first_query, int first_key,
                              bool hides, typename GradientShape<S, D>::Scores& z,
                              typename GradientShape<S, D>::Scores& gradients) {
  const int lane = threadIdx.x % warp_size;
  const int j = min(first_key + lane / 4, static_cast<int>(s.keys) - 1);
  const int other = min(first_key + 8 + lane / 4, static_cast<int>(s.keys) - 1);
  const KeyRange seeing[2] = {queries_seeing(in, s, j), queries_seeing(in, s, other)};
#pragma unroll
  for (int n = 0; n < GradientShape<S, D>::n_tiles; ++n)
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
__global__ void __launch_bounds__(GradientShape<S, D>::threads, 256 / GradientShape<S, D>::threads)
    grade_keys(const AttentionInput<S> in, const AttentionGradient<S> g,
               const GradientRows<float> of_rows, const unsigned tiles, const bool aligned) {
  if (!has_products<S>()) return;
  using Of = GradientShape<S, D>;
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

}  // namespace

template <class S>
cudaError_t key_gradient(const AttentionInput<S>& in, const AttentionGradient<S>& g,
                         const GradientRows<Compute<S>>& of_rows, cudaStream_t stream) {
  unsigned tiles = 0;
  if constexpr (!std::is_same_v<S, double>) {
    cudaError_t status = cudaSuccess;
    const auto launch_tiles = [&](auto columns) {
      using Of = GradientShape<S, columns>;
      const Blocks grid = key_blocks(in, Of::rows, Of::both ? 1 : 2, tiles);
      const Launch how = {grid, dim3(Of::threads), Of::shared_bytes, stream};
      status = launch(&grade_keys<S, columns>, how, in, g, of_rows, tiles, are_aligned(in, g));
    };
    if (with_tiles(in, launch_tiles)) return status;
  }
  const Launch how = {key_blocks(in, row_warps, 1, tiles), dim3(row_threads),
                      std::size_t{row_warps} * gradient_memory(in) * sizeof(Compute<S>), stream};
  return launch(&grade_key_rows<S>, how, in, g, of_rows, tiles);
}

template cudaError_t key_gradient(const AttentionInput<float>&, const AttentionGradient<float>&,
                                  const GradientRows<Compute<float>>&, cudaStream_t);
template cudaError_t key_gradient(const AttentionInput<double>&, const AttentionGradient<double>&,
                                  const GradientRows<Compute<double>>&, cudaStream_t);
template cudaError_t key_gradient(const AttentionInput<__half>&, const AttentionGradient<__half>&,
                                  const GradientRows<Compute<__half>>&, cudaStream_t);
template cudaError_t key_gradient(const AttentionInput<__nv_bfloat16>&,
                                  const AttentionGradient<__nv_bfloat16>&,
                                  const GradientRows<Compute<__nv_bfloat16>>&, cudaStream_t);

}  // namespace logitkit::cuda
