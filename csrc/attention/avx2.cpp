// Compiled with -mavx2 -mfma: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx2.h"

#include "attention/make_loops.h"

namespace logitkit::avx2 {
namespace {

// Sums, a row of queries and one broadcast element fit the registers.
struct Blocks {
  static constexpr size_t rows_of_4 = 0, rows_of_3 = 4, rows_of_2 = 6, rows_of_1 = 8;
};

}  // namespace

const AllAttentionLoops attention_loops = make_loops<F32, F64, Blocks>();

}  // namespace logitkit::avx2
