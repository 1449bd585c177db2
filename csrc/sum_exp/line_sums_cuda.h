// Sums of exponentials along lines of an array, on a GPU: the engine of log-sum-exp, softmax and
// their statistics, as a template over what becomes of the sums.
//
// Every line is read once, if it may be: one that fits the registers of a block stays there until
// its elements are written. Longer ones, and those that do not lie in one piece, are streamed by
// blocks that take a slice of them each, as are lines of which nothing but the sums is wanted, if
// they do not fit those of a warp. Which way a line goes, and its slices, do not depend on the
// others, nor do the bits of its result.
#pragma once

#include <cstddef>

#include "cuda/launch.h"
#include "cuda/packs.h"
#include "cuda/warp.h"
#include "sum_exp/lines_cuda.h"

namespace logitkit::cuda {

inline __host__ __device__ std::size_t count(const Lines& lines) {
  return lines.outer * lines.inner;
}

/// Sums over terms z, with shift = max where that is finite and 0 elsewhere. One term is
/// {z, 1}, none is {-inf, 0}; merge() puts parts of a line together, and added() those whose
/// largest term is that of all of them.
template <class T, bool moments>
struct LineSums {
  T max, sum;  // of exp(z - shift)
};
template <class T>
struct LineSums<T, true> {
  T max, sum;
  T mean;     // of exp(z - shift) (z - shift), which is 0 without a finite maximum
  T squares;  // of exp(z - shift)^2
};

template <class T>
__device__ T shift_of(T max) {
  return isfinite(max) ? max : T(0);
}

template <class T, bool moments>
__device__ LineSums<T, moments> no_terms() {
  LineSums<T, moments> none = {};
  none.max = -infinity<T>();
  return none;
}

/// Moves a part whose largest term is `part.max` to a larger one, `max`. Where a shift is 0 the
/// sums are 0, infinite or NaN, and stay that.
template <class T, bool moments>
__device__ void raise(LineSums<T, moments>& part, T max) {
  if (part.max == max) return;
  const bool finite = isfinite(part.max) && isfinite(max);
  const T down = finite ? part.max - max : T(0), factor = exp(down);
  if constexpr (moments) {
    part.mean = factor * (part.mean + part.sum * down);
    part.squares *= factor * factor;
  }
  part.sum *= factor;
  part.max = max;
}

template <class T, bool moments>
__device__ LineSums<T, moments> added(LineSums<T, moments> a, const LineSums<T, moments>& b) {
  a.sum += b.sum;
  if constexpr (moments) {
    a.mean += b.mean;
    a.squares += b.squares;
  }
  return a;
}

template <class T, bool moments>
__device__ LineSums<T, moments> merge(LineSums<T, moments> a, LineSums<T, moments> b) {
  const T max = fmax(a.max, b.max);  // drops NaN, which is in the sums too
  raise(a, max);
  raise(b, max);
  return added(a, b);
}

/// What merge() makes of the parts that threads have, where reduce_max(x) and reduce_sums(x) are
/// the largest and the added() x of all of them: two reductions, and one exp for each thread.
template <class Sums, class ReduceMax, class ReduceSums>
__device__ Sums merge_all(Sums part, const ReduceMax& reduce_max, const ReduceSums& reduce_sums) {
  raise(part, reduce_max(part.max));
  return reduce_sums(part);
}

/// Adds a term to sums of the same or a larger maximum.
template <class T, bool moments>
__device__ T add_term(LineSums<T, moments>& part, T z, T shift) {
  const T down = z - shift, e = exp(down);
  part.sum += e;
  if constexpr (moments) {
    part.mean += e > T(0) ? e * down : T(0);  // 0 * -inf
    part.squares += e * e;
  }
  return e;
}

// What follows takes an Op: constants `moments` and `writes_elements`, and
//   Compute<S> logit(Compute<S>)                   the term that an element stands for
// If it writes elements, also
//   Compute<S> kept(z, e)                          of a term and exp(z - shift), what it needs
//   Normalizer normalizer(LineSums)                what all elements of a line need
//   S element(kept, Normalizer)
// and otherwise
//   void line(line, LineSums)                      called once for each line

// Of a block of lines that groups of threads keep in registers.
template <unsigned group>
constexpr unsigned resident_threads = group < 128 ? 128 : group;

/// Lines of at most group * packs * pack terms, which a group of threads keeps in registers;
/// `aligned` says whether all packs of lines are.
template <unsigned group, int packs, class S, class Op>
__global__ void __launch_bounds__(resident_threads<group>)
    resident_lines(const S* x, std::size_t lines, unsigned terms, bool aligned, Op op) {
  using T = Compute<S>;
  using Sums = LineSums<T, Op::moments>;
  constexpr unsigned threads = resident_threads<group>;
  constexpr int pack = pack_size<S>;
  __shared__ Sums sums_of_warp[threads / warp_size];
  __shared__ T max_of_warp[threads / warp_size];
  const auto reduced = [](auto value, auto* of_warp, const auto& merge) {
    if constexpr (group <= warp_size)
      return reduce_lanes<group>(value, merge);
    else
      return reduce_block<group>(value, of_warp, merge);
  };

  const std::size_t line = std::size_t{blockIdx.x} * (threads / group) + threadIdx.x / group;
  const unsigned rank = threadIdx.x % group;
  const bool is_line = line < lines;
  const S* from = x + (is_line ? line : 0) * terms;

  T z[packs][pack];
  T max = -infinity<T>();
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const unsigned first = (p * group + rank) * pack;
#pragma unroll
    for (int i = 0; i < pack; ++i) z[p][i] = -infinity<T>();
    if (is_line && first < terms)
      load_pack(from + first, terms - first, aligned, -infinity<T>(), z[p]);
#pragma unroll
    for (int i = 0; i < pack; ++i) {
      z[p][i] = op.logit(z[p][i]);
      max = fmax(max, z[p][i]);
    }
  }
  max = reduced(max, max_of_warp, [](T a, T b) { return fmax(a, b); });

  Sums sums = no_terms<T, Op::moments>();
  sums.max = max;
  const T shift = shift_of(max);
#pragma unroll
  for (int p = 0; p < packs; ++p)
#pragma unroll
    for (int i = 0; i < pack; ++i) {
      const T e = add_term(sums, z[p][i], shift);
      if constexpr (Op::writes_elements) z[p][i] = op.kept(z[p][i], e);
    }
  sums = reduced(sums, sums_of_warp, [](const Sums& a, const Sums& b) { return added(a, b); });

  if (!is_line) return;
  if constexpr (Op::writes_elements) {
    const auto normalizer = op.normalizer(sums);
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const unsigned first = (p * group + rank) * pack;
      if (first >= terms) continue;
      S results[pack];
#pragma unroll
      for (int i = 0; i < pack; ++i) results[i] = op.element(z[p][i], normalizer);
      store_pack(results, op.out + line * terms + first, terms - first, aligned);
    }
  } else if (rank == 0) {
    op.line(line, sums);
  }
}

/// How streamed lines are cut up: each block has `columns` lines beside each other, and of these
/// the terms [part * slice, (part + 1) * slice).
struct Slices {
  unsigned columns;  // a power of two up to warp_size
  unsigned column_blocks;
  unsigned parts;
  std::size_t slice;
};

constexpr unsigned streamed_threads = 256;
constexpr int streamed_unroll = 4;
constexpr unsigned most_parts = 256;

inline Slices slices_of(const Lines& lines) {
  Slices slices = {1, 1, 1, lines.terms};
  while (slices.columns < warp_size && slices.columns < lines.inner) slices.columns *= 2;
  slices.column_blocks = static_cast<unsigned>((lines.inner + slices.columns - 1) / slices.columns);
  // Enough for a GPU of any size if there is but one line, and work for each thread of a block.
  constexpr std::size_t least = 8 * streamed_threads * streamed_unroll * 4;
  std::size_t slice = least / slices.columns;
  if (slice * most_parts < lines.terms) slice = (lines.terms + most_parts - 1) / most_parts;
  constexpr std::size_t multiple = 64;  // so that slices are aligned where lines are
  slices.slice = (slice + multiple - 1) / multiple * multiple;
  slices.parts =
      lines.terms == 0 ? 1 : static_cast<unsigned>((lines.terms + slices.slice - 1) / slices.slice);
  return slices;
}

/// A thread's place in a block of streamed lines.
struct Place {
  unsigned column, row, rows;
  std::size_t outer, inner;
  bool is_line;

  __device__ Place(const Lines& lines, const Slices& slices)
      : column(threadIdx.x % slices.columns),
        row(threadIdx.x / slices.columns),
        rows(streamed_threads / slices.columns),
        outer(blockIdx.x / slices.column_blocks),
        inner(std::size_t{blockIdx.x % slices.column_blocks} * slices.columns + column),
        is_line(inner < lines.inner) {}
  __device__ std::size_t line(const Lines& lines) const { return outer * lines.inner + inner; }
};

/// What merge(a, b) makes of the values of all rows of a block, for each of its columns, in all
/// threads; `of_warp` is shared memory for as many values as there are threads.
template <class Value, class Merge>
__device__ Value reduce_rows(Value value, const Place& place, unsigned columns, Value* of_warp,
                             const Merge& merge) {
#pragma unroll 1
  for (unsigned mask = warp_size / 2; mask >= columns; mask /= 2)
    value = merge(value, exchanged(value, mask));
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  __syncthreads();  // values before these may still be read
  if (lane < columns) of_warp[warp * columns + lane] = value;
  __syncthreads();
  value = of_warp[place.column];
#pragma unroll
  for (unsigned w = 1; w < streamed_threads / warp_size; ++w)
    value = merge(value, of_warp[w * columns + place.column]);
  return value;
}

/// merge() of the sums of all rows.
template <class Sums>
__device__ Sums merge_rows(const Sums& sums, const Place& place, unsigned columns, Sums* of_warp) {
  using T = decltype(sums.max);
  return merge_all(
      sums,
      [&](T max) {
        return reduce_rows(max, place, columns, reinterpret_cast<T*>(of_warp),
                           [](T a, T b) { return fmax(a, b); });
      },
      [&](const Sums& part) {
        return reduce_rows(part, place, columns, of_warp,
                           [](const Sums& a, const Sums& b) { return added(a, b); });
      });
}

/// Writes the elements of a slice.
template <class S, class Op, class Sums>
__device__ void write_slice(const S* x, const Lines& lines, const Slices& slices,
                            const Place& place, const Sums& sums, const Op& op) {
  if (!place.is_line) return;
  const std::size_t begin = blockIdx.y * slices.slice;
  const std::size_t end = min(begin + slices.slice, lines.terms);
  const std::size_t base = place.outer * lines.terms * lines.inner + place.inner;
  const auto shift = shift_of(sums.max);
  const auto normalizer = op.normalizer(sums);
  for (std::size_t k = begin + place.row; k < end; k += place.rows) {
    const std::size_t index = base + k * lines.inner;
    const auto z = op.logit(load(x[index]));
    op.out[index] = op.element(op.kept(z, exp(z - shift)), normalizer);
  }
}

/// Sums of one slice of each line: finished if that is all, else written to `partial`, of shape
/// (parts, lines).
template <int pack, class S, class Op>
__global__ void __launch_bounds__(streamed_threads)
    streamed_lines(const S* x, Lines lines, Slices slices, Op op,
                   LineSums<Compute<S>, Op::moments>* partial) {
  using T = Compute<S>;
  using Sums = LineSums<T, Op::moments>;
  __shared__ Sums of_warp[streamed_threads];
  const Place place(lines, slices);
  const std::size_t begin = blockIdx.y * slices.slice;
  const std::size_t end = place.is_line ? min(begin + slices.slice, lines.terms) : begin;
  const S* from = x + place.outer * lines.terms * lines.inner + place.inner;

  Sums sums = no_terms<T, Op::moments>();
  const std::size_t step = std::size_t{place.rows} * pack;
  for (std::size_t k = begin + place.row * pack; k < end; k += step * streamed_unroll) {
    Pack<S, pack> elements[streamed_unroll] = {};
#pragma unroll
    for (int u = 0; u < streamed_unroll; ++u)
      if (k + u * step < end)
        elements[u] = *reinterpret_cast<const Pack<S, pack>*>(from + (k + u * step) * lines.inner);
    T z[streamed_unroll * pack];
    T max = sums.max;
#pragma unroll
    for (int u = 0; u < streamed_unroll; ++u)
#pragma unroll
      for (int i = 0; i < pack; ++i) {
        z[u * pack + i] =
            k + u * step < end ? op.logit(load(elements[u].element[i])) : -infinity<T>();
        max = fmax(max, z[u * pack + i]);
      }
    raise(sums, max);
    const T shift = shift_of(max);
#pragma unroll
    for (int i = 0; i < streamed_unroll * pack; ++i) add_term(sums, z[i], shift);
  }
  sums = merge_rows(sums, place, slices.columns, of_warp);
  if (slices.parts > 1) {
    if (place.row == 0 && place.is_line)
      partial[blockIdx.y * count(lines) + place.line(lines)] = sums;
    return;
  }
  if constexpr (Op::writes_elements)
    write_slice(x, lines, slices, place, sums, op);
  else if (place.row == 0 && place.is_line)
    op.line(place.line(lines), sums);
}

/// What is left to do with the sums of slices.
template <class S, class Op>
__global__ void __launch_bounds__(streamed_threads)
    finished_lines(const S* x, Lines lines, Slices slices, Op op,
                   const LineSums<Compute<S>, Op::moments>* partial) {
  using Sums = LineSums<Compute<S>, Op::moments>;
  __shared__ Sums of_warp[streamed_threads];
  const Place place(lines, slices);
  Sums sums = no_terms<Compute<S>, Op::moments>();
  if (place.is_line)
    for (unsigned part = place.row; part < slices.parts; part += place.rows)
      sums = merge(sums, partial[part * count(lines) + place.line(lines)]);
  sums = merge_rows(sums, place, slices.columns, of_warp);
  if constexpr (Op::writes_elements)
    write_slice(x, lines, slices, place, sums, op);
  else if (place.row == 0 && place.is_line)
    op.line(place.line(lines), sums);
}

/// Bytes that reduce_lines() needs beside its results.
template <class S, class Op>
std::size_t workspace_bytes(const Lines& lines) {
  const Slices slices = slices_of(lines);
  return slices.parts > 1 ? slices.parts * count(lines) * sizeof(LineSums<Compute<S>, Op::moments>)
                          : 0;
}

template <unsigned group, int elements, class S, class Op>
cudaError_t launch_resident(const S* x, const Lines& lines, bool aligned, const Op& op,
                            cudaStream_t stream) {
  constexpr unsigned threads = resident_threads<group>, lines_of_block = threads / group;
  const Blocks blocks = {groups_of(count(lines), lines_of_block)};
  return launch(&resident_lines<group, elements / pack_size<S>, S, Op>,
                {blocks, dim3(threads), 0, stream}, x, count(lines),
                static_cast<unsigned>(lines.terms), aligned, op);
}

template <int pack, class S, class Op>
cudaError_t stream_lines(const S* x, const Lines& lines, const Op& op, void* workspace,
                         cudaStream_t stream) {
  using Sums = LineSums<Compute<S>, Op::moments>;
  const Slices slices = slices_of(lines);
  const Blocks blocks = {lines.outer * slices.column_blocks, slices.parts};
  const Launch how = {blocks, dim3(streamed_threads), 0, stream};
  auto* partial = static_cast<Sums*>(workspace);
  const cudaError_t status =
      launch(&streamed_lines<pack, S, Op>, how, x, lines, slices, op, partial);
  if (status != cudaSuccess || slices.parts == 1) return status;
  Launch rest = how;
  if (!Op::writes_elements) rest.grid.y = 1;
  return launch(&finished_lines<S, Op>, rest, x, lines, slices, op,
                static_cast<const Sums*>(partial));
}

/// Takes sums of exp(op.logit(x)) along all lines and hands them to `op`. Lines and blocks of
/// columns together are fewer than 2^31; `workspace` has workspace_bytes().
template <class S, class Op>
cudaError_t reduce_lines(const S* x, const Lines& lines, const Op& op, void* workspace,
                         cudaStream_t stream) {
  if (count(lines) == 0) return cudaSuccess;
  bool aligned = lines.inner == 1 && has_aligned_packs(x, lines.terms, pack_size<S>);
  if constexpr (Op::writes_elements)
    aligned = aligned && has_aligned_packs(op.out, lines.terms, pack_size<S>);
  // Code for each length that registers hold; doubles, which take two, get half as far, and, as
  // their exponentials take much of it and few have them, no farther than a warp.
  constexpr bool is_double = sizeof(Compute<S>) == sizeof(double);
  constexpr int unit = is_double ? 4 : 8;
  const std::size_t reached = lines.inner == 1 ? lines.terms * (8 / unit) : 0;
  if (reached != 0) {
    if (reached <= 64) return launch_resident<8, unit>(x, lines, aligned, op, stream);
    if (reached <= 256) return launch_resident<32, unit>(x, lines, aligned, op, stream);
    if constexpr (Op::writes_elements || !is_double)
      if (reached <= 1024) return launch_resident<32, 4 * unit>(x, lines, aligned, op, stream);
    if constexpr (Op::writes_elements && !is_double) {
      if (reached <= 4096) return launch_resident<256, 2 * unit>(x, lines, aligned, op, stream);
      if (reached <= 16384) return launch_resident<512, 4 * unit>(x, lines, aligned, op, stream);
    }
  }
  if (aligned) return stream_lines<pack_size<S>>(x, lines, op, workspace, stream);
  return stream_lines<1>(x, lines, op, workspace, stream);
}

}  // namespace logitkit::cuda
