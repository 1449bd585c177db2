// For any processor.
#include "simd/scalar.h"

#include "attention/make_loops.h"

namespace logitkit::scalar {
namespace {

// Sums, a row of queries and one broadcast element fit the registers.
struct Blocks {
  static constexpr size_t rows_of_4 = 4, rows_of_3 = 4, rows_of_2 = 4, rows_of_1 = 4;
};

}  // namespace

const AllAttentionLoops attention_loops = make_loops<F32, F64, Blocks>();

}  // namespace logitkit::scalar
