// Intrinsics and our own headers only, like every file for one instruction set.
#include "simd/neon.h"

#include "attention/make_loops.h"

namespace logitkit::neon {
namespace {

// Sums, a row of queries and one broadcast element fit the registers.
struct Blocks {
  static constexpr size_t rows_of_4 = 6, rows_of_3 = 8, rows_of_2 = 8, rows_of_1 = 16;
};

}  // namespace

const AllAttentionLoops attention_loops = make_loops<F32, F64, Blocks>();

}  // namespace logitkit::neon
