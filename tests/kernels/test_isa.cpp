// csrc/isa
#include <algorithm>

#include "expect.h"
#include "isa.h"

namespace logitkit::test {

void test_isa() {
  const std::vector<Isa> isas = supported_isas();
  expect(isas.front() == Isa::scalar, "scalar runs everywhere");
  expect(std::is_sorted(isas.begin(), isas.end()), "weakest first");
  expect(std::count(isas.begin(), isas.end(), default_isa()) == 1, "the default is supported");
}

}  // namespace logitkit::test
