// Compiled with -mavx512f: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx512.h"

#include "attention/make_loops.h"

namespace logitkit::avx512 {
namespace {

// Sums, a row of queries and one broadcast element fit the registers.
struct Blocks {
  static constexpr size_t rows_of_4 = 6, rows_of_3 = 8, rows_of_2 = 12, rows_of_1 = 16;
};

}  // namespace

const AllAttentionLoops attention_loops = make_loops<F32, F64, Blocks>();

}  // namespace logitkit::avx512
