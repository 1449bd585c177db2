#include "linear_argmax/linear_argmax_cuda.h"

#include "gemm/tile_cuda.h"

namespace logitkit::cuda {
namespace {

constexpr unsigned most_of_pass = 16;  // candidates of a row that one product finds
constexpr int nobody_index = 0x7fffffff;

template <class T>
struct Candidate {
  T score;
  int index;
};

template <class T>
__device__ Candidate<T> nobody() {
  return {-infinity<T>(), nobody_index};
}

/// Whether a comes before b in the result.
template <class T>
__device__ bool ahead(Candidate<T> a, Candidate<T> b) {
  const bool is_nan = isnan(a.score);
  if (is_nan != isnan(b.score)) return is_nan;
  if (a.score > b.score) return true;
  if (a.score < b.score) return false;
  return a.index < b.index;
}

template <class T>
__device__ Candidate<T> first_of(Candidate<T> a, Candidate<T> b) {
  return ahead(b, a) ? b : a;
}

/// Puts a candidate into a list of k in order, from which the last one drops.
template <class T>
__device__ void insert(Candidate<T>* list, unsigned k, Candidate<T> candidate) {
  unsigned at = k - 1;
  for (; at > 0 && ahead(candidate, list[at - 1]); --at) list[at] = list[at - 1];
  list[at] = candidate;
}

/// The k largest of a row that are found together, results [first, first + k) of `all`.
template <class T>
struct Pass {
  unsigned first, k;
  std::size_t all;
  T* values;              // [row][all]
  std::int64_t* indices;  // [row][all]

  /// What all candidates of this pass stand behind: the last one of the pass before.
  __device__ Candidate<T> limit(std::size_t row) const {
    if (first == 0) return {infinity<T>() - infinity<T>(), -1};
    const std::size_t last = row * all + first - 1;
    return {values[last], static_cast<int>(indices[last])};
  }
};

/// Takes what a tile has of one row into the list of the row. All lanes of a warp come here.
template <class Tile, class T>
__device__ void take_row(Tile& tile, unsigned r, int first_column, int columns, Candidate<T> limit,
                         Candidate<T>* list, unsigned k) {
  constexpr unsigned count = Tile::column_count, all = count == 32 ? ~0u : (1u << count) - 1;
  const Candidate<T> last = list[k - 1];
  bool may_insert = last.index == nobody_index;
#pragma unroll
  for (unsigned c = 0; c < count; ++c) may_insert |= !(tile.value(r, c) <= last.score);
  if (!__any_sync(all_lanes, may_insert)) return;

  unsigned taken = 0;  // a bit for each that is not, or not any more, a candidate
  if (limit.index >= 0 || columns - first_column < static_cast<int>(Tile::columns)) {
#pragma unroll
    for (unsigned c = 0; c < count; ++c) {
      const int column = first_column + static_cast<int>(Tile::column(c));
      if (column >= columns || !ahead(limit, {tile.value(r, c), column})) taken |= 1u << c;
    }
  }
  for (;;) {
    T score = -infinity<T>();
    int at = __ffs(static_cast<int>(~taken & all)) - 1;  // the first of -inf, if all are that
#pragma unroll
    for (unsigned c = 0; c < count; ++c) {
      const T value = tile.value(r, c);
      if (!(taken >> c & 1) && !(value <= score) && !isnan(score)) {
        score = value;
        at = static_cast<int>(c);
      }
    }
    Candidate<T> mine = nobody<T>();
    if (at >= 0)
      mine = {score, first_column + static_cast<int>(Tile::column(static_cast<unsigned>(at)))};
    const Candidate<T> best =
        reduce_lanes<Tile::lanes>(mine, [](auto a, auto b) { return first_of(a, b); });
    const bool is_in = best.index != nobody_index && ahead(best, list[k - 1]);
    __syncwarp();
    if (!__any_sync(all_lanes, is_in)) return;
    if (is_in && threadIdx.x % Tile::lanes == 0) insert(list, k, best);
    __syncwarp();
    if (at >= 0 && mine.index == best.index) taken |= 1u << at;
  }
}

/// The k largest of each part of the columns, partial[part][row][k].
template <class Tile, class S, class T = Compute<S>>
__global__ void __launch_bounds__(Tile::threads, Tile::at_once)
    best_of_parts(LinearScores<S> in, ColumnParts parts, Pass<T> pass, Candidate<T>* partial) {
  if (!Tile::exists()) return;
  unsigned char* shared = dynamic_shared<unsigned char>();
  auto* lists = reinterpret_cast<Candidate<T>*>(shared + Tile::shared_bytes);  // [row][k]
  const std::size_t first_row = std::size_t{blockIdx.x} * Tile::rows;
  for (unsigned i = threadIdx.x; i < Tile::rows * pass.k; i += Tile::threads)
    lists[i] = nobody<T>();
  __syncthreads();

  const std::size_t begin = blockIdx.y * parts.tiles_of_part;
  const std::size_t end = min(begin + parts.tiles_of_part, parts.tiles);
  for (std::size_t t = begin; t < end; ++t) {
    const std::size_t first_column = t * Tile::columns;
    Tile tile;
    make_scores(tile, Factor<S>{in.x, in.rows, in.depth}, first_row,
                Factor<S>{in.weight, in.classes, in.depth}, first_column, in.depth, shared);
    if (in.bias != nullptr) {
#pragma unroll
      for (unsigned c = 0; c < Tile::column_count; ++c) {
        const std::size_t column = first_column + Tile::column(c);
        const T bias = column < in.classes ? load(in.bias[column]) : T(0);
#pragma unroll
        for (unsigned r = 0; r < Tile::row_count; ++r) tile.value(r, c) += bias;
      }
    }
#pragma unroll
    for (unsigned r = 0; r < Tile::row_count; ++r) {
      const unsigned row = Tile::row(r);
      const std::size_t of_matrix = min(first_row + row, in.rows - 1);
      take_row(tile, r, static_cast<int>(first_column), static_cast<int>(in.classes),
               pass.limit(of_matrix), lists + row * pass.k, pass.k);
    }
  }
  __syncthreads();
  const std::size_t there = min(in.rows - first_row, std::size_t{Tile::rows});
  Candidate<T>* to = partial + (blockIdx.y * in.rows + first_row) * pass.k;
  for (unsigned i = threadIdx.x; i < there * pass.k; i += Tile::threads) to[i] = lists[i];
}

constexpr unsigned merge_threads = 128;

/// The k largest of all parts; a warp has one row.
template <class T>
__global__ void __launch_bounds__(merge_threads)
    best_of_all(const Candidate<T>* partial, std::size_t rows, unsigned parts, Pass<T> pass) {
  const std::size_t warp =
      std::size_t{blockIdx.x} * (merge_threads / warp_size) + threadIdx.x / warp_size;
  const std::size_t row = min(warp, rows - 1);
  const unsigned lane = threadIdx.x % warp_size;
  Candidate<T> limit = pass.limit(row);
  for (unsigned rank = 0; rank < pass.k; ++rank) {
    Candidate<T> best = nobody<T>();
    for (unsigned i = lane; i < parts * pass.k; i += warp_size) {
      const unsigned part = i / pass.k, at = i % pass.k;
      const Candidate<T> candidate = partial[(part * rows + row) * pass.k + at];
      if (ahead(limit, candidate)) best = first_of(best, candidate);
    }
    best = reduce_lanes<warp_size>(best, [](auto a, auto b) { return first_of(a, b); });
    limit = best;
    if (lane != 0 || warp >= rows) continue;
    pass.values[row * pass.all + pass.first + rank] = best.score;
    pass.indices[row * pass.all + pass.first + rank] = best.index;
  }
}

template <class S>
std::size_t row_blocks(std::size_t rows) {
  return (rows + tile_side<S> - 1) / tile_side<S>;
}

template <class S>
ColumnParts parts_of(std::size_t rows, std::size_t classes) {
  return ColumnParts(classes, tile_side<S>, row_blocks<S>(rows));
}

template <class Tile, class S, class T>
cudaError_t run_pass(const LinearScores<S>& scores, const Pass<T>& pass, Candidate<T>* partial,
                     cudaStream_t stream) {
  static_assert(Tile::rows == tile_side<S>, "one size of tiles");
  const ColumnParts parts = parts_of<S>(scores.rows, scores.classes);
  const Blocks blocks = {row_blocks<S>(scores.rows), parts.count};
  const std::size_t shared = Tile::shared_bytes + Tile::rows * pass.k * sizeof(Candidate<T>);
  const cudaError_t status =
      launch(&best_of_parts<Tile, S>, {blocks, dim3(Tile::threads), shared, stream}, scores, parts,
             pass, partial);
  if (status != cudaSuccess) return status;
  constexpr unsigned rows_of_block = merge_threads / warp_size;
  const Blocks merging = {groups_of(scores.rows, rows_of_block)};
  return launch(&best_of_all<T>, {merging, dim3(merge_threads), 0, stream},
                static_cast<const Candidate<T>*>(partial), scores.rows, parts.count, pass);
}

}  // namespace

template <class S>
std::size_t linear_topk_workspace(std::size_t rows, std::size_t classes, std::size_t k) {
  const std::size_t of_pass = k < most_of_pass ? k : most_of_pass;
  return parts_of<S>(rows, classes).count * rows * of_pass * sizeof(Candidate<Compute<S>>);
}

template <class S>
cudaError_t linear_topk(const LinearScores<S>& scores, std::size_t k, Compute<S>* values,
                        std::int64_t* indices, Arithmetic arithmetic, void* workspace,
                        cudaStream_t stream) {
  using T = Compute<S>;
  if (scores.rows == 0) return cudaSuccess;
  return with_tile<S>(arithmetic, [&](auto type) {
    using Tile = typename decltype(type)::Tile;
    for (std::size_t first = 0; first < k; first += most_of_pass) {
      const std::size_t of_pass = k - first < most_of_pass ? k - first : most_of_pass;
      const Pass<T> pass = {static_cast<unsigned>(first), static_cast<unsigned>(of_pass), k, values,
                            indices};
      const cudaError_t status =
          run_pass<Tile>(scores, pass, static_cast<Candidate<T>*>(workspace), stream);
      if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
  });
}

template std::size_t linear_topk_workspace<float>(std::size_t, std::size_t, std::size_t);
template cudaError_t linear_topk(const LinearScores<float>&, std::size_t, float*, std::int64_t*,
                                 Arithmetic, void*, cudaStream_t);
template std::size_t linear_topk_workspace<double>(std::size_t, std::size_t, std::size_t);
template cudaError_t linear_topk(const LinearScores<double>&, std::size_t, double*, std::int64_t*,
                                 Arithmetic, void*, cudaStream_t);
template std::size_t linear_topk_workspace<__half>(std::size_t, std::size_t, std::size_t);
template cudaError_t linear_topk(const LinearScores<__half>&, std::size_t, float*, std::int64_t*,
                                 Arithmetic, void*, cudaStream_t);
template std::size_t linear_topk_workspace<__nv_bfloat16>(std::size_t, std::size_t, std::size_t);
template cudaError_t linear_topk(const LinearScores<__nv_bfloat16>&, std::size_t, float*,
                                 std::int64_t*, Arithmetic, void*, cudaStream_t);

}  // namespace logitkit::cuda
