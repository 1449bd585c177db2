// The numbers in the laws of laws.h, for the kernels of processors and of GPUs.
#pragma once

#include <cstdint>

namespace logitkit {
namespace {

constexpr double ln_2 = 0x1.62e42fefa39efp-1;

template <class Element>
struct LawConstants;

template <>
struct LawConstants<float> {
  using Word = std::uint32_t;
  static constexpr int mantissa = 23;
  static constexpr float largest = 0x1.fffffep127f;
  static constexpr float below_one = 0x1.fffffep-1f, half_unit = 0x1p-24f;
  static constexpr float half_root = 0x1.6a09e6p-1f;  // sqrt(1/2)
  // (log(1 + z) - z) / z^2 between sqrt(1/2) - 1 and sqrt(2) - 1: relative error of log 4.3e-9
  static constexpr float log[9] = {-0x1.fffff8p-2f, 0x1.555544p-2f,  -0x1.0003fep-2f,
                                   0x1.99a968p-3f,  -0x1.543246p-3f, 0x1.22116ap-3f,
                                   -0x1.0e8428p-3f, 0x1.0a567ep-3f,  -0x1.40713ap-4f};
  // sin(pi x / 4) / x and (cos(pi x / 4) - 1) / x^2 in x^2 <= 1: 3.1e-9 and 5.4e-11
  static constexpr float sin[4] = {0x1.921fb6p-1f, -0x1.4abbbap-4f, 0x1.465ec6p-9f,
                                   -0x1.2d9bb8p-15f};
  static constexpr float cos[4] = {-0x1.3bd3ccp-2f, 0x1.03c1dep-6f, -0x1.55c664p-12f,
                                   0x1.d9f7bcp-19f};
};

template <>
struct LawConstants<double> {
  using Word = std::uint64_t;
  static constexpr int mantissa = 52;
  static constexpr double largest = 0x1.fffffffffffffp1023;
  static constexpr double below_one = 0x1.fffffffffffffp-1, half_unit = 0x1p-53;
  static constexpr double half_root = 0x1.6a09e667f3bcdp-1;
  // (2 artanh(s) - 2 s) / s^3 in s^2 <= 0.0295: relative error of 2 artanh(s) 1.3e-18
  static constexpr double log[7] = {
      0x1.5555555555592p-1, 0x1.999999997fdb5p-2, 0x1.24924941f13f2p-2, 0x1.c71c52094b5c5p-3,
      0x1.74663eeb94d8dp-3, 0x1.39a1ba6edb4dbp-3, 0x1.2f05661e643ebp-3};
  // The same; 3.2e-18 and 3.3e-20
  static constexpr double sin[7] = {
      0x1.921fb54442d18p-1,  -0x1.4abbce625be41p-4,  0x1.466bc677587fdp-9, -0x1.32d2cce2e60e0p-15,
      0x1.50782fda6c232p-22, -0x1.e30071ff3f1e6p-30, 0x1.e3f39e1fd0608p-38};
  static constexpr double cos[7] = {
      -0x1.3bd3cc9be45dep-2,  0x1.03c1f081b5ab0p-6,  -0x1.55d3c7e3c95bcp-12, 0x1.e1f50683b4276p-19,
      -0x1.a6d1ecb73c904p-26, 0x1.f9cc6acd62a68p-34, -0x1.b26fe7b6aa157p-42};
};

}  // namespace
}  // namespace logitkit
