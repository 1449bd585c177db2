// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/operands_amx.h"
#include "simd/amx_product.h"
#include "simd/exp2.h"

namespace logitkit::amx {
namespace {

template <size_t vectors>
void scale_rows(float* tile, size_t count, const float* factors) {
  F32 factor[vectors];
#pragma GCC unroll 3
  for (size_t v = 0; v < vectors; ++v) factor[v] = F32::load(factors + v * width);
  for (size_t j = 0; j < count; ++j)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      float* z = tile + j * lanes + v * width;
      (F32::load(z) * factor[v]).store(z);
    }
}

template <size_t parts, size_t vectors>
void score_vectors(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin,
                   size_t end, size_t depth, const float* factors, float* tile) {
  const size_t stride = round_up(depth, depth_step);
  const auto block = [&](auto rows, size_t j) {
    clear_sums<rows.value, vectors>();
    Product<parts>{keys + j * stride, stride, tile_part(depth), queries, lanes,
                   query_part(depth), depth}
        .template add<rows.value, vectors>();
    store_sums<rows.value, vectors>(tile + j * lanes, lanes);
  };
  size_t j = begin / side * side;
  for (; j + side < end; j += 2 * side) block(Constant<2>(), j);
  if (j < end) block(Constant<1>(), j);
  finish_stores();
  if (factors != nullptr) scale_rows<vectors>(tile + begin * lanes, end - begin, factors);
}

template <size_t parts>
void score(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factors, float* tile) {
  queries += first * width;
  if (factors != nullptr) factors += first * width;
  tile += first * width;
  if (vectors == 3)
    score_vectors<parts, 3>(queries, keys, begin, end, depth, factors, tile);
  else if (vectors == 2)
    score_vectors<parts, 2>(queries, keys, begin, end, depth, factors, tile);
  else
    score_vectors<parts, 1>(queries, keys, begin, end, depth, factors, tile);
}

/// The upper half of each lane to nearest, ties away from 0; what is below is still there. No sum
/// overflows: the numbers are weights, or NaN of few digits.
__m512i round_to_upper(F32 x) {
  return _mm512_add_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x8000));
}

/// A vector of weights as parts, in the upper halves of its lanes.
template <size_t parts>
void split_weights(F32 x, __m512i (&to)[parts]) {
  if constexpr (parts == 1) {
    to[0] = round_to_upper(x);
  } else {
    const Parts all = split(x);
    to[0] = all.high;
    to[1] = all.middle;
    if constexpr (parts == 2)
      to[1] = round_to_upper({_mm512_sub_ps(x.v, _mm512_castsi512_ps(all.high))});
    else
      to[2] = all.low;
  }
}

/// Two rows of a vector of lanes as pairs of parts.
template <size_t parts>
void store_pairs(F32 even, F32 odd, std::uint32_t* to) {
  __m512i low[parts], high[parts];
  split_weights(even, low);
  split_weights(odd, high);
  for (size_t p = 0; p < parts; ++p)
    _mm512_store_si512(to + p * weight_part, pair(low[p], high[p]));
}

/// exp2() where denormal results are flushed: these processors are not slow then.
F32 exp2_flushed(F32 x) {
  using C = Exp2Constants<float>;
  const F32 r = fraction(x);
  F32 p = F32::all(C::c[5]);
#pragma GCC unroll 5
  for (size_t k = 5; k > 0; --k) p = fma(p, r, F32::all(C::c[k - 1]));
  return {_mm512_scalef_ps(fma(p, r, F32::all(1)).v, x.v)};
}

/// The largest of the rows from `begin` to `end` and of `most`.
F32 largest(const float* tile, size_t begin, size_t end, F32 most) {
  constexpr size_t step = 4;
  F32 top[step] = {most, most, most, most};
  size_t j = begin;
  for (; j + step <= end; j += step)
#pragma GCC unroll 4
    for (size_t k = 0; k < step; ++k) top[k] = max(top[k], F32::load(tile + (j + k) * lanes));
  for (; j < end; ++j) top[0] = max(top[0], F32::load(tile + j * lanes));
  return max(max(top[0], top[1]), max(top[2], top[3]));
}

/// The running maximum stays until it is so much exceeded, for sums are seldom to be rescaled then:
/// but for floats an exponent above 2 would cost digits of the weight.
template <size_t parts>
constexpr float slack = parts == 1 ? 8.0f : 2.0f;

template <size_t parts, bool with_mean>
void soften_lanes(const float* tile, size_t begin, size_t end, const float* factors, float* top_,
                  float* max_, float* sum_, float* mean_, float* factor, std::uint32_t* weights) {
  const F32 zero = F32::all(0), no_power = F32::all(-256.0f), before = F32::load(max_);
  const F32 by = factors != nullptr ? F32::load(factors) : F32::all(1);
  const F32 lowest = F32::all(-0x1.fffffep+127f);
  const F32 top = max(F32::load(top_), largest(tile, begin, end, lowest) * by);
  const F32 now = select(greater(top, before + F32::all(slack<parts>)), top, before);
  const F32 minus = zero - now, change = before - now, rescale = exp2(change);
  F32 sum[2] = {zero, zero}, mean[2] = {zero, zero};
  const auto weight = [&](size_t j, size_t k) {
    const F32 z = fma(F32::load(tile + j * lanes), by, minus), p = exp2_flushed(z);
    sum[k] = sum[k] + p;
    // See soften() of make_loops.h.
    if constexpr (with_mean) mean[k] = fma(p, max(no_power, z), mean[k]);
    return p;
  };
  const auto store = [&](F32 even, F32 odd, size_t j) {
    store_pairs<parts>(even, odd, weights + j / 2 * lanes);
  };
  size_t j = begin / depth_step * depth_step;
  for (; j < begin; j += 2) store(zero, zero, j);
#pragma GCC unroll 2
  for (; j + 2 <= end; j += 2) {
    const F32 even = weight(j, 0), odd = weight(j + 1, 1);
    store(even, odd, j);
  }
  if (j < end) store(weight(j, 0), zero, j), j += 2;
  for (; j < round_up(end, depth_step); j += 2) store(zero, zero, j);
  const F32 old_sum = F32::load(sum_);
  if constexpr (with_mean) {
    const F32 moved = fma(max(no_power, change), old_sum, F32::load(mean_));
    fma(moved, rescale, mean[0] + mean[1]).store(mean_);
  }
  fma(old_sum, rescale, sum[0] + sum[1]).store(sum_);
  top.store(top_);
  now.store(max_);
  rescale.store(factor);
}

template <size_t parts>
void soften(const float* tile, size_t begin, size_t end, const float* factors, float* top,
            float* max, float* sum, float* mean, float* factor, std::uint32_t* weights) {
  if (mean != nullptr)
    soften_lanes<parts, true>(tile, begin, end, factors, top, max, sum, mean, factor, weights);
  else
    soften_lanes<parts, false>(tile, begin, end, factors, top, max, sum, mean, factor, weights);
}

/// out = out * factor + sums, of `rows` rows.
template <size_t vectors>
void add_sums(const float* sums, size_t rows, const float* factor, float* out) {
  F32 by[vectors];
#pragma GCC unroll 3
  for (size_t v = 0; v < vectors; ++v) by[v] = F32::load(factor + v * width);
  for (size_t d = 0; d < rows; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      const size_t at = d * lanes + v * width;
      fma(F32::load(out + at), by[v], F32::load(sums + at)).store(out + at);
    }
}

template <size_t parts, size_t vectors>
void weigh_vectors(const std::uint32_t* weights, const std::uint16_t* values, size_t begin,
                   size_t end, size_t depth, const float* factor, float* out) {
  const size_t first = begin / depth_step * depth_step;
  alignas(64) float sums[2 * side * lanes];
  // The sum over a tile begins at 0, for its error does then not grow with the number of tiles.
  const auto block = [&](auto rows, size_t d) {
    clear_sums<rows.value, vectors>();
    Product<parts>{values + d * tile_keys + first,
                   tile_keys,
                   tile_part(depth),
                   weights + first / 2 * lanes,
                   lanes,
                   weight_part,
                   end - first}
        .template add<rows.value, vectors>();
    store_sums<rows.value, vectors>(sums, lanes);
    finish_stores();
    add_sums<vectors>(sums, rows.value * side, factor, out + d * lanes);
  };
  finish_stores();
  size_t d = 0;
  for (; d + side < depth; d += 2 * side) block(Constant<2>(), d);
  if (d < depth) block(Constant<1>(), d);
}

template <size_t parts>
void weigh(const std::uint32_t* weights, const std::uint16_t* values, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factor, float* out) {
  weights += first * width;
  factor += first * width;
  out += first * width;
  if (vectors == 3)
    weigh_vectors<parts, 3>(weights, values, begin, end, depth, factor, out);
  else if (vectors == 2)
    weigh_vectors<parts, 2>(weights, values, begin, end, depth, factor, out);
  else
    weigh_vectors<parts, 1>(weights, values, begin, end, depth, factor, out);
}

void narrow(const float* from, size_t n, std::uint16_t* to) {
  for (size_t i = 0; i < n; i += width) {
    const __mmask16 mask = first_of_16(n - i);
    const __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i));
    _mm256_mask_storeu_epi16(to + i, mask, (__m256i)half);
  }
}

template <class Operand>
constexpr PackedLoops make_loops(void (*narrow)(const float*, size_t, std::uint16_t*)) {
  constexpr size_t parts = Operand::parts;
  return {parts,
          begin,
          end,
          pack_queries<Operand>,
          pack_keys<Operand>,
          pack_values<Operand>,
          score<parts>,
          soften<parts>,
          weigh<parts>,
          narrow};
}

}  // namespace

const AllPackedLoops packed_loops = {make_loops<Bfloat16>(narrow), make_loops<Float16>(nullptr),
                                     make_loops<Float32>(nullptr)};

}  // namespace logitkit::amx
