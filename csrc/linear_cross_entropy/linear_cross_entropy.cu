#include "linear_cross_entropy/linear_cross_entropy_cuda.h"

#include <limits>

#include "linear_cross_entropy/logit_tile_cuda.h"

namespace logitkit::cuda {
namespace {

/// What a row has seen of its classes, with shift = max where that is finite and 0 elsewhere.
template <class T>
struct RowSums {
  double sum, mean;  // of exp(z - shift), and of exp(z - shift) (z - shift)
  double target, total;
  T max;
  int best;
};

template <class T>
__device__ T shift_of(T max) {
  return isfinite(max) ? max : T(0);
}

template <class T>
__device__ RowSums<T> no_classes() {
  return {0.0, 0.0, 0.0, 0.0, -infinity<T>(), 0};
}

/// Moves sums to a larger maximum.
template <class T>
__device__ void raise(RowSums<T>& row, T max) {
  if (row.max == max) return;
  if (isfinite(row.max) && isfinite(max)) {
    const double down = static_cast<double>(row.max) - static_cast<double>(max);
    const double factor = exp(down);
    row.mean = row.sum > 0.0 ? factor * (row.mean + row.sum * down) : row.mean;
    row.sum *= factor;
  }
  row.max = max;
}

/// Adds what a row has seen of later classes.
template <class T>
__device__ void add(RowSums<T>& row, RowSums<T> later) {
  if (later.max > row.max) row.best = later.best;
  const T max = fmax(row.max, later.max);
  raise(row, max);
  raise(later, max);
  row.sum += later.sum;
  row.mean += later.mean;
  row.target += later.target;
  row.total += later.total;
}

/// What the lanes of a row add up, with the largest logit before.
template <class T>
struct TileSums {
  T sum, mean, target, total;
};

/// What the logit of a class is multiplied by in the sums `target` and `total`.
template <class T>
struct Shares {
  T target, total;
};

/// Terms of share 0 are 0.
template <class T>
__device__ T term(T share, T z) {
  return share > T(0) || share < T(0) ? share * z : T(0);
}

/// What targets and weights say of a class: seldom wanted, and not to be repeated for every
/// element of a tile.
template <class S>
__noinline__ __device__ Shares<Compute<S>> shares_of(const S* targets, const S* weights,
                                                     std::size_t at, std::size_t column) {
  using T = Compute<S>;
  const T weight = weights != nullptr ? load(weights[column]) : T(1);
  return {targets != nullptr ? weight * load(targets[at]) : T(0), weight};
}

/// Adds row r of a thread's tile to the sums of its row. All lanes of a warp come here.
template <class Tile, class S, class T>
__device__ void add_row(Tile& tile, unsigned r, const LayerLossInput<S>& in, std::size_t row,
                        std::size_t first_class, bool with_total, RowSums<T>* sums) {
  T max = -infinity<T>();
#pragma unroll
  for (unsigned c = 0; c < Tile::column_count; ++c) max = fmax(max, tile.value(r, c));
  max = reduce_lanes<Tile::lanes>(max, [](T a, T b) { return fmax(a, b); });
  const T before = sums->max, all = fmax(before, max), shift = shift_of(all);
  __syncwarp();

  TileSums<T> of_tile = {};
#pragma unroll
  for (unsigned c = 0; c < Tile::column_count; ++c) {
    const T down = tile.value(r, c) - shift, e = exp(down);
    of_tile.sum += e;
    of_tile.mean += e > T(0) ? e * down : T(0);  // 0 * -inf
  }
  int best = 0x7fffffff;
  if (__any_sync(all_lanes, max > before)) {
#pragma unroll
    for (unsigned c = Tile::column_count; c-- > 0;)
      if (tile.value(r, c) == max) best = static_cast<int>(Tile::offset(c));
    if (best != 0x7fffffff) best += static_cast<int>(first_class + Tile::first_column());
    best = reduce_lanes<Tile::lanes>(best, [](int a, int b) { return min(a, b); });
  }
  const std::size_t first = first_class + Tile::first_column();
  const int end = columns_of_thread<Tile>(first_class, in.classes);
  if (in.targets != nullptr || with_total) {
#pragma unroll
    for (unsigned c = 0; c < Tile::column_count; ++c) {
      const std::size_t column = first + Tile::offset(c);
      if (static_cast<int>(Tile::offset(c)) >= end) continue;
      const Shares<T> shares =
          shares_of(in.targets, in.class_weight, row * in.classes + column, column);
      of_tile.target += term(shares.target, tile.value(r, c));
      of_tile.total += term(shares.total, tile.value(r, c));
    }
  }
  if (in.targets == nullptr) {
    const std::int64_t distance = in.labels[row] - static_cast<std::int64_t>(first);
    const int offset = distance >= 0 && distance < end ? static_cast<int>(distance) : -1;
#pragma unroll
    for (unsigned c = 0; c < Tile::column_count; ++c)
      if (static_cast<int>(Tile::offset(c)) == offset) of_tile.target = tile.value(r, c);
  }
  of_tile = reduce_lanes<Tile::lanes>(of_tile, [](TileSums<T> a, TileSums<T> b) {
    return TileSums<T>{a.sum + b.sum, a.mean + b.mean, a.target + b.target, a.total + b.total};
  });
  if (threadIdx.x % Tile::lanes == 0) {
    if (max > before) sums->best = best;
    raise(*sums, all);
    sums->sum += of_tile.sum;
    sums->mean += of_tile.mean;
    sums->target += of_tile.target;
    sums->total += of_tile.total;
  }
  __syncwarp();
}

/// The sums of each part of the classes, partial[part][row].
template <class Tile, class S, class T = Compute<S>>
__global__ void __launch_bounds__(Tile::threads, Tile::at_once)
    sums_of_parts(LayerLossInput<S> in, ColumnParts parts, bool with_total, RowSums<T>* partial) {
  if (!Tile::exists()) return;
  unsigned char* shared = dynamic_shared<unsigned char>();
  auto* sums = reinterpret_cast<RowSums<T>*>(shared + Tile::shared_bytes);
  const std::size_t first_row = std::size_t{blockIdx.x} * Tile::rows;
  if (is_idle<Tile>(in, first_row)) return;
  for (unsigned i = threadIdx.x; i < Tile::rows; i += Tile::threads) sums[i] = no_classes<T>();
  __syncthreads();

  const std::size_t begin = blockIdx.y * parts.tiles_of_part;
  const std::size_t end = min(begin + parts.tiles_of_part, parts.tiles);
  for (std::size_t t = begin; t < end; ++t) {
    Tile tile;
    make_logits(tile, in, first_row, t * Tile::columns, shared);
#pragma unroll
    for (unsigned r = 0; r < Tile::row_count; ++r) {
      const unsigned row = Tile::row(r);
      add_row(tile, r, in, min(first_row + row, in.rows - 1), t * Tile::columns, with_total,
              sums + row);
    }
  }
  __syncthreads();
  for (std::size_t i = threadIdx.x; i < Tile::rows && first_row + i < in.rows; i += Tile::threads)
    partial[blockIdx.y * in.rows + first_row + i] = sums[i];
}

constexpr unsigned finish_threads = 128;

/// The statistics of each row, of which a thread adds the parts.
template <class T>
__global__ void __launch_bounds__(finish_threads)
    finish_rows(const RowSums<T>* partial, std::size_t rows, unsigned parts,
                const std::int64_t* labels, std::int64_t label_end, LayerLossStats stats) {
  const std::size_t row = std::size_t{blockIdx.x} * finish_threads + threadIdx.x;
  if (row >= rows || labels[row] < 0) return;
  RowSums<T> sums = partial[row];
  for (unsigned part = 1; part < parts; ++part) add(sums, partial[part * rows + row]);
  const double log_sum = log(sums.sum);  // log 0 = -inf without classes
  if (stats.logsumexp != nullptr) stats.logsumexp[row] = shift_of<double>(sums.max) + log_sum;
  if (stats.entropy != nullptr) {
    const double entropy = log_sum - sums.mean / sums.sum;
    stats.entropy[row] = sums.sum == 0.0 || entropy < 0.0 ? 0.0 : entropy;
  }
  // Who queues work cannot look at labels: one that is no class shows as NaN.
  const bool is_class = labels[row] < label_end;
  if (stats.target != nullptr) stats.target[row] = is_class ? sums.target : nan("");
  if (stats.total != nullptr) stats.total[row] = sums.total;
  if (stats.best != nullptr) stats.best[row] = sums.best;
}

}  // namespace

template <class S>
std::size_t linear_cross_entropy_workspace(std::size_t rows, std::size_t classes) {
  return ColumnParts(classes, tile_side<S>).count * rows * sizeof(RowSums<Compute<S>>);
}

template <class S>
cudaError_t linear_cross_entropy(const LayerLossInput<S>& input, const LayerLossStats& stats,
                                 Arithmetic arithmetic, void* workspace, cudaStream_t stream) {
  using T = Compute<S>;
  if (input.rows == 0) return cudaSuccess;
  return with_tile<S>(arithmetic, [&](auto type) {
    using Tile = typename decltype(type)::Tile;
    static_assert(Tile::rows == tile_side<S>, "one size of tiles");
    const ColumnParts parts(input.classes, Tile::columns);
    auto* partial = static_cast<RowSums<T>*>(workspace);
    const Blocks blocks = {groups_of(input.rows, Tile::rows), parts.count};
    const std::size_t shared = Tile::shared_bytes + Tile::rows * sizeof(RowSums<T>);
    const cudaError_t status =
        launch(&sums_of_parts<Tile, S>, {blocks, dim3(Tile::threads), shared, stream}, input, parts,
               stats.total != nullptr, partial);
    if (status != cudaSuccess) return status;
    const Blocks rest = {groups_of(input.rows, finish_threads)};
    const bool any_label = input.targets != nullptr;
    const std::int64_t label_end = any_label ? std::numeric_limits<std::int64_t>::max()
                                             : static_cast<std::int64_t>(input.classes);
    return launch(&finish_rows<T>, {rest, dim3(finish_threads), 0, stream},
                  static_cast<const RowSums<T>*>(partial), input.rows, parts.count, input.labels,
                  label_end, stats);
  });
}

template std::size_t linear_cross_entropy_workspace<float>(std::size_t, std::size_t);
template cudaError_t linear_cross_entropy(const LayerLossInput<float>&, const LayerLossStats&,
                                          Arithmetic, void*, cudaStream_t);
template std::size_t linear_cross_entropy_workspace<double>(std::size_t, std::size_t);
template cudaError_t linear_cross_entropy(const LayerLossInput<double>&, const LayerLossStats&,
                                          Arithmetic, void*, cudaStream_t);
template std::size_t linear_cross_entropy_workspace<__half>(std::size_t, std::size_t);
template cudaError_t linear_cross_entropy(const LayerLossInput<__half>&, const LayerLossStats&,
                                          Arithmetic, void*, cudaStream_t);
template std::size_t linear_cross_entropy_workspace<__nv_bfloat16>(std::size_t, std::size_t);
template cudaError_t linear_cross_entropy(const LayerLossInput<__nv_bfloat16>&,
                                          const LayerLossStats&, Arithmetic, void*, cudaStream_t);

}  // namespace logitkit::cuda
