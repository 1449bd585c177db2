#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
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
using Longest = std::optional<std::array<std::size_t, 2>>;

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

// What both functions take.
struct Arguments {
  DeviceArray query, key, value, scale;
  std::int64_t offset, left, right;
  double softcap;
  Optional slopes, sinks, mask, terms, more_terms, sequences, block_table;
  Longest longest;
};

// sequences: (n, 7) numbers, of whose queries and keys `longest` has the largest.
template <class S>
void cut_up(AttentionInput<S>& in, const DeviceArray& sequences, const Longest& longest) {
  if (!longest) sequences.fail("needs longest");
  sequences.expect({-1, 7});
  static_assert(sizeof(logitkit::Sequence) == 7 * sizeof(std::int64_t), "a row of sequences");
  in.sequences = reinterpret_cast<const logitkit::Sequence*>(sequences.data<std::int64_t>());
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

// The options of both functions, as pybind11 hands them over.
struct Options {
  std::int64_t offset, left, right;
  double softcap;
  const py::object &slopes, &mask, &terms, &more_terms, &sequences;
  const Longest& longest;
};

Arguments arguments(const py::object& query, const py::object& key, const py::object& value,
                    const py::object& scale, const Options& o, const py::object& sinks,
                    const py::object& block_table) {
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

struct Results {
  DeviceArray out;
  Optional logsumexp, entropy, max_logit;
};

template <class S>
void run(const Arguments& a, const Results& r, std::uintptr_t stream) {
  using T = Compute<S>;
  const AttentionInput<S> in = input_of<S>(a);
  const logitkit::cuda::AttentionOutput<S> output = {
      like<S>(r.out, a.query, a.value.shape(3)), of_rows<T>(r.logsumexp, a.query),
      of_rows<T>(r.entropy, a.query), of_rows<T>(r.max_logit, a.query)};
  logitkit::cuda::on_device(a.query.device(), [&] {
    return logitkit::cuda::attention(in, output, logitkit::cuda::as_stream(stream));
  });
}

template <class S>
void run_merge(const Results& parts, const Optional& sinks, const Results& to,
               std::uintptr_t stream) {
  using T = Compute<S>;
  const auto size = [&](int k) { return static_cast<std::int64_t>(parts.out.shape(k)); };
  to.out.expect({size(0), size(1), 1, size(3)});
  const auto part = [&](const Optional& x) { return of_rows<const T>(x, parts.out); };
  const auto whole = [&](const Optional& x) { return of_rows<T>(x, to.out); };
  if (!parts.logsumexp) parts.out.fail("needs logsumexp");
  if (to.entropy && !parts.entropy) to.entropy->fail("needs that of the parts");
  if (to.max_logit && !parts.max_logit) to.max_logit->fail("needs that of the parts");
  const logitkit::cuda::AttentionParts<S> in = {
      parts.out.shape(0),        static_cast<int>(size(1)),   static_cast<int>(size(2)),
      static_cast<int>(size(3)), rows<const S>(parts.out, 4), part(parts.logsumexp),
      part(parts.entropy),       part(parts.max_logit)};
  const logitkit::cuda::AttentionOutput<S> out = {rows<S>(to.out, 4), whole(to.logsumexp),
                                                  whole(to.entropy), whole(to.max_logit)};
  const T* of_heads = per_head<T>(sinks, parts.out.shape(1));
  logitkit::cuda::on_device(parts.out.device(), [&] {
    return logitkit::cuda::merge_attention(in, out, of_heads, logitkit::cuda::as_stream(stream));
  });
}

struct Gradients {
  DeviceArray out, grad_out, workspace, grad_query, grad_key, grad_value;
  Optional logsumexp, entropy, grad_logsumexp, grad_entropy, grad_scale, grad_logits;
};

std::size_t rows_of(const DeviceArray& query) {
  return query.shape(0) * query.shape(1) * query.shape(2);
}

template <class S>
void run_gradient(const Arguments& a, const Optional& key_sequences, const Longest& key_longest,
                  const Gradients& r, std::uintptr_t stream) {
  using T = Compute<S>;
  const AttentionInput<S> in = input_of<S>(a);
  AttentionInput<S> by_key = in;
  if (key_sequences)
    cut_up(by_key, *key_sequences, key_longest);
  else if (in.sequences == nullptr)
    a.key.expect({static_cast<std::int64_t>(a.query.shape(0)), -1, -1, -1});
  logitkit::cuda::AttentionGradient<S> to;
  to.out = like<const S>(r.out, a.query, a.value.shape(3));
  to.grad_out = like<const S>(r.grad_out, a.query, a.value.shape(3));
  to.logsumexp = of_rows<const T>(r.logsumexp, a.query);
  to.entropy = of_rows<const T>(r.entropy, a.query);
  to.grad_logsumexp = of_rows<const T>(r.grad_logsumexp, a.query);
  to.grad_entropy = of_rows<const T>(r.grad_entropy, a.query);
  to.grad_query = like<S>(r.grad_query, a.query, a.query.shape(3));
  to.grad_key = like<S>(r.grad_key, a.key, a.key.shape(3));
  to.grad_value = like<S>(r.grad_value, a.key, a.value.shape(3));
  to.grad_scale = of_rows<T>(r.grad_scale, a.query);
  if (r.grad_logits) {
    const auto rows = like<T>(*r.grad_logits, a.query, a.key.shape(2));
    to.grad_logits = rows.data;
    to.logits_batch = rows.batch;
    to.logits_head = rows.head;
    to.logits_row = rows.row;
  }
  if (r.workspace.size() < logitkit::cuda::attention_gradient_workspace<S>(rows_of(a.query)))
    r.workspace.fail("is too small");
  to.workspace = r.workspace.data<std::uint8_t>();
  if (reinterpret_cast<std::uintptr_t>(to.workspace) % 32 != 0) r.workspace.fail("is not aligned");
  logitkit::cuda::on_device(a.query.device(), [&] {
    return logitkit::cuda::attention_gradient(in, by_key, to, a.query.shape(0), a.query.shape(2),
                                              logitkit::cuda::as_stream(stream));
  });
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("attention_gradient_workspace", [](std::size_t rows) {
    return logitkit::cuda::attention_gradient_workspace<double>(rows);
  });
  m.def(
      "attention",
      [](const py::object& query, const py::object& key, const py::object& value,
         const py::object& scale, const py::object& out, std::int64_t offset, std::int64_t left,
         std::int64_t right, double softcap, const py::object& slopes, const py::object& sinks,
         const py::object& mask, const py::object& terms, const py::object& more_terms,
         const py::object& sequences, const Longest& longest, const py::object& block_table,
         const py::object& logsumexp, const py::object& entropy, const py::object& max_logit,
         std::uintptr_t stream) {
        const Options options = {offset, left,  right,      softcap,   slopes,
                                 mask,   terms, more_terms, sequences, longest};
        const Arguments a = arguments(query, key, value, scale, options, sinks, block_table);
        const Results r = {array(out, "out"), optional(logsumexp, "logsumexp"),
                           optional(entropy, "entropy"), optional(max_logit, "max_logit")};
        with_element(a.query,
                     [&](auto* type) { run<std::remove_pointer_t<decltype(type)>>(a, r, stream); });
      },
      py::arg("query"), py::arg("key"), py::arg("value"), py::arg("scale"), py::arg("out"),
      py::kw_only(), py::arg("offset") = 0, py::arg("left") = logitkit::unlimited,
      py::arg("right") = logitkit::unlimited, py::arg("softcap") = 0.0,
      py::arg("slopes") = py::none(), py::arg("sinks") = py::none(), py::arg("mask") = py::none(),
      py::arg("terms") = py::none(), py::arg("more_terms") = py::none(),
      py::arg("sequences") = py::none(), py::arg("longest") = py::none(),
      py::arg("block_table") = py::none(), py::arg("logsumexp") = py::none(),
      py::arg("entropy") = py::none(), py::arg("max_logit") = py::none(), py::arg("stream") = 0);
  m.def(
      "merge_attention",
      [](const py::object& parts, const py::object& part_logsumexp, const py::object& part_entropy,
         const py::object& part_max_logit, const py::object& sinks, const py::object& out,
         const py::object& logsumexp, const py::object& entropy, const py::object& max_logit,
         std::uintptr_t stream) {
        const Results in = {array(parts, "parts"), optional(part_logsumexp, "part_logsumexp"),
                            optional(part_entropy, "part_entropy"),
                            optional(part_max_logit, "part_max_logit")};
        const Results to = {array(out, "out"), optional(logsumexp, "logsumexp"),
                            optional(entropy, "entropy"), optional(max_logit, "max_logit")};
        with_element(in.out, [&](auto* type) {
          run_merge<std::remove_pointer_t<decltype(type)>>(in, optional(sinks, "sinks"), to,
                                                           stream);
        });
      },
      py::arg("parts"), py::arg("part_logsumexp"), py::arg("part_entropy"),
      py::arg("part_max_logit"), py::arg("sinks"), py::arg("out"), py::arg("logsumexp"),
      py::arg("entropy"), py::arg("max_logit"), py::kw_only(), py::arg("stream") = 0);
  m.def(
      "attention_gradient",
      [](const py::object& query, const py::object& key, const py::object& value,
         const py::object& scale, const py::object& out, const py::object& grad_out,
         const py::object& logsumexp, const py::object& grad_query, const py::object& grad_key,
         const py::object& grad_value, const py::object& workspace, std::int64_t offset,
         std::int64_t left, std::int64_t right, double softcap, const py::object& slopes,
         const py::object& mask, const py::object& terms, const py::object& more_terms,
         const py::object& sequences, const Longest& longest, const py::object& key_sequences,
         const Longest& key_longest, const py::object& entropy, const py::object& grad_logsumexp,
         const py::object& grad_entropy, const py::object& grad_scale,
         const py::object& grad_logits, std::uintptr_t stream) {
        const Options options = {offset, left,  right,      softcap,   slopes,
                                 mask,   terms, more_terms, sequences, longest};
        const py::none none;
        const Arguments a = arguments(query, key, value, scale, options, none, none);
        const Gradients r = {array(out, "out"),
                             array(grad_out, "grad_out"),
                             array(workspace, "workspace"),
                             array(grad_query, "grad_query"),
                             array(grad_key, "grad_key"),
                             array(grad_value, "grad_value"),
                             array(logsumexp, "logsumexp"),
                             optional(entropy, "entropy"),
                             optional(grad_logsumexp, "grad_logsumexp"),
                             optional(grad_entropy, "grad_entropy"),
                             optional(grad_scale, "grad_scale"),
                             optional(grad_logits, "grad_logits")};
        with_element(a.query, [&](auto* type) {
          run_gradient<std::remove_pointer_t<decltype(type)>>(
              a, optional(key_sequences, "key_sequences"), key_longest, r, stream);
        });
      },
      py::arg("query"), py::arg("key"), py::arg("value"), py::arg("scale"), py::arg("out"),
      py::arg("grad_out"), py::arg("logsumexp"), py::arg("grad_query"), py::arg("grad_key"),
      py::arg("grad_value"), py::arg("workspace"), py::kw_only(), py::arg("offset") = 0,
      py::arg("left") = logitkit::unlimited, py::arg("right") = logitkit::unlimited,
      py::arg("softcap") = 0.0, py::arg("slopes") = py::none(), py::arg("mask") = py::none(),
      py::arg("terms") = py::none(), py::arg("more_terms") = py::none(),
      py::arg("sequences") = py::none(), py::arg("longest") = py::none(),
      py::arg("key_sequences") = py::none(), py::arg("key_longest") = py::none(),
      py::arg("entropy") = py::none(), py::arg("grad_logsumexp") = py::none(),
      py::arg("grad_entropy") = py::none(), py::arg("grad_scale") = py::none(),
      py::arg("grad_logits") = py::none(), py::arg("stream") = 0);
}
