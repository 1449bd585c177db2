#include "linear_cross_entropy/linear_cross_entropy_cuda.h"
#include "linear_cross_entropy/logit_tile_cuda.h"

namespace logitkit::cuda {
namespace {

/// The classes whose gradients are made together, and the memory for them. Sums that go on with
/// those of the chunk before add the same terms in the same order for any size of chunks, as
/// they are multiples of a tile.
template <class S>
struct Chunks {
  static constexpr std::size_t least = 256;
  static constexpr std::size_t most = std::size_t{1} << 20;  // tiles in a grid

  Chunks(std::size_t rows, std::size_t classes, std::size_t depth, std::size_t most_bytes) {
    constexpr std::size_t side = tile_side<S>;
    const std::size_t all = (classes + side - 1) / side * side;
    size = rows == 0 ? most : most_bytes / (rows * sizeof(S));
    size = size < least ? least : size > most ? most : size / side * side;
    if (size > all) size = all;
    logits_bytes = rows * size * sizeof(S);
    logits_bytes = (logits_bytes + 15) / 16 * 16;
    keeps_sums = sizeof(S) < sizeof(Compute<S>) && size < classes;
    bytes = logits_bytes + (keeps_sums ? rows * depth * sizeof(Compute<S>) : 0);
  }

  std::size_t size;  // classes
  std::size_t logits_bytes, bytes;
  bool keeps_sums;  // of the gradient of the input, where S is too short for them
};

/// What G is made of in a row, in the type that it is computed in.
template <class T>
struct RowFactors {
  T logsumexp, factor, peak, spread;
};

/// The derivative of a capped logit.
template <class T>
__device__ T cap_slope(T softcap, T z) {
  const T tanh = softcap > T(0) ? z / softcap : T(0);
  return T(1) - tanh * tanh;
}

/// The gradient of a class that is not the label, with targets, weights or a softcap: seldom
/// wanted, and not to be repeated for every element of a tile.
template <class S>
__noinline__ __device__ Compute<S> grade_fully(const LayerLossInput<S>* in, Compute<S> z,
                                               const RowFactors<Compute<S>>& row, std::size_t at,
                                               std::size_t column) {
  using T = Compute<S>;
  T target = row.spread;
  if (in->targets != nullptr) target += row.peak * load(in->targets[at]);
  if (in->class_weight != nullptr) target *= load(in->class_weight[column]);
  return (row.factor * exp(z - row.logsumexp) - target) * cap_slope(in->softcap, z);
}

/// G of the classes from `first` on, to[row][class - first] with `stride` classes in a row.
template <class Tile, class S>
__global__ void __launch_bounds__(Tile::threads, Tile::at_once)
    grade_logits(LayerLossInput<S> in, LayerLossFactors factors, std::size_t first,
                 std::size_t stride, S* to) {
  if (!Tile::exists()) return;
  using T = Compute<S>;
  unsigned char* shared = dynamic_shared<unsigned char>();
  const std::size_t first_row = std::size_t{blockIdx.x} * Tile::rows;
  const std::size_t first_class = first + std::size_t{blockIdx.y} * Tile::columns;
  const bool idle = is_idle<Tile>(in, first_row);
  Tile tile;
  clear(tile);
  if (!idle) make_logits(tile, in, first_row, first_class, shared);
  const bool fully = in.targets != nullptr || in.class_weight != nullptr || in.softcap > T(0);
  const std::size_t of_thread = first_class + Tile::first_column();
  const int end = columns_of_thread<Tile>(first_class, in.classes);
#pragma unroll
  for (unsigned r = 0; r < Tile::row_count; ++r) {
    const std::size_t row = first_row + Tile::row(r);
    if (row >= in.rows) continue;
    const std::int64_t distance = in.labels[row] - static_cast<std::int64_t>(of_thread);
    const bool has_label = in.targets == nullptr && distance >= 0 && distance < end;
    const int label = has_label ? static_cast<int>(distance) : -1;
    const bool takes_part = in.labels[row] >= 0;
    RowFactors<T> of_row = {};
    if (takes_part) {
      of_row.logsumexp = static_cast<T>(factors.logsumexp[row]);
      of_row.factor =
          static_cast<T>(factors.base[row] + factors.slope[row] * factors.logsumexp[row]);
      of_row.peak = static_cast<T>(factors.peak[row]);
      if (factors.spread != nullptr) of_row.spread = static_cast<T>(factors.spread[row]);
    }
    T slope = T(1);
    if (in.softcap > T(0)) {
#pragma unroll
      for (unsigned c = 0; c < Tile::column_count; ++c)
        if (static_cast<int>(Tile::offset(c)) == label)
          slope = cap_slope(in.softcap, tile.value(r, c));
    }
    S* to_row = to + row * stride + (of_thread - first);
#pragma unroll
    for (unsigned c = 0; c < Tile::column_count; ++c) {
      const int offset = static_cast<int>(Tile::offset(c));
      if (offset >= end) continue;
      const T z = tile.value(r, c);
      T gradient;
      if (fully)
        gradient = grade_fully(&in, z, of_row, row * in.classes + of_thread + Tile::offset(c),
                               of_thread + Tile::offset(c));
      else
        gradient = of_row.factor * exp(z - of_row.logsumexp) - of_row.spread;
      if (offset == label) gradient -= of_row.peak * slope;
      to_row[offset] = stored<S>(takes_part ? gradient : T(0));
    }
  }
}

/// Where a product goes: to `to`, or if that is null to `sums`; all have `stride` elements a row.
template <class S>
struct ProductOutput {
  const Compute<S>* before;  // what it is added to, or null
  Compute<S>* sums;
  S* to;
  std::size_t stride;
  const std::int64_t* labels;  // of each row, which is 0 where that is negative; or null
};

template <class Tile, bool left_by_term, class S>
__global__ void __launch_bounds__(Tile::threads, Tile::at_once)
    multiply_factors(Factor<S> left, Factor<S> right, std::size_t terms, ProductOutput<S> out) {
  if (!Tile::exists()) return;
  using T = Compute<S>;
  const std::size_t first_row = std::size_t{blockIdx.x} * Tile::rows;
  const std::size_t first_column = std::size_t{blockIdx.y} * Tile::columns;
  const auto for_outputs = [&](const auto& f) {
    for_places<Tile>(first_row, left.rows, first_column, right.rows, out.stride, f);
  };
  Tile tile;
  clear(tile);
  if (out.before != nullptr)
    for_outputs([&](unsigned r, unsigned c, std::size_t, std::size_t begin) {
      tile.value(r, c) = (out.before + begin)[Tile::offset(c)];
    });
  tile.template add<left_by_term, false>(left, first_row, right, first_column, terms,
                                         dynamic_shared<unsigned char>());
  const auto kept = [&](unsigned r, unsigned c, std::size_t row) {
    return out.labels == nullptr || out.labels[row] >= 0 ? tile.value(r, c) : T(0);
  };
  if (out.to != nullptr)
    for_outputs([&](unsigned r, unsigned c, std::size_t row, std::size_t begin) {
      (out.to + begin)[Tile::offset(c)] = stored<S>(kept(r, c, row));
    });
  else if constexpr (sizeof(S) < sizeof(T))
    for_outputs([&](unsigned r, unsigned c, std::size_t, std::size_t begin) {
      (out.sums + begin)[Tile::offset(c)] = tile.value(r, c);
    });
}

template <class Tile, bool left_by_term, class S>
cudaError_t launch_product(const Factor<S>& left, const Factor<S>& right, std::size_t terms,
                           const ProductOutput<S>& out, cudaStream_t stream) {
  const Blocks blocks = {groups_of(left.rows, Tile::rows), groups_of(right.rows, Tile::columns)};
  return launch(&multiply_factors<Tile, left_by_term, S>,
                {blocks, dim3(Tile::threads), Tile::shared_bytes, stream}, left, right, terms, out);
}

constexpr unsigned sum_columns = 32, sum_rows = 8;

/// to[c] = sum over the rows of x[row][c].
template <class S>
__global__ void __launch_bounds__(sum_columns* sum_rows)
    sum_over_rows(const S* x, std::size_t rows, std::size_t columns, std::size_t stride, S* to) {
  using T = Compute<S>;
  __shared__ T sums[sum_rows][sum_columns];
  const unsigned x_of_block = threadIdx.x % sum_columns, y = threadIdx.x / sum_columns;
  const std::size_t column = std::size_t{blockIdx.x} * sum_columns + x_of_block;
  T sum = 0;
  if (column < columns)
    for (std::size_t row = y; row < rows; row += sum_rows) sum += load(x[row * stride + column]);
  sums[y][x_of_block] = sum;
  __syncthreads();
  if (y != 0 || column >= columns) return;
  for (unsigned k = 1; k < sum_rows; ++k) sum += sums[k][x_of_block];
  to[column] = stored<S>(sum);
}

template <class Tile, class S>
class Backward {
  using T = Compute<S>;

 public:
  Backward(const LayerLossInput<S>& in, const LayerLossFactors& factors,
           const LayerLossGradient<S>& gradient, std::size_t chunk_bytes, void* workspace,
           cudaStream_t stream)
      : in_(in),
        factors_(factors),
        to_(gradient),
        chunks_(in.rows, in.classes, in.depth, chunk_bytes),
        logits_(static_cast<S*>(workspace)),
        stream_(stream) {
    if constexpr (sizeof(S) == sizeof(T))
      sums_ = to_.input;
    else if (chunks_.keeps_sums)
      sums_ = reinterpret_cast<T*>(static_cast<unsigned char*>(workspace) + chunks_.logits_bytes);
  }

  cudaError_t run() const {
    for (std::size_t first = 0; first < in_.classes; first += chunks_.size) {
      const std::size_t left = in_.classes - first;
      const cudaError_t status = run_chunk(first, left < chunks_.size ? left : chunks_.size);
      if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
  }

 private:
  cudaError_t run_chunk(std::size_t first, std::size_t count) const {
    cudaError_t status = cudaSuccess;
    const Blocks blocks = {groups_of(in_.rows, Tile::rows), groups_of(count, Tile::columns)};
    if (in_.rows > 0)
      status =
          launch(&grade_logits<Tile, S>, {blocks, dim3(Tile::threads), Tile::shared_bytes, stream_},
                 in_, factors_, first, chunks_.size, logits_);
    if (status == cudaSuccess && to_.input != nullptr) status = add_input(first, count);
    if (status == cudaSuccess && to_.weight != nullptr) status = make_weight(first, count);
    if (status == cudaSuccess && to_.bias != nullptr)
      status =
          launch(&sum_over_rows<S>,
                 {{groups_of(count, sum_columns)}, dim3(sum_columns * sum_rows), 0, stream_},
                 static_cast<const S*>(logits_), in_.rows, count, chunks_.size, to_.bias + first);
    return status;
  }

  // input' += G weight
  cudaError_t add_input(std::size_t first, std::size_t count) const {
    const bool is_last = first + count == in_.classes;
    const bool is_stored = is_last || sizeof(S) == sizeof(T);
    const ProductOutput<S> out = {first == 0 ? nullptr : sums_, sums_,
                                  is_stored ? to_.input : nullptr, in_.depth, in_.labels};
    return launch_product<Tile, true>(
        Factor<S>{logits_, in_.rows, chunks_.size},
        Factor<S>{in_.weight + first * in_.depth, in_.depth, in_.depth}, count, out, stream_);
  }

  // weight' = G^T input
  cudaError_t make_weight(std::size_t first, std::size_t count) const {
    const ProductOutput<S> out = {nullptr, nullptr, to_.weight + first * in_.depth, in_.depth,
                                  nullptr};
    return launch_product<Tile, false>(Factor<S>{logits_, count, chunks_.size},
                                       Factor<S>{in_.input, in_.depth, in_.depth, in_.labels},
                                       in_.rows, out, stream_);
  }

  const LayerLossInput<S>& in_;
  const LayerLossFactors& factors_;
  const LayerLossGradient<S>& to_;
  const Chunks<S> chunks_;
  S* logits_;
  T* sums_ = nullptr;
  cudaStream_t stream_;
};

}  // namespace

template <class S>
std::size_t linear_cross_entropy_gradient_workspace(std::size_t rows, std::size_t classes,
                                                    std::size_t depth, std::size_t chunk_bytes) {
  return Chunks<S>(rows, classes, depth, chunk_bytes).bytes;
}

template <class S>
cudaError_t linear_cross_entropy_gradient(const LayerLossInput<S>& input,
                                          const LayerLossFactors& factors,
                                          const LayerLossGradient<S>& gradient,
                                          std::size_t chunk_bytes, Arithmetic arithmetic,
                                          void* workspace, cudaStream_t stream) {
  return with_tile<S>(arithmetic, [&](auto type) {
    using Tile = typename decltype(type)::Tile;
    return Backward<Tile, S>(input, factors, gradient, chunk_bytes, workspace, stream).run();
  });
}

template std::size_t linear_cross_entropy_gradient_workspace<float>(std::size_t, std::size_t,
                                                                    std::size_t, std::size_t);
template cudaError_t linear_cross_entropy_gradient(const LayerLossInput<float>&,
                                                   const LayerLossFactors&,
                                                   const LayerLossGradient<float>&, std::size_t,
                                                   Arithmetic, void*, cudaStream_t);
template std::size_t linear_cross_entropy_gradient_workspace<double>(std::size_t, std::size_t,
                                                                     std::size_t, std::size_t);
template cudaError_t linear_cross_entropy_gradient(const LayerLossInput<double>&,
                                                   const LayerLossFactors&,
                                                   const LayerLossGradient<double>&, std::size_t,
                                                   Arithmetic, void*, cudaStream_t);
template std::size_t linear_cross_entropy_gradient_workspace<__half>(std::size_t, std::size_t,
                                                                     std::size_t, std::size_t);
template cudaError_t linear_cross_entropy_gradient(const LayerLossInput<__half>&,
                                                   const LayerLossFactors&,
                                                   const LayerLossGradient<__half>&, std::size_t,
                                                   Arithmetic, void*, cudaStream_t);
template std::size_t linear_cross_entropy_gradient_workspace<__nv_bfloat16>(std::size_t,
                                                                            std::size_t,
                                                                            std::size_t,
                                                                            std::size_t);
template cudaError_t linear_cross_entropy_gradient(const LayerLossInput<__nv_bfloat16>&,
                                                   const LayerLossFactors&,
                                                   const LayerLossGradient<__nv_bfloat16>&,
                                                   std::size_t, Arithmetic, void*, cudaStream_t);

}  // namespace logitkit::cuda
