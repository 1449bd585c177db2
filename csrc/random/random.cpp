#include "random/random.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "random/loops.h"
#include "random/row_chunks.h"
#include "threads.h"

namespace logitkit {

const AllRandomLoops& random_loops(Isa isa) {
  switch (isa) {
#if defined(LOGITKIT_HAS_AVX512)
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::random_loops;
#endif
#if defined(LOGITKIT_HAS_AVX2)
    case Isa::avx2: return avx2::random_loops;
#endif
#if defined(LOGITKIT_HAS_NEON)
    case Isa::neon: return neon::random_loops;
#endif
    default: return scalar::random_loops;
  }
}

PhiloxStream philox_stream(std::uint64_t seed, std::uint32_t step) {
  PhiloxStream stream;
  auto low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
  for (std::size_t round = 0; round < 10; ++round) {
    stream.key[0][round] = low;
    stream.key[1][round] = high;
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  stream.step = step;
  return stream;
}

namespace {

template <class T>
typename RandomLoops<T>::Fill loop_of(Law law, const RandomLoops<T>& loops) {
  switch (law) {
    case Law::uniform: return loops.uniform;
    case Law::exponential: return loops.exponential;
    case Law::gumbel: return loops.gumbel;
    case Law::normal: return loops.normal;
  }
  return nullptr;
}

template <class Fill, class T>
void fill_rows(Fill fill, const Rows& rows, std::size_t count, T* out, std::size_t threads) {
  const PhiloxStream stream = philox_stream(rows.seed, rows.step);
  for_each_chunk(rows.count, count, threads, [&](const Chunk& chunk) {
    const auto id = static_cast<std::uint64_t>(rows.row_ids[chunk.row]);
    fill({&stream, id, chunk.first, chunk.count}, out + chunk.row * count + chunk.first);
  });
}

}  // namespace

void random_bits(const Rows& rows, std::size_t count, std::uint64_t* out, std::size_t threads,
                 Isa isa) {
  fill_rows(random_loops(isa).bits, rows, count, out, threads);
}

template <class T>
void random_numbers(Law law, const Rows& rows, std::size_t count, T* out, std::size_t threads,
                    Isa isa) {
  fill_rows(loop_of(law, loops_for<T>(random_loops(isa))), rows, count, out, threads);
}

template <class T>
void gumbel_argmax(const T* logits, const Rows& rows, std::size_t count, std::int64_t* indices,
                   std::size_t threads, Isa isa) {
  const PhiloxStream stream = philox_stream(rows.seed, rows.step);
  const RandomLoops<T>& loops = loops_for<T>(random_loops(isa));
  const std::size_t chunks = chunks_of_row(count);
  std::vector<Largest<T>> largest(rows.count * chunks);
  for_each_chunk(rows.count, count, threads, [&](const Chunk& chunk) {
    const auto id = static_cast<std::uint64_t>(rows.row_ids[chunk.row]);
    Largest<T> part = loops.perturbed_max({&stream, id, chunk.first, chunk.count},
                                          logits + chunk.row * count + chunk.first);
    part.position += chunk.first;
    largest[chunk.row * chunks + chunk.first / chunk_size] = part;
  });
  for (std::size_t row = 0; row < rows.count; ++row) {
    Largest<T> best = largest[row * chunks];
    for (std::size_t i = 1; i < chunks; ++i) {
      const Largest<T>& part = largest[row * chunks + i];
      best.finite = best.finite && part.finite;
      if (part.value > best.value) {
        best.value = part.value;
        best.position = part.position;
      }
    }
    const bool chosen = best.finite && best.value > -std::numeric_limits<T>::infinity();
    indices[row] = chosen ? static_cast<std::int64_t>(best.position) : -1;
  }
}

namespace {

/// The largest elements of a stream of them, in descending order at the end.
template <class T>
class TopK {
 public:
  explicit TopK(std::size_t k) : k_(k) {}

  void add(const T* x, std::size_t n, std::size_t first) {
    for (std::size_t i = 0; i < n; ++i) {
      if (x[i] <= threshold_) continue;  // an equal one that comes later; NaN goes on
      if (!(x[i] < std::numeric_limits<T>::infinity())) finite_ = false;
      if (!finite_) return;
      add(x[i], first + i);
    }
  }

  void add(const TopK& other) {
    finite_ = finite_ && other.finite_;
    for (const Element& element : other.heap_) add(element.value, element.position);
  }

  void write(T* values, std::int64_t* indices) {
    std::sort_heap(heap_.begin(), heap_.end(), above);
    if (!finite_) heap_.clear();
    for (std::size_t i = 0; i < k_; ++i) {
      const bool there = i < heap_.size();
      constexpr T infinity = std::numeric_limits<T>::infinity();
      constexpr T nan = std::numeric_limits<T>::quiet_NaN();
      values[i] = there ? heap_[i].value : finite_ ? -infinity : nan;
      indices[i] = there ? static_cast<std::int64_t>(heap_[i].position) : -1;
    }
  }

 private:
  struct Element {
    T value;
    std::size_t position;
  };
  static bool above(const Element& a, const Element& b) {
    return a.value > b.value || (a.value == b.value && a.position < b.position);
  }

  void add(T value, std::size_t position) {
    if (heap_.size() == k_) {
      if (!above({value, position}, heap_.front())) return;
      std::pop_heap(heap_.begin(), heap_.end(), above);
      heap_.pop_back();
    }
    heap_.push_back({value, position});
    std::push_heap(heap_.begin(), heap_.end(), above);
    if (heap_.size() == k_) threshold_ = heap_.front().value;
  }

  std::size_t k_;
  std::vector<Element> heap_;  // its front is the lowest
  T threshold_ = -std::numeric_limits<T>::infinity();
  bool finite_ = true;
};

}  // namespace

template <class T>
void gumbel_top_k(const T* logits, const Rows& rows, std::size_t count, std::size_t k, T* values,
                  std::int64_t* indices, std::size_t threads, Isa isa) {
  constexpr std::size_t tile = 2048;
  const PhiloxStream stream = philox_stream(rows.seed, rows.step);
  const RandomLoops<T>& loops = loops_for<T>(random_loops(isa));
  const std::size_t chunks = chunks_of_row(count);
  std::vector<TopK<T>> parts(chunks > 1 ? rows.count * chunks : 0, TopK<T>(k));
  for_each_chunk(rows.count, count, threads, [&](const Chunk& chunk) {
    const auto id = static_cast<std::uint64_t>(rows.row_ids[chunk.row]);
    TopK<T> largest(k);
    T perturbed[tile];
    for (std::size_t j = chunk.first; j < chunk.first + chunk.count; j += tile) {
      const std::size_t n = std::min(tile, chunk.first + chunk.count - j);
      loops.perturb({&stream, id, j, n}, logits + chunk.row * count + j, perturbed);
      largest.add(perturbed, n, j);
    }
    if (chunks == 1)
      largest.write(values + chunk.row * k, indices + chunk.row * k);
    else
      parts[chunk.row * chunks + chunk.first / chunk_size] = std::move(largest);
  });
  if (chunks == 1) return;
  for (std::size_t row = 0; row < rows.count; ++row) {
    TopK<T>& first = parts[row * chunks];
    for (std::size_t i = 1; i < chunks; ++i) first.add(parts[row * chunks + i]);
    first.write(values + row * k, indices + row * k);
  }
}

template void random_numbers(Law, const Rows&, std::size_t, float*, std::size_t, Isa);
template void random_numbers(Law, const Rows&, std::size_t, double*, std::size_t, Isa);
template void gumbel_argmax(const float*, const Rows&, std::size_t, std::int64_t*, std::size_t,
                            Isa);
template void gumbel_argmax(const double*, const Rows&, std::size_t, std::int64_t*, std::size_t,
                            Isa);
template void gumbel_top_k(const float*, const Rows&, std::size_t, std::size_t, float*,
                           std::int64_t*, std::size_t, Isa);
template void gumbel_top_k(const double*, const Rows&, std::size_t, std::size_t, double*,
                           std::int64_t*, std::size_t, Isa);

}  // namespace logitkit
