// Sums of exponentials along lines of an array, on a GPU: the engine of log-sum-exp, softmax and
// their statistics, as a template over what becomes of the sums.
//
// A line that fits the registers of a block is read once and stays there. Longer ones, and those
// that do not lie in one piece, are streamed by blocks that take a slice of them each; the slices
// depend on the length of the line alone, and so do the bits of its result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/launch.h"
#include "cuda/memory.h"
#include "cuda/warp.h"
#include "sum_exp/lines_cuda.h"

namespace logitkit::cuda {

inline __host__ __device__ std::size_t count(const Lines& lines) {
  return lines.outer * lines.inner;
}

/// Sums over terms z, with shift = max where that is finite and 0 elsewhere. One term is
/// {z, 1}, none is {-inf, 0}; merge() puts parts of a line together.
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
__device__ LineSums<T, moments> merge(LineSums<T, moments> a, LineSums<T, moments> b) {
  const T max = fmax(a.max, b.max);  // drops NaN, which is in the sums too
  raise(a, max);
  raise(b, max);
  a.sum += b.sum;
  if constexpr (moments) {
    a.mean += b.mean;
    a.squares += b.squares;
  }
  return a;
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
//   Compute<S> logit(S)                            the term that an element stands for
//   void line(line, LineSums)                      called once for each line
// and, if it writes elements,
//   Compute<S> kept(z, e)                          of a term and exp(z - shift), what it needs
//   S element(kept, LineSums)

// Of a block of lines that groups of threads keep in registers.
template <unsigned group>
constexpr unsigned resident_threads = group < 128 ? 128 : group;

/// Lines of at most group * packs * pack terms, which a group of threads keeps in registers;
/// `terms` is a multiple of `pack`, and memory is aligned for packs.
template <unsigned group, int packs, int pack, class S, class Op>
__global__ void __launch_bounds__(resident_threads<group>)
    resident_lines(const S* x, std::size_t lines, unsigned terms, Op op) {
  using T = Compute<S>;
  using Sums = LineSums<T, Op::moments>;
  constexpr unsigned threads = resident_threads<group>;
  __shared__ Sums sums_of_warp[threads / warp_size];
  __shared__ T max_of_warp[threads / warp_size];

  const std::size_t line = std::size_t{blockIdx.x} * (threads / group) + threadIdx.x / group;
  const unsigned rank = threadIdx.x % group;
  const bool is_line = line < lines;
  const S* from = x + (is_line ? line : 0) * terms;

  T z[packs * pack];
  T max = -infinity<T>();
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const unsigned first = (p * group + rank) * pack;
    Pack<S, pack> elements;
    const bool is_inside = is_line && first < terms;
    if (is_inside) elements = *reinterpret_cast<const Pack<S, pack>*>(from + first);
#pragma unroll
    for (int i = 0; i < pack; ++i) {
      z[p * pack + i] = is_inside ? op.logit(elements.element[i]) : -infinity<T>();
      max = fmax(max, z[p * pack + i]);
    }
  }
  const auto larger = [](T a, T b) { return fmax(a, b); };
  if constexpr (group <= warp_size)
    max = reduce_lanes<group>(max, larger);
  else
    max = reduce_block<group>(max, max_of_warp, larger);

  Sums sums = no_terms<T, Op::moments>();
  sums.max = max;
  const T shift = shift_of(max);
#pragma unroll
  for (int k = 0; k < packs * pack; ++k) {
    const T e = add_term(sums, z[k], shift);
    if constexpr (Op::writes_elements) z[k] = op.kept(z[k], e);
  }
  const auto merged = [](Sums a, Sums b) { return merge(a, b); };
  if constexpr (group <= warp_size)
    sums = reduce_lanes<group>(sums, merged);
  else
    sums = reduce_block<group>(sums, sums_of_warp, merged);

  if (!is_line) return;
  if (rank == 0) op.line(line, sums);
  if constexpr (Op::writes_elements) {
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const unsigned first = (p * group + rank) * pack;
      if (first >= terms) continue;
      Pack<S, pack> results;
#pragma unroll
      for (int i = 0; i < pack; ++i) results.element[i] = op.element(z[p * pack + i], sums);
      *reinterpret_cast<Pack<S, pack>*>(op.out + line * terms + first) = results;
    }
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

/// The sums of all rows of a block for each of its columns, in the threads of the first row, and
/// from there in all.
template <class Sums>
__device__ Sums reduce_rows(Sums sums, const Place& place, unsigned columns, Sums* of_thread) {
  __syncthreads();
  of_thread[threadIdx.x] = sums;
  for (unsigned half = place.rows / 2; half > 0; half /= 2) {
    __syncthreads();
    if (place.row < half)
      of_thread[threadIdx.x] =
          merge(of_thread[threadIdx.x], of_thread[threadIdx.x + half * columns]);
  }
  __syncthreads();
  return of_thread[place.column];
}

/// Writes the elements of a slice.
template <class S, class Op, class Sums>
__device__ void write_slice(const S* x, const Lines& lines, const Slices& slices,
                            const Place& place, const Sums& sums, const Op& op) {
  if (!place.is_line) return;
  const std::size_t begin = blockIdx.y * slices.slice;
  const std::size_t end = min(begin + slices.slice, lines.terms);
  const std::size_t base = place.outer * lines.terms * lines.inner + place.inner;
  for (std::size_t k = begin + place.row; k < end; k += place.rows) {
    const std::size_t index = base + k * lines.inner;
    const auto z = op.logit(x[index]);
    op.out[index] = op.element(op.kept(z, exp(z - shift_of(sums.max))), sums);
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
  __shared__ Sums of_thread[streamed_threads];
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
        z[u * pack + i] = k + u * step < end ? op.logit(elements[u].element[i]) : -infinity<T>();
        max = fmax(max, z[u * pack + i]);
      }
    raise(sums, max);
    const T shift = shift_of(max);
#pragma unroll
    for (int i = 0; i < streamed_unroll * pack; ++i) add_term(sums, z[i], shift);
  }
  sums = reduce_rows(sums, place, slices.columns, of_thread);
  if (slices.parts > 1) {
    if (place.row == 0 && place.is_line)
      partial[blockIdx.y * count(lines) + place.line(lines)] = sums;
    return;
  }
  if (place.row == 0 && place.is_line) op.line(place.line(lines), sums);
  if constexpr (Op::writes_elements) write_slice(x, lines, slices, place, sums, op);
}

/// What is left to do with the sums of slices.
template <class S, class Op>
__global__ void __launch_bounds__(streamed_threads)
    finished_lines(const S* x, Lines lines, Slices slices, Op op,
                   const LineSums<Compute<S>, Op::moments>* partial) {
  using Sums = LineSums<Compute<S>, Op::moments>;
  __shared__ Sums of_thread[streamed_threads];
  const Place place(lines, slices);
  Sums sums = no_terms<Compute<S>, Op::moments>();
  if (place.is_line)
    for (unsigned part = place.row; part < slices.parts; part += place.rows)
      sums = merge(sums, partial[part * count(lines) + place.line(lines)]);
  sums = reduce_rows(sums, place, slices.columns, of_thread);
  if (blockIdx.y == 0 && place.row == 0 && place.is_line) op.line(place.line(lines), sums);
  if constexpr (Op::writes_elements) write_slice(x, lines, slices, place, sums, op);
}

/// Bytes that reduce_lines() needs beside its results.
template <class S, class Op>
std::size_t workspace_bytes(const Lines& lines) {
  const Slices slices = slices_of(lines);
  return slices.parts > 1 ? slices.parts * count(lines) * sizeof(LineSums<Compute<S>, Op::moments>)
                          : 0;
}

template <unsigned group, int elements, int pack, class S, class Op>
cudaError_t launch_resident(const S* x, const Lines& lines, const Op& op, cudaStream_t stream) {
  constexpr unsigned threads = resident_threads<group>, lines_of_block = threads / group;
  const Blocks blocks = {groups_of(count(lines), lines_of_block)};
  return launch(&resident_lines<group, elements / pack, pack, S, Op>,
                {blocks, dim3(threads), 0, stream}, x, count(lines),
                static_cast<unsigned>(lines.terms), op);
}

template <int pack, class S, class Op>
cudaError_t reduce_lines_in_packs(const S* x, const Lines& lines, const Op& op, void* workspace,
                                  cudaStream_t stream) {
  // Code for each length that registers hold; doubles, which take two, get half as far. Long
  // lines that are not aligned are rare: they are streamed.
  constexpr int unit = 8 / (sizeof(Compute<S>) / sizeof(float));
  const std::size_t reached = lines.inner == 1 ? lines.terms * (8 / unit) : 0;
  if (reached != 0) {
    if (reached <= 64) return launch_resident<8, unit, pack>(x, lines, op, stream);
    if (reached <= 256) return launch_resident<32, unit, pack>(x, lines, op, stream);
    if (reached <= 1024) return launch_resident<32, 4 * unit, pack>(x, lines, op, stream);
    if constexpr (pack > 1) {
      if (reached <= 4096) return launch_resident<256, 2 * unit, pack>(x, lines, op, stream);
      if (reached <= 16384) return launch_resident<512, 4 * unit, pack>(x, lines, op, stream);
    }
  }
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
  bool is_aligned = lines.inner == 1 && lines.terms % pack_size<S> == 0 &&
                    reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  if constexpr (Op::writes_elements)
    is_aligned = is_aligned && reinterpret_cast<std::uintptr_t>(op.out) % 16 == 0;
  if (is_aligned) return reduce_lines_in_packs<pack_size<S>>(x, lines, op, workspace, stream);
  return reduce_lines_in_packs<1>(x, lines, op, workspace, stream);
}

}  // namespace logitkit::cuda
