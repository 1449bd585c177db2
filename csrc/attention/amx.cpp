// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/loops.h"
#include "simd/amx_product.h"
#include "simd/exp2.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, lanes = panel_vectors * width;
size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

__m512i load_half(const std::uint16_t* x, size_t n) {
  const __mmask32 mask = n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1;
  return _mm512_maskz_loadu_epi16(mask, x);
}

void pack_queries(const std::uint16_t* const* rows, size_t count, size_t depth,
                  std::uint32_t* pairs) {
  for (size_t i = 0; i < count; i += width)
    for (size_t d = 0; d < depth; d += depth_step) {
      F32 block[width];
#pragma GCC unroll 16
      for (size_t k = 0; k < width; ++k)
        block[k].v = i + k < count ? _mm512_castsi512_ps(load_half(rows[i + k] + d, depth - d))
                                   : _mm512_setzero_ps();
      transpose(block);
#pragma GCC unroll 16
      for (size_t k = 0; k < width; ++k)
        _mm512_store_ps(pairs + (d / 2 + k) * lanes + i, block[k].v);
    }
}

void pack_keys(const std::uint16_t* const* rows, size_t count, size_t depth, std::uint16_t* keys) {
  const size_t stride = round_up(depth, depth_step);
  for (size_t j = 0; j < round_up(count, side); ++j)
    for (size_t d = 0; d < depth; d += depth_step)
      _mm512_store_si512(keys + j * stride + d,
                         j < count ? load_half(rows[j] + d, depth - d) : _mm512_setzero_si512());
}

bool pack_values(const std::uint16_t* const* rows, size_t count, size_t depth,
                 std::uint16_t* values) {
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  __mmask32 infinite = 0;
  for (size_t j = 0; j < count; j += depth_step)
    for (size_t d = 0; d < depth; d += depth_step) {
      // Pairs of the dimensions 8 k to 8 k + 3, and of 8 k + 4 to 8 k + 7.
      F32 low[side], high[side];
#pragma GCC unroll 16
      for (size_t k = 0; k < side; ++k) {
        const size_t first = j + 2 * k, second = first + 1;
        const __m512i zero = _mm512_setzero_si512();
        const __m512i even = first < count ? load_half(rows[first] + d, depth - d) : zero;
        const __m512i odd = second < count ? load_half(rows[second] + d, depth - d) : zero;
        infinite |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(even, exponent), exponent) |
                    _mm512_cmpeq_epi16_mask(_mm512_and_si512(odd, exponent), exponent);
        low[k].v = _mm512_castsi512_ps(_mm512_unpacklo_epi16(even, odd));
        high[k].v = _mm512_castsi512_ps(_mm512_unpackhi_epi16(even, odd));
      }
      transpose(low);
      transpose(high);
#pragma GCC unroll 16
      for (size_t k = 0; k < side; ++k) {
        std::uint16_t* to = values + (d + k / 4 * 8 + k % 4) * tile_keys + j;
        _mm512_store_ps(to, low[k].v);
        _mm512_store_ps(to + 4 * tile_keys, high[k].v);
      }
    }
  return infinite == 0;
}

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

template <size_t vectors>
void score_vectors(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin,
                   size_t end, size_t depth, const float* factors, float* tile) {
  const size_t stride = round_up(depth, depth_step);
  const auto block = [&](auto rows, size_t j) {
    clear_sums<rows.value, vectors>();
    Product<1>{keys + j * stride, stride, 0, queries, lanes, 0, depth}
        .template add<rows.value, vectors>();
    store_sums<rows.value, vectors>(tile + j * lanes, lanes);
  };
  size_t j = begin / side * side;
  for (; j + side < end; j += 2 * side) block(Constant<2>(), j);
  if (j < end) block(Constant<1>(), j);
  finish_stores();
  if (factors != nullptr) scale_rows<vectors>(tile + begin * lanes, end - begin, factors);
}

void score(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factors, float* tile) {
  queries += first * width;
  if (factors != nullptr) factors += first * width;
  tile += first * width;
  if (vectors == 3)
    score_vectors<3>(queries, keys, begin, end, depth, factors, tile);
  else if (vectors == 2)
    score_vectors<2>(queries, keys, begin, end, depth, factors, tile);
  else
    score_vectors<1>(queries, keys, begin, end, depth, factors, tile);
}

/// Two rows of a vector of lanes as pairs of bfloat16, to nearest, ties away from 0. No sum
/// overflows: the numbers are weights, or NaN of few digits.
void store_pairs(F32 even, F32 odd, float* to) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even.v), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd.v), half);
  F32{_mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaaaaaa, low, high))}.store(to);
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

template <bool with_mean>
void soften_lanes(float* tile, size_t begin, size_t end, const float* factors, float* top_,
                  float* max_, float* sum_, float* mean_, float* factor) {
  const F32 zero = F32::all(0), no_power = F32::all(-256.0f), before = F32::load(max_);
  const F32 by = factors != nullptr ? F32::load(factors) : F32::all(1);
  const F32 lowest = F32::all(-0x1.fffffep+127f);
  const F32 top = max(F32::load(top_), largest(tile, begin, end, lowest) * by);
  // The shift need not be the largest, only near it, and sums are seldom to be rescaled then.
  const F32 now = select(greater(top, before + F32::all(8)), top, before), minus = zero - now;
  const F32 change = before - now, rescale = exp2(change);
  F32 sum[2] = {zero, zero}, mean[2] = {zero, zero};
  const auto weight = [&](size_t j, size_t k) {
    const F32 z = fma(F32::load(tile + j * lanes), by, minus), p = exp2_flushed(z);
    sum[k] = sum[k] + p;
    // See soften() of make_loops.h.
    if constexpr (with_mean) mean[k] = fma(p, max(no_power, z), mean[k]);
    return p;
  };
  size_t j = begin / depth_step * depth_step;
  for (; j < begin; j += 2) zero.store(tile + j * lanes);
#pragma GCC unroll 2
  for (; j + 2 <= end; j += 2) {
    const F32 even = weight(j, 0), odd = weight(j + 1, 1);
    store_pairs(even, odd, tile + j * lanes);
  }
  if (j < end) store_pairs(weight(j, 0), zero, tile + j * lanes), j += 2;
  for (; j < round_up(end, depth_step); j += 2) zero.store(tile + j * lanes);
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

void soften(float* tile, size_t begin, size_t end, const float* factors, float* top, float* max,
            float* sum, float* mean, float* factor) {
  if (mean != nullptr)
    soften_lanes<true>(tile, begin, end, factors, top, max, sum, mean, factor);
  else
    soften_lanes<false>(tile, begin, end, factors, top, max, sum, mean, factor);
}

template <size_t vectors>
void rescale(const float* factor, size_t depth, float* out) {
  F32 by[vectors];
  bool changed = false;
#pragma GCC unroll 3
  for (size_t v = 0; v < vectors; ++v) {
    by[v] = F32::load(factor + v * width);
    changed = changed || _mm512_cmp_ps_mask(by[v].v, _mm512_set1_ps(1.0f), _CMP_NEQ_UQ) != 0;
  }
  if (!changed) return;
  for (size_t d = 0; d < depth; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      float* sum = out + d * lanes + v * width;
      (F32::load(sum) * by[v]).store(sum);
    }
}

template <size_t vectors>
void weigh_vectors(const float* weights, const std::uint16_t* values, size_t begin, size_t end,
                   size_t depth, const float* factor, float* out) {
  const size_t first = begin / depth_step * depth_step;
  const auto* pairs = reinterpret_cast<const std::uint32_t*>(weights + first * lanes);
  rescale<vectors>(factor, depth, out);
  finish_stores();
  const auto block = [&](auto rows, size_t d) {
    load_sums<rows.value, vectors>(out + d * lanes, lanes);
    Product<1>{values + d * tile_keys + first, tile_keys, 0, pairs, 2 * lanes, 0, end - first}
        .template add<rows.value, vectors>();
    store_sums<rows.value, vectors>(out + d * lanes, lanes);
  };
  size_t d = 0;
  for (; d + side < depth; d += 2 * side) block(Constant<2>(), d);
  if (d < depth) block(Constant<1>(), d);
  finish_stores();
}

void weigh(const float* weights, const std::uint16_t* values, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factor, float* out) {
  weights += first * width;
  factor += first * width;
  out += first * width;
  if (vectors == 3)
    weigh_vectors<3>(weights, values, begin, end, depth, factor, out);
  else if (vectors == 2)
    weigh_vectors<2>(weights, values, begin, end, depth, factor, out);
  else
    weigh_vectors<1>(weights, values, begin, end, depth, factor, out);
}

void narrow(const float* from, size_t n, std::uint16_t* to) {
  for (size_t i = 0; i < n; i += width) {
    const __mmask16 mask = n - i >= width ? 0xffff : static_cast<__mmask16>((1u << (n - i)) - 1);
    const __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i));
    _mm256_mask_storeu_epi16(to + i, mask, (__m256i)half);
  }
}

}  // namespace

const Bfloat16Loops bfloat16_loops = {begin, end,    pack_queries, pack_keys, pack_values,
                                      score, soften, weigh,        narrow};

}  // namespace logitkit::amx
