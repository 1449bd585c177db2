// Compiled with -mamx-bf16: intrinsics and our own headers only (see the note in isa.h).
#include "gemm/parts.h"
#include "gemm/split_amx.h"
#include "simd/prefetch.h"

namespace logitkit::amx {
namespace {

static_assert(side == row_block && depth_step == depth_block, "sizes of PartLoops");

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
      prefetch_far(row_ + at_);
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
    const std::uint16_t* from = b + k * panel_width * next_vector + part * block_size;
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
