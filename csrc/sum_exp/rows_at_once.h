// Softmax and log-softmax of rows that a cache holds, some of them at a time. Include only from
// files with an instruction set of their own, after that one's vectors.
#pragma once

#include <cstddef>

#include "simd/prefetch.h"
#include "sum_exp/log_softmax_rows.h"
#include "sum_exp/loops.h"
#include "sum_exp/map_items.h"
#include "sum_exp/short_rows.h"
#include "sum_exp/softmax_rows.h"

namespace logitkit {
namespace {

/// A copy past the caches, a few vectors at a time: more than the memory takes at once would wait.
template <class V>
class Stream {
  using T = typename V::Element;

 public:
  /// Finishes what was begun and begins to copy n elements.
  void begin(const T* x, size_t n, T* y) {
    finish();
    const size_t past = up_to_aligned<V>(y), head = past < n ? past : n;
    some(x, head, y);
    x_ = x + head;
    y_ = y + head;
    n_ = n - head;
  }

  /// The next `count` vectors.
  template <size_t count>
  [[gnu::always_inline]] void step() {
    if (n_ < count * V::width) return;
#pragma GCC unroll 4
    for (size_t k = 0; k < count; ++k) V::load(x_ + k * V::width).stream(y_ + k * V::width);
    advance(count * V::width);
  }

  void finish() {
    for (; n_ >= V::width; advance(V::width)) V::load(x_).stream(y_);
    some(x_, n_, y_);
    n_ = 0;
  }

 private:
  static void some(const T* x, size_t n, T* y) {
    if (n > 0) V::load_first(x, n, V::all(*x)).store_first(y, n);
  }
  void advance(size_t n) {
    x_ += n;
    y_ += n;
    n_ -= n;
  }

  const T* x_ = nullptr;
  T* y_ = nullptr;
  size_t n_ = 0;
};

/// The rows of a block by SoftmaxRows, LogSoftmaxRows or ShortRows.
template <class V, class Rows>
void rows_at_once(const Block<typename V::Element>& block, typename V::Element* y, Store store,
                  double* made) {
  using T = typename V::Element;
  Rows batch;
  T results[2][bytes_at_once / sizeof(T)];
  Stream<V> stream;
  const size_t terms = block.terms, most = batch.rows(terms);
  bool turn = false;
  for (size_t i = 0; i < block.items; i += most, turn = !turn) {
    const size_t rows = block.items - i < most ? block.items - i : most;
    const T* x = block.x + i * terms;
    if (store == Store::cached) {
      T* to = y + i * terms;
      batch.run(
          x, rows, terms, to, made + i,
          [to](size_t at) {
            for (size_t k = 0; k < 4; ++k) prefetch(to + at + k * V::width);
          },
          [] {});
      continue;
    }
    batch.run(
        x, rows, terms, results[turn], made + i, [&stream](size_t) { stream.template step<3>(); },
        [&stream] { stream.template step<1>(); });
    for (size_t begin = 0; begin < rows; ++begin) {
      size_t end = begin;
      while (end < rows && made[i + end] == 1.0) ++end;
      stream.begin(results[turn] + begin * terms, (end - begin) * terms, y + (i + begin) * terms);
      begin = end;
    }
  }
  stream.finish();
  if (store == Store::streamed) V::fence();
}

template <class V>
void softmax_at_once(const Block<typename V::Element>& block, typename V::Element* y, Store store,
                     double* made) {
  if (block.terms * sizeof(typename V::Element) <= short_row_bytes)
    rows_at_once<V, ShortRows<V, ShortSoftmax<V>>>(block, y, store, made);
  else
    rows_at_once<V, SoftmaxRows<V>>(block, y, store, made);
}

template <class V>
void log_softmax_at_once(const Block<typename V::Element>& block, typename V::Element* y,
                         Store store, double* made) {
  if (block.terms * sizeof(typename V::Element) <= short_row_bytes)
    rows_at_once<V, ShortRows<V, ShortLogSoftmax<V>>>(block, y, store, made);
  else
    rows_at_once<V, LogSoftmaxRows<V>>(block, y, store, made);
}

}  // namespace
}  // namespace logitkit
