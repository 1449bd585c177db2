// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include <cstddef>
#include <cstdint>

#include "attention/operands_amx.h"
#include "attention/softening_amx.h"
#include "simd/amx_product.h"

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

template <size_t parts, size_t vectors, class Work>
void multiply_keys(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin,
                   size_t end, size_t depth, float* tile, Work& work) {
  const size_t stride = round_up(depth, depth_step);
  const auto block = [&](auto rows, size_t j) {
    clear_sums<rows.value, vectors>();
    Product<parts>{keys + j * stride, stride, tile_part(depth), queries, lanes,
                   query_part(depth), depth}
        .template add<rows.value, vectors>(work);
    store_sums<rows.value, vectors>(tile + j * lanes, lanes);
  };
  size_t j = begin / side * side;
  for (; j + side < end; j += 2 * side) block(Constant<2>(), j);
  if (j < end) block(Constant<1>(), j);
  finish_stores();
}

template <size_t parts, size_t vectors>
void score_vectors(const std::uint32_t* queries, const std::uint16_t* keys, size_t begin,
                   size_t end, size_t depth, const float* factors, float* tile) {
  NoWork none;
  multiply_keys<parts, vectors>(queries, keys, begin, end, depth, tile, none);
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

template <size_t parts>
void soften(float* tile, size_t begin, size_t end, const float* factors,
            const RunningSoftmax& softmax, std::uint32_t* weights) {
  const auto run = [&](auto softening) {
    softening.fill_around();
    softening.finish();
  };
  if (softmax.mean != nullptr)
    run(Softening<parts, 1, true>(tile, begin, end, factors, softmax, weights));
  else
    run(Softening<parts, 1, false>(tile, begin, end, factors, softmax, weights));
}

template <size_t vectors>
bool all_one(const float* factor) {
  __mmask16 changed = 0;
  for (size_t v = 0; v < vectors; ++v)
    changed |=
        _mm512_cmp_ps_mask(_mm512_loadu_ps(factor + v * width), _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
  return changed == 0;
}

template <size_t vectors>
void rescale(const float* factor, size_t depth, float* out) {
  if (all_one<vectors>(factor)) return;
  F32 by[vectors];
  for (size_t v = 0; v < vectors; ++v) by[v] = F32::load(factor + v * width);
  for (size_t d = 0; d < depth; ++d)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      float* sum = out + d * lanes + v * width;
      (F32::load(sum) * by[v]).store(sum);
    }
}

/// sums[d][i] = sum over begin <= j < end of values[d][j] times the weight, for d < depth, rounded
/// up to 16; or added to it. after_block(rows, d) comes after each block.
template <size_t parts, size_t vectors, bool added, class Work, class AfterBlock>
void multiply_values(const std::uint32_t* weights, const std::uint16_t* values, size_t begin,
                     size_t end, size_t depth, float* sums, Work& work,
                     const AfterBlock& after_block) {
  const auto block = [&](auto rows, size_t d) {
    if constexpr (added)
      load_sums<rows.value, vectors>(sums + d * lanes, lanes);
    else
      clear_sums<rows.value, vectors>();
    Product<parts>{values + d * tile_keys + begin,
                   tile_keys,
                   tile_part(depth),
                   weights + begin / 2 * lanes,
                   lanes,
                   weight_part,
                   end - begin}
        .template add<rows.value, vectors>(work);
    store_sums<rows.value, vectors>(sums + d * lanes, lanes);
    after_block(rows.value * side, d);
  };
  finish_stores();
  size_t d = 0;
  for (; d + side < depth; d += 2 * side) block(Constant<2>(), d);
  if (d < depth) block(Constant<1>(), d);
  finish_stores();
}

/// The same, where the sum of so few keys begins at 0, for the error of sums over all does then not
/// grow with their number. out = out * factor + that of a block is work for the next one.
template <size_t vectors>
class Adding {
 public:
  Adding(const float* sums, const float* factor, float* out) : sums_(sums), out_(out) {
    for (size_t v = 0; v < vectors; ++v) factor_[v] = F32::load(factor + v * width);
  }

  void add_until(size_t end) { end_ = end; }
  template <size_t product>
  [[gnu::always_inline]] void after() {
    if (next_ < end_) step();
  }
  void finish() {
    while (next_ < end_) step();
  }

 private:
  void step() {
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      const size_t at = next_ * lanes + v * width;
      fma(F32::load(out_ + at), factor_[v], F32::load(sums_ + at)).store(out_ + at);
    }
    ++next_;
  }

  const float* sums_;
  float* out_;
  size_t next_ = 0, end_ = 0;
  F32 factor_[vectors];
};

template <size_t parts, size_t vectors>
void weigh_vectors(const std::uint32_t* weights, const std::uint16_t* values, size_t begin,
                   size_t end, size_t depth, const float* factor, float* sums, float* out) {
  Adding<vectors> adding(sums, factor, out);
  multiply_values<parts, vectors, false>(
      weights, values, begin / depth_step * depth_step, end, depth, sums, adding,
      [&](size_t rows, size_t d) { adding.add_until(d + rows); });
  adding.finish();
}

template <size_t parts>
void weigh(const std::uint32_t* weights, const std::uint16_t* values, size_t begin, size_t end,
           size_t depth, size_t first, size_t vectors, const float* factor, float* sums,
           float* out) {
  weights += first * width;
  factor += first * width;
  sums += first * width;
  out += first * width;
  if (vectors == 3)
    weigh_vectors<parts, 3>(weights, values, begin, end, depth, factor, sums, out);
  else if (vectors == 2)
    weigh_vectors<parts, 2>(weights, values, begin, end, depth, factor, sums, out);
  else
    weigh_vectors<parts, 1>(weights, values, begin, end, depth, factor, sums, out);
}

/// The products of one half of the keys run while the other half is softened.
template <size_t parts, size_t vectors, bool with_mean>
void attend_lanes(const PackedPanel& panel, const std::uint16_t* keys, const std::uint16_t* values,
                  const PackedSpace& space) {
  using Work = Softening<parts, vectors, with_mean>;
  const size_t depth = panel.depth, value_depth = panel.value_depth;
  const RunningSoftmax& softmax = panel.softmax;
  NoWork none;
  if (keys != nullptr)
    multiply_keys<parts, vectors>(panel.queries, keys, 0, half_tile, depth, space.tile, none);
  Work first(space.tile, 0, half_tile, panel.factors, softmax, space.weights);
  if (keys != nullptr)
    multiply_keys<parts, vectors>(panel.queries, keys, half_tile, tile_keys, depth, space.tile,
                                  first);
  first.finish();
  alignas(64) float factor[vectors * width];
  for (size_t v = 0; v < vectors * width; v += width)
    F32::load(softmax.factor + v).store(factor + v);
  Work second(space.tile, half_tile, tile_keys, panel.factors, softmax, space.weights);
  const auto nothing = [](size_t, size_t) {};
  if constexpr (parts == 3) {
    multiply_values<parts, vectors, false>(space.weights, values, 0, half_tile, value_depth,
                                           space.sums, second, nothing);
    second.finish();
    rescale<vectors>(softmax.factor, value_depth, space.sums);
    for (size_t v = 0; v < vectors * width; v += width)
      (F32::load(factor + v) * F32::load(softmax.factor + v)).store(factor + v);
    Adding<vectors> adding(space.sums, factor, panel.out);
    multiply_values<parts, vectors, true>(
        space.weights, values, half_tile, tile_keys, value_depth, space.sums, adding,
        [&](size_t rows, size_t d) { adding.add_until(d + rows); });
    adding.finish();
  } else {  // weights are rounded: sums may be, too
    // There is less time in the few products of one part than sums take to be read twice.
    if (parts == 1) second.finish();
    rescale<vectors>(factor, value_depth, panel.out);
    size_t begin = 0;
    if (parts == 2 || !all_one<vectors>(softmax.factor)) {
      multiply_values<parts, vectors, true>(space.weights, values, 0, half_tile, value_depth,
                                            panel.out, second, nothing);
      second.finish();
      rescale<vectors>(softmax.factor, value_depth, panel.out);
      begin = half_tile;
    }
    multiply_values<parts, vectors, true>(space.weights, values, begin, tile_keys, value_depth,
                                          panel.out, none, nothing);
  }
}

template <size_t parts, size_t vectors>
void attend_vectors(const PackedPanel& panel, const std::uint16_t* keys,
                    const std::uint16_t* values, const PackedSpace& space) {
  if (panel.softmax.mean != nullptr)
    attend_lanes<parts, vectors, true>(panel, keys, values, space);
  else
    attend_lanes<parts, vectors, false>(panel, keys, values, space);
}

template <size_t parts>
void attend(const PackedPanel& panel, const std::uint16_t* keys, const std::uint16_t* values,
            size_t vectors, const PackedSpace& space) {
  if (vectors == 3)
    attend_vectors<parts, 3>(panel, keys, values, space);
  else if (vectors == 2)
    attend_vectors<parts, 2>(panel, keys, values, space);
  else
    attend_vectors<parts, 1>(panel, keys, values, space);
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
          attend<parts>,
          narrow};
}

}  // namespace

const AllPackedLoops packed_loops = {make_loops<Bfloat16>(narrow), make_loops<Float16>(nullptr),
                                     make_loops<Float32>(nullptr)};

}  // namespace logitkit::amx
