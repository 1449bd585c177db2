// What the functions of attention take, as pybind11 hands it over.
#pragma once

#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
#include <optional>

#include "attention/attention_cuda.h"
#include "cuda/device_array.h"

namespace logitkit::cuda::attention_arguments {

using Optional = std::optional<DeviceArray>;
using Longest = std::optional<std::array<std::size_t, 2>>;

inline DeviceArray array(const pybind11::object& x, const char* name) {
  return {x, name, Order::any};
}

inline Optional optional(const pybind11::object& x, const char* name) {
  return x.is_none() ? Optional() : Optional(array(x, name));
}

/// An array (batch, head, row) or (batch, head, row, column) with dense columns.
template <class Data>
Rows<Data> rows(const DeviceArray& x, int ndim) {
  if (x.ndim() != ndim) x.fail("has another dimension than expected");
  if (ndim == 4 && x.size() > 0 && x.shape(3) != 1 && x.step(3) != 1)
    x.fail("has columns that are not dense");
  return {x.data<std::remove_const_t<Data>>(), x.step(0), x.step(1), x.step(2)};
}

template <class Data>
Rows<Data> optional_rows(const Optional& x) {
  return x ? rows<Data>(*x, 3) : Rows<Data>{};
}

template <class Data>
Scores<Data> scores(const Optional& x, const DeviceArray& query) {
  if (!x) return {};
  constexpr std::ptrdiff_t most = 1 << 25;  // with which offsets in a tile fit an int
  if (x->ndim() == 4 && std::abs(x->step(3)) >= most) x->fail("has keys too far apart: copy it");
  if (x->ndim() != 4 || x->shape(1) > query.shape(1) || x->shape(2) > query.shape(2))
    x->fail("has an unexpected shape");
  const Data* data;
  if constexpr (sizeof(Data) == 1)
    data = x->holds<bool>() ? reinterpret_cast<const Data*>(x->data<bool>()) : x->data<Data>();
  else
    data = x->data<Data>();
  return {data, x->step(0), x->step(1), x->step(2), x->step(3)};
}

template <class T>
const T* per_head(const Optional& x, std::size_t heads) {
  if (!x) return nullptr;
  x->expect({static_cast<std::int64_t>(heads)});
  if (heads > 1 && x->step(0) != 1) x->fail("is not dense");
  return x->data<T>();
}

/// What both functions take.
struct Arguments {
  DeviceArray query, key, value, scale;
  std::int64_t offset, left, right;
  double softcap;
  Optional slopes, sinks, mask, terms, more_terms, sequences, block_table;
  Longest longest;
};

/// sequences: (n, 7) numbers, of whose queries and keys `longest` has the largest.
template <class S>
void cut_up(AttentionInput<S>& in, const DeviceArray& sequences, const Longest& longest) {
  if (!longest) sequences.fail("needs longest");
  sequences.expect({-1, 7});
  static_assert(sizeof(Sequence) == 7 * sizeof(std::int64_t), "a row of sequences");
  in.sequences = reinterpret_cast<const Sequence*>(sequences.data<std::int64_t>());
  in.sequence_count = sequences.shape(0);
  in.alike.queries = (*longest)[0];
  in.alike.keys = (*longest)[1];
}

template <class S>
AttentionInput<S> input_of(const Arguments& a) {
  using T = Compute<S>;
  AttentionInput<S> in;
  in.query = rows<const S>(a.query, 4);
  in.key = rows<const S>(a.key, 4);
  in.value = rows<const S>(a.value, 4);
  in.heads = static_cast<int>(a.query.shape(1));
  in.key_heads = static_cast<int>(a.key.shape(1));
  in.head_dim = static_cast<int>(a.query.shape(3));
  in.value_dim = static_cast<int>(a.value.shape(3));
  const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  a.key.expect({-1, -1, -1, in.head_dim});
  a.value.expect({size(a.key.shape(0)), in.key_heads, size(a.key.shape(2)), -1});
  if (in.key_heads == 0 ? in.heads != 0 : in.heads % in.key_heads != 0)
    a.query.fail("has heads in no multiple of those of key");
  in.alike = {0, 0, a.query.shape(2), 0, 0, a.key.shape(2), a.offset};
  in.sequence_count = a.query.shape(0);
  if (a.sequences) {
    cut_up(in, *a.sequences, a.longest);
  } else if (a.key.shape(0) != a.query.shape(0) && a.key.shape(0) != 1) {
    a.key.fail("has another number of batches than query");
  }
  if (a.block_table) {
    if (!a.sequences) a.block_table->fail("needs sequences");
    if (a.block_table->ndim() != 2) a.block_table->fail("has another dimension than 2");
    in.block_table = a.block_table->data<std::int32_t>();
    in.max_blocks = size(a.block_table->shape(1));
    in.block_size = static_cast<int>(a.key.shape(2));
  }
  in.scale = rows<const T>(a.scale, 3);
  in.left = a.left;
  in.right = a.right;
  in.softcap = static_cast<T>(a.softcap);
  in.slopes = per_head<T>(a.slopes, a.query.shape(1));
  in.sinks = per_head<T>(a.sinks, a.query.shape(1));
  in.mask = scores<std::uint8_t>(a.mask, a.query);
  in.terms[0] = scores<T>(a.terms, a.query);
  in.terms[1] = scores<T>(a.more_terms, a.query);
  return in;
}

inline void expect_like(const DeviceArray& x, const DeviceArray& query, std::int64_t columns) {
  const auto size = [&](int k) { return static_cast<std::int64_t>(query.shape(k)); };
  if (columns < 0)
    x.expect({size(0), size(1), size(2)});
  else
    x.expect({size(0), size(1), size(2), columns});
}

template <class Data>
Rows<Data> like(const DeviceArray& x, const DeviceArray& query, std::size_t columns) {
  expect_like(x, query, static_cast<std::int64_t>(columns));
  return rows<Data>(x, 4);
}

template <class Data>
Rows<Data> of_rows(const Optional& x, const DeviceArray& query) {
  if (x) expect_like(*x, query, -1);
  return optional_rows<Data>(x);
}

/// The options of both functions, as pybind11 hands them over.
struct Options {
  std::int64_t offset, left, right;
  double softcap;
  const pybind11::object &slopes, &mask, &terms, &more_terms, &sequences;
  const Longest& longest;
};

inline Arguments arguments(const pybind11::object& query, const pybind11::object& key,
                           const pybind11::object& value, const pybind11::object& scale,
                           const Options& o, const pybind11::object& sinks,
                           const pybind11::object& block_table) {
  return {array(query, "query"),
          array(key, "key"),
          array(value, "value"),
          array(scale, "scale"),
          o.offset,
          o.left,
          o.right,
          o.softcap,
          optional(o.slopes, "slopes"),
          optional(sinks, "sinks"),
          optional(o.mask, "mask"),
          optional(o.terms, "terms"),
          optional(o.more_terms, "more_terms"),
          optional(o.sequences, "sequences"),
          optional(block_table, "block_table"),
          o.longest};
}

}  // namespace logitkit::cuda::attention_arguments
