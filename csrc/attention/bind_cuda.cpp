#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "attention/attention_cuda.h"
#include "cuda/device_array.h"

namespace py = pybind11;

namespace {

using logitkit::cuda::AttentionInput;
using logitkit::cuda::Compute;
using logitkit::cuda::DeviceArray;
using logitkit::cuda::Order;
using Optional = std::optional<DeviceArray>;

DeviceArray array(const py::object& x, const char* name) { return {x, name, Order::any}; }

Optional optional(const py::object& x, const char* name) {
  return x.is_none() ? Optional() : Optional(array(x, name));
}

// An array (batch, head, row) or (batch, head, row, column) with dense columns.
template <class Data>
logitkit::Rows<Data> rows(const DeviceArray& x, int ndim) {
  if (x.ndim() != ndim) x.fail("has another dimension than expected");
  if (ndim == 4 && x.size() > 0 && x.shape(3) != 1 && x.step(3) != 1)
    x.fail("has columns that are not dense");
  return {x.data<std::remove_const_t<Data>>(), x.step(0), x.step(1), x.step(2)};
}

template <class Data>
logitkit::Rows<Data> optional_rows(const Optional& x) {
  return x ? rows<Data>(*x, 3) : logitkit::Rows<Data>{};
}

template <class Data>
logitkit::Scores<Data> scores(const Optional& x, const DeviceArray& query) {
  if (!x) return {};
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

// What both functions take.
struct Arguments {
  DeviceArray query, key, value, scale;
  std::int64_t offset, left, right;
  double softcap;
  Optional slopes, sinks, mask, terms, more_terms, sequences, block_table;
  std::optional<std::array<std::size_t, 2>> longest;
};

// sequences: (n, 7) numbers, of whose queries and keys `longest` has the largest.
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
    if (!a.longest) a.sequences->fail("needs longest");
    a.sequences->expect({-1, 7});
    static_assert(sizeof(logitkit::Sequence) == 7 * sizeof(std::int64_t), "a row of sequences");
    in.sequences = reinterpret_cast<const logitkit::Sequence*>(a.sequences->data<std::int64_t>());
    in.sequence_count = a.sequences->shape(0);
    in.alike.queries = (*a.longest)[0];
    in.alike.keys = (*a.longest)[1];
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

void expect_like(const DeviceArray& x, const DeviceArray& query, std::int64_t columns) {
  const auto size = [&](int k) { return static_cast<std::int64_t>(query.shape(k)); };
  if (columns < 0)
    x.expect({size(0), size(1), size(2)});
  else
    x.expect({size(0), size(1), size(2), columns});
}

template <class Data>
logitkit::Rows<Data> like(const DeviceArray& x, const DeviceArray& query, std::size_t columns) {
  expect_like(x, query, static_cast<std::int64_t>(columns));
  return rows<Data>(x, 4);
}

template <class Data>
logitkit::Rows<Data> of_rows(const Optional& x, const DeviceArray& query) {
  if (x) expect_like(*x, query, -1);
  return optional_rows<Data>(x);
}

Arguments arguments(const py::object& query, const py::object& key, const py::object& value,
                    const py::object& scale, const py::kwargs& rest) {
  const auto object = [&](const char* name) -> py::object {
    return rest.contains(name) ? py::object(rest[name]) : py::object(py::none());
  };
  const auto given = [&](const char* name) { return optional(object(name), name); };
  const auto integer = [&](const char* name, std::int64_t otherwise) {
    return rest.contains(name) ? rest[name].cast<std::int64_t>() : otherwise;
  };
  Arguments a = {array(query, "query"),
                 array(key, "key"),
                 array(value, "value"),
                 array(scale, "scale"),
                 integer("offset", 0),
                 integer("left", logitkit::unlimited),
                 integer("right", logitkit::unlimited),
                 rest.contains("softcap") ? rest["softcap"].cast<double>() : 0.0,
                 given("slopes"),
                 given("sinks"),
                 given("mask"),
                 given("terms"),
                 given("more_terms"),
                 given("sequences"),
                 given("block_table"),
                 {}};
  if (!object("longest").is_none())
    a.longest = object("longest").cast<std::array<std::size_t, 2>>();
  return a;
}

std::uintptr_t stream_of(const py::kwargs& rest) {
  return rest.contains("stream") ? rest["stream"].cast<std::uintptr_t>() : 0;
}

void attention(const py::object& query, const py::object& key, const py::object& value,
               const py::object& scale, const py::object& to, const py::object& for_logsumexp,
               const py::object& for_entropy, const py::object& for_max_logit,
               const py::kwargs& rest) {
  const Arguments a = arguments(query, key, value, scale, rest);
  const DeviceArray out = array(to, "out");
  const Optional logsumexp = optional(for_logsumexp, "logsumexp");
  const Optional entropy = optional(for_entropy, "entropy");
  const Optional max_logit = optional(for_max_logit, "max_logit");
  with_element(a.query, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    using T = Compute<S>;
    const AttentionInput<S> in = input_of<S>(a);
    const logitkit::cuda::AttentionOutput<S> output = {
        like<S>(out, a.query, a.value.shape(3)), of_rows<T>(logsumexp, a.query),
        of_rows<T>(entropy, a.query), of_rows<T>(max_logit, a.query)};
    logitkit::cuda::on_device(a.query.device(), [&] {
      return logitkit::cuda::attention(in, output, logitkit::cuda::as_stream(stream_of(rest)));
    });
  });
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("attention", &attention, py::arg("query"), py::arg("key"), py::arg("value"),
        py::arg("scale"), py::arg("out"), py::arg("logsumexp") = py::none(),
        py::arg("entropy") = py::none(), py::arg("max_logit") = py::none());
}
