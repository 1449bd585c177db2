// The loops over random numbers, one table for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"
#include "random/philox.h"

namespace logitkit {

/// The largest of some elements, the first of equal ones. Not finite if one is NaN or +inf, which
/// leaves the others without meaning.
template <class T>
struct Largest {
  T value;
  std::size_t position;
  bool finite;
};

template <class T>
struct RandomLoops {
  using Fill = void (*)(const Draw& draw, T* out);
  Fill uniform, exponential, gumbel, normal;
  /// out[j] = logits[j] + Gumbel noise of element draw.first + j
  void (*perturb)(const Draw& draw, const T* logits, T* out);
  /// The largest of these, at its j; none of them is stored. draw.count > 0
  Largest<T> (*perturbed_max)(const Draw& draw, const T* logits);
};

struct AllRandomLoops {
  RandomLoops<float> f32;
  RandomLoops<double> f64;
  void (*bits)(const Draw& draw, std::uint64_t* out);
};

template <class T>
const RandomLoops<T>& loops_for(const AllRandomLoops& loops);
template <>
inline const RandomLoops<float>& loops_for(const AllRandomLoops& loops) {
  return loops.f32;
}
template <>
inline const RandomLoops<double>& loops_for(const AllRandomLoops& loops) {
  return loops.f64;
}

namespace scalar { extern const AllRandomLoops random_loops; }
namespace avx2 { extern const AllRandomLoops random_loops; }
namespace avx512 { extern const AllRandomLoops random_loops; }
namespace neon { extern const AllRandomLoops random_loops; }

const AllRandomLoops& random_loops(Isa isa);

}  // namespace logitkit
