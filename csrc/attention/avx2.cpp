// Compiled with -mavx2 -mfma: intrinsics and our own headers only (see the note in isa.h).
#include "simd/avx2.h"

#include "attention/make_loops.h"
#include "simd/table_exp2.h"

namespace logitkit::avx2 {
namespace {

// Sums, a row of queries and one broadcast element fit the registers.
struct Blocks {
  static constexpr size_t rows_of_4 = 0, rows_of_3 = 4, rows_of_2 = 6, rows_of_1 = 8;
};

// A polynomial alone takes 16 instructions on the ports of the multiply-adds, and with a table in a
// register 9. That of doubles is in memory, and gains nothing.
struct Powers {
  static F32 of(F32 x) { return table_exp2(x); }
  static F64 of(F64 x) { return exp2(x); }
};

}  // namespace

const AllAttentionLoops attention_loops = make_loops<F32, F64, Blocks, Powers>();

}  // namespace logitkit::avx2
