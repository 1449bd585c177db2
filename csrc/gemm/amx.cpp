// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include "simd/amx.h"

#include "gemm/parts.h"

namespace logitkit::amx {
namespace {

constexpr size_t width = 16, lanes = 3 * width;
constexpr size_t block_size = side * depth_step;  // elements of a tile register

// Of a number there are 3 parts, or one that it is rounded to. They lie in whole tile registers, in
// the order in which they are used:
//   panel[k / 32][vector][part][k % 16][lane][k % 32 / 16],
//   rows[j / 16][k / 32][part][j % 16][k % 16][k % 32 / 16].
// So the elements k and k + 16 of a block are a pair, and no shuffle makes one.

size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

__m512i load(const float* x, size_t n) {
  const __mmask16 first = n >= width ? 0xffff : static_cast<__mmask16>((1u << n) - 1);
  return _mm512_maskz_loadu_epi32(first, x);
}

/// Finds out whether all that it sees is plain.
class Plain {
 public:
  explicit Plain(float least) {
    const __m512i bits = _mm512_castps_si512(_mm512_set1_ps(least));
    least_ = _mm512_sub_epi32(_mm512_max_epu32(bits, one()), one());
  }
  void see(__m512i x) {
    const __m512i size = _mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff));
    most_seen_ = _mm512_max_epu32(most_seen_, size);
    // One less is the largest of all for 0, which is plain.
    least_seen_ = _mm512_min_epu32(least_seen_, _mm512_sub_epi32(size, one()));
  }
  /// The lanes that have seen other numbers.
  __mmask16 others() const {
    const __m512i most = _mm512_castps_si512(_mm512_set1_ps(0x1p48f));
    return _kor_mask16(_mm512_cmpgt_epu32_mask(most_seen_, most),
                       _mm512_cmplt_epu32_mask(least_seen_, least_));
  }

 private:
  static __m512i one() { return _mm512_set1_epi32(1); }

  __m512i least_, most_seen_ = _mm512_setzero_si512(), least_seen_ = _mm512_set1_epi32(-1);
};

/// Writes the parts of 16 pairs, of each as a line of its own tile register.
template <size_t parts>
inline void store_parts(__m512i even, __m512i odd, std::uint16_t* to) {
  const Parts x = split({_mm512_castsi512_ps(even)}), y = split({_mm512_castsi512_ps(odd)});
  _mm512_store_si512(to, pair(x.high, y.high));
  if constexpr (parts == 1) return;
  _mm512_store_si512(to + block_size, pair(x.middle, y.middle));
  _mm512_store_si512(to + 2 * block_size, pair(x.low, y.low));
}

template <size_t part_count>
std::uint64_t split_panel(const float* panel, size_t stride, size_t depth, size_t vectors,
                          float least, std::uint16_t* parts) {
  std::uint64_t others = 0;
  const __m512i zero = _mm512_setzero_si512();
  for (size_t v = 0; v < vectors; ++v) {
    Plain plain(least);
    for (size_t k = 0; k < depth; k += depth_step) {
      std::uint16_t* to = parts + (k / depth_step * 3 + v) * part_count * block_size;
      for (size_t r = 0; r < side; ++r, to += depth_step) {
        const float* from = panel + (k + r) * stride + v * width;
        const __m512i even = k + r < depth ? _mm512_loadu_si512(from) : zero;
        const __m512i odd = k + r + side < depth ? _mm512_loadu_si512(from + side * stride) : zero;
        plain.see(even);
        plain.see(odd);
        store_parts<part_count>(even, odd, to);
      }
    }
    others |= std::uint64_t{plain.others()} << (v * width);
  }
  return others;
}

template <size_t part_count>
std::uint64_t split_rows(const float* rows, size_t stride, const size_t* units, size_t count,
                         size_t depth, float least, std::uint16_t* parts) {
  const size_t of_row_block = round_up(depth, depth_step) * side * part_count;
  const auto unit = [=](const float* row, size_t k) {
    if (k >= depth) return _mm512_setzero_si512();
    return load(row + (units != nullptr ? units[k / width] : k), depth - k);
  };
  std::uint64_t others = 0;
  for (size_t j = 0; j < round_up(count, side); ++j) {
    std::uint16_t* to = parts + j / side * of_row_block + j % side * depth_step;
    const float* row = rows + j * stride;
    Plain plain(least);
    for (size_t k = 0; k < depth; k += depth_step, to += part_count * block_size) {
      const __m512i even = j < count ? unit(row, k) : _mm512_setzero_si512();
      const __m512i odd = j < count ? unit(row, k + side) : _mm512_setzero_si512();
      plain.see(even);
      plain.see(odd);
      store_parts<part_count>(even, odd, to);
    }
    others |= std::uint64_t{plain.others() != 0} << j % 64;
  }
  return others;
}

template <size_t part_count>
bool split_columns(const float* columns, size_t stride, size_t count, size_t depth, float least,
                   std::uint16_t* parts) {
  const size_t of_row_block = round_up(depth, depth_step) * side * part_count;
  Plain plain(least);
  const auto row = [&](size_t k, size_t j) {
    const __m512i x =
        k < depth ? load(columns + k * stride + j, count - j) : _mm512_setzero_si512();
    plain.see(x);
    return F32{_mm512_castsi512_ps(x)};
  };
  for (size_t j = 0; j < count; j += side)
    for (size_t k = 0; k < depth; k += depth_step) {
      F32 even[side], odd[side];
#pragma GCC unroll 16
      for (size_t r = 0; r < side; ++r) {
        even[r] = row(k + r, j);
        odd[r] = row(k + r + side, j);
      }
      transpose(even);
      transpose(odd);
      std::uint16_t* to =
          parts + j / side * of_row_block + k / depth_step * part_count * block_size;
#pragma GCC unroll 16
      for (size_t r = 0; r < side; ++r)
        store_parts<part_count>(_mm512_castps_si512(even[r].v), _mm512_castps_si512(odd[r].v),
                                to + r * depth_step);
    }
  return plain.others() == 0;
}

/// Asks for the cache lines of an Ahead, some with each block of the depth: at once there would be
/// more than the processor keeps track of.
class Lines {
 public:
  Lines(const Ahead& ahead, size_t steps)
      : row_(reinterpret_cast<const char*>(ahead.rows)),
        stride_(ahead.stride * sizeof(float)),
        bytes_(ahead.columns * sizeof(float)),
        rows_(ahead.count),
        at_once_((bytes_ + 63) / 64 * rows_ / (steps + 1) + 1) {}

  void ask() {
    for (size_t n = 0; n < at_once_ && rows_ > 0; ++n) {
      _mm_prefetch(row_ + at_, _MM_HINT_T1);
      at_ += 64;
      if (at_ < bytes_) continue;
      at_ = 0;
      row_ += stride_;
      --rows_;
    }
  }

 private:
  const char* row_;
  size_t stride_, bytes_, rows_, at_once_, at_ = 0;
};

/// Sums of 1, 2 or 4 row blocks by 1 or 2 vectors, at most 4 in all. The numbers of tile registers
/// are part of instructions: 0 to 3 hold sums, 4 and 5 rows, 6 and 7 vectors. The same sum comes
/// every fourth time, as it is ready 52 cycles after an instruction that takes 16.
template <size_t rows, size_t vectors, size_t part_count>
struct Sums {
  const std::uint16_t* a;  // parts of rows
  size_t a_step;           // to the next row block
  const std::uint16_t* b;  // parts of the panel, from the first vector on
  float* tile;
  size_t stride;

  static constexpr long line = 2 * depth_step;
  static constexpr size_t next_vector = part_count * block_size;
  static constexpr bool tall = rows == 4;

  float* at(size_t row, size_t vector) const { return tile + row * side * stride + vector * width; }

  template <size_t part>
  void load_b(size_t k) const {
    const std::uint16_t* from = b + k * 3 * next_vector + part * block_size;
    _tile_loadd(6, from, line);
    if constexpr (vectors > 1) _tile_loadd(7, from + next_vector, line);
  }

  template <size_t part>
  void load_a(size_t k) const {
    const std::uint16_t* from = a + k * next_vector + part * block_size;
    _tile_loadd(4, from, line);
    if constexpr (rows == 2) _tile_loadd(5, from + a_step, line);
  }

  /// Of a tall block the rows are loaded here, one by one.
  template <size_t part>
  void multiply(size_t k) const {
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (tall) {
      const std::uint16_t* from = a + k * next_vector + part * block_size;
      _tile_loadd(5, from + a_step, line);
      _tile_dpbf16ps(1, 5, 6);
      _tile_loadd(4, from + 2 * a_step, line);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(5, from + 3 * a_step, line);
      _tile_dpbf16ps(3, 5, 6);
    } else {
      if constexpr (vectors > 1) _tile_dpbf16ps(1, 4, 7);
      if constexpr (rows > 1) _tile_dpbf16ps(2, 5, 6);
      if constexpr (rows > 1 && vectors > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }

  /// One block of the depth: small products first, and with each step one operand changes.
  void add(size_t k) const {
    if constexpr (part_count == 1) {
      load_a<0>(k);
      load_b<0>(k);
      multiply<0>(k);
      return;
    }
    load_a<2>(k);
    load_b<0>(k);
    multiply<2>(k);
    load_a<1>(k);
    multiply<1>(k);
    load_b<1>(k);
    if constexpr (tall) load_a<1>(k);
    multiply<1>(k);
    load_a<0>(k);
    multiply<0>(k);
    load_b<2>(k);
    if constexpr (tall) load_a<0>(k);
    multiply<0>(k);
    load_b<0>(k);
    if constexpr (tall) load_a<0>(k);
    multiply<0>(k);
  }

  void clear() const {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  void load() const {
    const auto bytes = static_cast<long>(stride * sizeof(float));
    _tile_loadd(0, at(0, 0), bytes);
    if constexpr (tall || vectors > 1) _tile_loadd(1, tall ? at(1, 0) : at(0, 1), bytes);
    if constexpr (rows > 1) _tile_loadd(2, tall ? at(2, 0) : at(1, 0), bytes);
    if constexpr (rows * vectors == 4) _tile_loadd(3, tall ? at(3, 0) : at(1, 1), bytes);
  }
  void store() const {
    const auto bytes = static_cast<long>(stride * sizeof(float));
    _tile_stored(0, at(0, 0), bytes);
    if constexpr (tall || vectors > 1) _tile_stored(1, tall ? at(1, 0) : at(0, 1), bytes);
    if constexpr (rows > 1) _tile_stored(2, tall ? at(2, 0) : at(1, 0), bytes);
    if constexpr (rows * vectors == 4) _tile_stored(3, tall ? at(3, 0) : at(1, 1), bytes);
  }

  void run(size_t depth, bool accumulate, Lines& ahead) const {
    accumulate ? load() : clear();
    for (size_t k = 0; k < depth; k += depth_step) {
      ahead.ask();
      add(k / depth_step);
    }
    store();
  }
};

template <size_t part_count>
void score(const std::uint16_t* panel, const std::uint16_t* rows, size_t row_depth, size_t count,
           size_t depth, size_t vectors, bool accumulate, float* tile, size_t stride,
           const Ahead& ahead) {
  const size_t blocks = (count + side - 1) / side * vectors / 4;
  Lines lines(ahead, blocks * ((depth + depth_step - 1) / depth_step));
  const size_t of_row_block = round_up(row_depth, depth_step) * side * part_count;
  const auto block = [&](auto sums, size_t j, size_t v) {
    sums.a = rows + j * of_row_block;
    sums.a_step = of_row_block;
    sums.b = panel + v * part_count * block_size;
    sums.tile = tile + j * side * stride + v * width;
    sums.stride = stride;
    sums.run(depth, accumulate, lines);
  };
  const size_t row_blocks = (count + side - 1) / side;
  finish_stores();
  size_t v = 0;
  for (; v + 2 <= vectors; v += 2) {
    size_t j = 0;
    for (; j + 2 <= row_blocks; j += 2) block(Sums<2, 2, part_count>(), j, v);
    if (j < row_blocks) block(Sums<1, 2, part_count>(), j, v);
  }
  if (v < vectors) {
    size_t j = 0;
    for (; j + 4 <= row_blocks; j += 4) block(Sums<4, 1, part_count>(), j, v);
    for (; j + 2 <= row_blocks; j += 2) block(Sums<2, 1, part_count>(), j, v);
    if (j < row_blocks) block(Sums<1, 1, part_count>(), j, v);
  }
  finish_stores();
}

}  // namespace

const AllPartLoops part_loops = {
    {3, begin, end, split_panel<3>, split_rows<3>, split_columns<3>, score<3>},
    {1, begin, end, split_panel<1>, split_rows<1>, split_columns<1>, score<1>}};

}  // namespace logitkit::amx
