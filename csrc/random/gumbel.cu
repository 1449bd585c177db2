// The largest of logits with Gumbel noise: of each chunk of a row, then of these.
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "random/laws_cuda.h"
#include "random/random_cuda.h"
#include "random/row_packs_cuda.h"

namespace logitkit::cuda {
namespace {

/// A perturbed logit; NaN for one that is NaN or +inf, which takes the choice from its row.
template <class T>
struct Candidate {
  T value;
  unsigned position;
};

/// Whichever is above: NaN, then the larger value, then the first one.
template <class T>
__device__ Candidate<T> above(const Candidate<T>& a, const Candidate<T>& b) {
  const bool b_is_above =
      b.value != b.value || b.value > a.value || (b.value == a.value && b.position < a.position);
  return a.value == a.value && b_is_above ? b : a;
}
template <class T>
__device__ Candidate<T> no_candidate() {
  return {-infinity<T>(), ~0u};
}
/// Whether it may be chosen.
template <class T>
__device__ bool is_choice(const Candidate<T>& candidate) {
  return candidate.value > -infinity<T>();
}
template <class T>
__device__ std::int64_t index_of(const Candidate<T>& candidate) {
  return is_choice(candidate) ? std::int64_t{candidate.position} : -1;
}

// A group of threads has a chunk of a row: a whole block of threads, or a warp, where rows are
// short.
constexpr int elements_of_thread = 16;
constexpr unsigned wide_group = 256;
template <unsigned group>
constexpr unsigned block_threads = group < 128 ? 128 : group;
template <unsigned group>
constexpr std::size_t chunk_elements = std::size_t{group} * elements_of_thread;

struct Chunks {
  std::size_t rows, count;
  unsigned of_row;
};

inline unsigned chunks_of(std::size_t count) {
  return static_cast<unsigned>((count + chunk_elements<wide_group> - 1) /
                               chunk_elements<wide_group>);
}

/// Shared memory for the reductions of a group; one is written while the other is read.
template <class T, unsigned group>
struct Exchange {
  Candidate<T> of_warp[2][block_threads<group> / warp_size];
};

template <unsigned group, class T>
__device__ Candidate<T> best_of_group(const Candidate<T>& own, Exchange<T, group>& exchange,
                                      std::size_t turn) {
  const auto merge = [](const Candidate<T>& a, const Candidate<T>& b) { return above(a, b); };
  if constexpr (group <= warp_size)
    return reduce_lanes<group>(own, merge);
  else
    return reduce_block<group>(own, exchange.of_warp[turn % 2], merge);
}

/// The chunk of a thread, and its place there.
template <unsigned group, class S>
struct ChunkPlace {
  static constexpr int pack = pack_size<S>;
  std::size_t task, row, first;  // task = row * chunks + chunk
  unsigned rank;
  bool is_inside;

  __device__ explicit ChunkPlace(const Chunks& chunks)
      : task(std::size_t{blockIdx.x} * (block_threads<group> / group) + threadIdx.x / group),
        row(task / chunks.of_row),
        first(task % chunks.of_row * chunk_elements<group>),
        rank(threadIdx.x % group),
        is_inside(row < chunks.rows) {}
  /// The first element of the p-th pack of this thread.
  __device__ std::size_t element(int p) const {
    return first + (std::size_t{static_cast<unsigned>(p)} * group + rank) * pack;
  }
};

/// Calls use(p, k, perturbed) for the elements of this thread, as candidates.
template <unsigned group, class S, class Use>
__device__ void for_perturbed(const S* logits, const Rows& rows, const Chunks& chunks,
                              const ChunkPlace<group, S>& place, bool aligned, const Use& use) {
  using T = Compute<S>;
  constexpr int pack = pack_size<S>;
  const RowStream stream = stream_of(rows, place.row);
#pragma unroll 1
  for (int p = 0; p < elements_of_thread / pack; ++p) {
    const std::size_t j = place.element(p);
    if (j >= chunks.count) break;
    T x[pack], noise[pack];
    load_pack(logits + place.row * chunks.count + j, chunks.count - j, aligned, -infinity<T>(), x);
    draw<GumbelLaw>(stream, j, noise);
#pragma unroll
    for (int k = 0; k < pack; ++k) {
      T value = sum(x[k], noise[k]);
      if (!(value < infinity<T>())) value = from_bits(~typename LawConstants<T>::Word{0});
      use(p, k, Candidate<T>{value, static_cast<unsigned>(j) + k});
    }
  }
}

/// The best candidate of each chunk: as an index if `indices` is not null, else to `partial`.
template <unsigned group, class S>
__global__ void __launch_bounds__(block_threads<group>)
    best_of_chunks(const S* logits, Rows rows, Chunks chunks, bool aligned,
                   Candidate<Compute<S>>* partial, std::int64_t* indices) {
  using T = Compute<S>;
  __shared__ Exchange<T, group> exchange;
  const ChunkPlace<group, S> place(chunks);
  Candidate<T> best = no_candidate<T>();
  if (place.is_inside)
    for_perturbed<group>(
        logits, rows, chunks, place, aligned,
        [&](int, int, const Candidate<T>& candidate) { best = above(best, candidate); });
  best = best_of_group<group>(best, exchange, 0);
  if (!place.is_inside || place.rank != 0) return;
  if (indices != nullptr)
    indices[place.task] = index_of(best);
  else
    partial[place.task] = best;
}

/// The best of the chunks of each row, which a warp has.
template <class T>
__global__ void __launch_bounds__(block_threads<warp_size>)
    best_of_rows(const Candidate<T>* partial, Chunks chunks, std::int64_t* indices) {
  const std::size_t row =
      std::size_t{blockIdx.x} * (block_threads<warp_size> / warp_size) + threadIdx.x / warp_size;
  const unsigned lane = threadIdx.x % warp_size;
  Candidate<T> best = no_candidate<T>();
  if (row < chunks.rows)
    for (unsigned c = lane; c < chunks.of_row; c += warp_size)
      best = above(best, partial[row * chunks.of_row + c]);
  best = reduce_lanes<warp_size>(
      best, [](const Candidate<T>& a, const Candidate<T>& b) { return above(a, b); });
  if (row < chunks.rows && lane == 0) indices[row] = index_of(best);
}

/// Where the k best of a row or of a chunk go.
template <class T>
struct Best {
  std::size_t k;
  T* values;  // null: to `partial`
  std::int64_t* indices;
  Candidate<T>* partial;  // lists of k
  unsigned* cursors;      // how many of each list were taken

  __device__ void write(std::size_t list, std::size_t i, const Candidate<T>& candidate) const {
    if (values != nullptr) {
      values[list * k + i] = candidate.value;
      indices[list * k + i] = index_of(candidate);
    } else {
      partial[list * k + i] = candidate;
    }
  }
};

/// The k best of each chunk, in descending order: each time the best of those that are left.
template <unsigned group, class S>
__global__ void __launch_bounds__(block_threads<group>)
    lists_of_chunks(const S* logits, Rows rows, Chunks chunks, bool aligned,
                    Best<Compute<S>> best) {
  using T = Compute<S>;
  constexpr int pack = pack_size<S>;
  constexpr unsigned threads = block_threads<group>;
  __shared__ Exchange<T, group> exchange;
  __shared__ T values[elements_of_thread][threads];
  const ChunkPlace<group, S> place(chunks);
  for (int e = 0; e < elements_of_thread; ++e) values[e][threadIdx.x] = -infinity<T>();
  Candidate<T> own = no_candidate<T>();
  int own_element = 0;
  if (place.is_inside)
    for_perturbed<group>(logits, rows, chunks, place, aligned,
                         [&](int p, int k, const Candidate<T>& candidate) {
                           values[p * pack + k][threadIdx.x] = candidate.value;
                           own = above(own, candidate);
                           if (own.position == candidate.position) own_element = p * pack + k;
                         });
  for (std::size_t i = 0; i < best.k; ++i) {
    const Candidate<T> chosen = best_of_group<group>(own, exchange, i);
    if (place.is_inside && place.rank == 0) best.write(place.task, i, chosen);
    if (!is_choice(chosen) || chosen.position != own.position) continue;
    values[own_element][threadIdx.x] = -infinity<T>();
    own = no_candidate<T>();
    for (int e = 0; e < elements_of_thread; ++e) {
      const auto position = static_cast<unsigned>(place.element(e / pack)) + e % pack;
      own = above(own, Candidate<T>{values[e][threadIdx.x], position});
      if (own.position == position) own_element = e;
    }
  }
  if (best.cursors != nullptr && place.is_inside && place.rank == 0) best.cursors[place.task] = 0;
}

/// The k best of each row, from the lists of its chunks, of which each thread has some.
template <class T>
__global__ void __launch_bounds__(wide_group)
    lists_of_rows(Best<T> lists, Chunks chunks, Best<T> best) {
  __shared__ Exchange<T, wide_group> exchange;
  const std::size_t row = blockIdx.x;
  Candidate<T> own = no_candidate<T>();
  std::size_t own_list = 0;
  const auto choose = [&] {
    own = no_candidate<T>();
    for (unsigned c = threadIdx.x; c < chunks.of_row; c += wide_group) {
      const std::size_t list = row * chunks.of_row + c;
      const unsigned cursor = lists.cursors[list];
      if (cursor == lists.k) continue;
      const Candidate<T> head = lists.partial[list * lists.k + cursor];
      own = above(own, head);
      if (own.position == head.position) own_list = list;
    }
  };
  choose();
  for (std::size_t i = 0; i < best.k; ++i) {
    const Candidate<T> chosen = best_of_group<wide_group>(own, exchange, i);
    if (threadIdx.x == 0) best.write(row, i, chosen);
    if (!is_choice(chosen) || chosen.position != own.position) continue;
    lists.cursors[own_list] += 1;
    choose();
  }
}

template <unsigned group>
Launch launch_of_chunks(const Chunks& chunks, cudaStream_t stream) {
  constexpr std::size_t tasks_of_block = block_threads<group> / group;
  const std::size_t tasks = chunks.rows * chunks.of_row;
  return {{groups_of(tasks, tasks_of_block)}, dim3(block_threads<group>), 0, stream};
}

bool is_narrow(std::size_t count) { return count <= chunk_elements<warp_size>; }

}  // namespace

template <class S>
std::size_t gumbel_workspace(std::size_t rows, std::size_t count, std::size_t k) {
  const std::size_t chunks = chunks_of(count);
  if (chunks <= 1) return 0;
  return rows * chunks * (k * sizeof(Candidate<Compute<S>>) + sizeof(unsigned));
}

template <class S>
cudaError_t gumbel_argmax(const S* logits, const Rows& rows, std::size_t count,
                          std::int64_t* indices, void* workspace, cudaStream_t stream) {
  using T = Compute<S>;
  const Chunks chunks = {rows.count, count, chunks_of(count)};
  const bool aligned = has_aligned_packs(logits, count, pack_size<S>);
  Candidate<T>* nothing = nullptr;
  if (is_narrow(count))
    return launch(&best_of_chunks<warp_size, S>, launch_of_chunks<warp_size>(chunks, stream),
                  logits, rows, chunks, aligned, nothing, indices);
  const Launch how = launch_of_chunks<wide_group>(chunks, stream);
  if (chunks.of_row == 1)
    return launch(&best_of_chunks<wide_group, S>, how, logits, rows, chunks, aligned, nothing,
                  indices);
  auto* partial = static_cast<Candidate<T>*>(workspace);
  std::int64_t* no_indices = nullptr;
  const cudaError_t status = launch(&best_of_chunks<wide_group, S>, how, logits, rows, chunks,
                                    aligned, partial, no_indices);
  if (status != cudaSuccess) return status;
  return launch(&best_of_rows<T>, launch_of_chunks<warp_size>({rows.count, count, 1}, stream),
                static_cast<const Candidate<T>*>(partial), chunks, indices);
}

template <class S>
cudaError_t gumbel_top_k(const S* logits, const Rows& rows, std::size_t count, std::size_t k,
                         Compute<S>* values, std::int64_t* indices, void* workspace,
                         cudaStream_t stream) {
  using T = Compute<S>;
  const Chunks chunks = {rows.count, count, chunks_of(count)};
  const bool aligned = has_aligned_packs(logits, count, pack_size<S>);
  const Best<T> best = {k, values, indices, nullptr, nullptr};
  if (is_narrow(count))
    return launch(&lists_of_chunks<warp_size, S>, launch_of_chunks<warp_size>(chunks, stream),
                  logits, rows, chunks, aligned, best);
  const Launch how = launch_of_chunks<wide_group>(chunks, stream);
  if (chunks.of_row == 1)
    return launch(&lists_of_chunks<wide_group, S>, how, logits, rows, chunks, aligned, best);
  Best<T> lists = {k, nullptr, nullptr, static_cast<Candidate<T>*>(workspace), nullptr};
  lists.cursors = reinterpret_cast<unsigned*>(lists.partial + rows.count * chunks.of_row * lists.k);
  const cudaError_t status =
      launch(&lists_of_chunks<wide_group, S>, how, logits, rows, chunks, aligned, lists);
  if (status != cudaSuccess) return status;
  return launch(&lists_of_rows<T>, {{rows.count}, dim3(wide_group), 0, stream}, lists, chunks,
                best);
}

template std::size_t gumbel_workspace<float>(std::size_t, std::size_t, std::size_t);
template std::size_t gumbel_workspace<double>(std::size_t, std::size_t, std::size_t);
template std::size_t gumbel_workspace<__half>(std::size_t, std::size_t, std::size_t);
template std::size_t gumbel_workspace<__nv_bfloat16>(std::size_t, std::size_t, std::size_t);
template cudaError_t gumbel_argmax(const float*, const Rows&, std::size_t, std::int64_t*, void*,
                                   cudaStream_t);
template cudaError_t gumbel_argmax(const double*, const Rows&, std::size_t, std::int64_t*, void*,
                                   cudaStream_t);
template cudaError_t gumbel_argmax(const __half*, const Rows&, std::size_t, std::int64_t*, void*,
                                   cudaStream_t);
template cudaError_t gumbel_argmax(const __nv_bfloat16*, const Rows&, std::size_t, std::int64_t*,
                                   void*, cudaStream_t);
template cudaError_t gumbel_top_k(const float*, const Rows&, std::size_t, std::size_t, float*,
                                  std::int64_t*, void*, cudaStream_t);
template cudaError_t gumbel_top_k(const double*, const Rows&, std::size_t, std::size_t, double*,
                                  std::int64_t*, void*, cudaStream_t);
template cudaError_t gumbel_top_k(const __half*, const Rows&, std::size_t, std::size_t, float*,
                                  std::int64_t*, void*, cudaStream_t);
template cudaError_t gumbel_top_k(const __nv_bfloat16*, const Rows&, std::size_t, std::size_t,
                                  float*, std::int64_t*, void*, cudaStream_t);

}  // namespace logitkit::cuda
