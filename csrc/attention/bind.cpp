#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "attention/attention.h"
#include "without_gil.h"

namespace py = pybind11;
using logitkit::AttentionInput;
using logitkit::AttentionOutput;
using logitkit::Element;

namespace {

using Optional = std::optional<py::array>;
using Sequences = py::array_t<std::int64_t, py::array::c_style>;
using Table = py::array_t<std::int32_t, py::array::c_style>;

// bfloat16, which NumPy does not know, comes as uint16.
Element element_of(const py::array& x) {
  const char kind = x.dtype().kind();
  const auto size = x.itemsize();
  if (kind == 'u' && size == 2) return Element::bfloat16;
  if (kind == 'f' && size == 2) return Element::float16;
  if (kind == 'f' && size == 4) return Element::float32;
  if (kind == 'f' && size == 8) return Element::float64;
  throw py::type_error("expected query of float16, uint16 (bfloat16), float32 or float64");
}

// The step of an axis in elements; 0 along one that is broadcast.
std::ptrdiff_t step(const py::array& x, py::ssize_t axis, const char* name) {
  if (x.shape(axis) == 1 || x.size() == 0) return 0;
  if (x.strides(axis) % x.itemsize() != 0)
    throw py::value_error(std::string("expected whole elements between those of ") + name);
  return x.strides(axis) / x.itemsize();
}

template <class T>
void check_type(const py::array& x, const char* name) {
  if (!py::dtype::of<T>().is(x.dtype()))
    throw py::type_error(std::string("expected ") + name + " of another type");
}

void check(bool holds, const std::string& expected) {
  if (!holds) throw py::value_error("expected " + expected);
}

// An array (batch, head, row) or (batch, head, row, column) with dense columns.
template <class Data, class Pointer>
logitkit::Rows<Data> rows(const py::array& x, Pointer data, const char* name, py::ssize_t ndim) {
  check(x.ndim() == ndim, std::string(name) + " of another dimension");
  check(ndim == 3 || x.size() == 0 || x.shape(3) == 1 || x.strides(3) == x.itemsize(),
        std::string(name) + " with dense columns");
  return {static_cast<Data*>(data), step(x, 0, name), step(x, 1, name), step(x, 2, name)};
}

template <class T>
logitkit::Scores<T> scores(const Optional& x, const char* name) {
  if (!x) return {};
  if constexpr (sizeof(T) == 1)
    check(x->itemsize() == 1, std::string(name) + " of bytes");
  else
    check_type<T>(*x, name);
  check(x->ndim() == 4, std::string(name) + " of four dimensions");
  const auto key = step(*x, 3, name);
  check(key == 0 || key == 1, std::string(name) + " with dense columns");
  return {static_cast<const T*>(x->data()), step(*x, 0, name), step(*x, 1, name), step(*x, 2, name),
          key};
}

template <class T>
const T* per_head(const Optional& x, std::size_t heads, const char* name) {
  if (!x) return nullptr;
  check_type<T>(*x, name);
  check(x->ndim() == 1 && static_cast<std::size_t>(x->shape(0)) == heads &&
            (heads <= 1 || x->strides(0) == x->itemsize()),
        std::string(name) + " of one dense element a head");
  return static_cast<const T*>(x->data());
}

// What both functions take.
struct Arguments {
  const py::array &query, &key, &value;
  const Sequences& sequences;
  const py::array& scale;
  std::int64_t left, right;
  double softcap;
  const Optional &slopes, &sinks, &mask, &terms, &more_terms;
  const std::optional<Table>& block_table;
};

template <class T>
AttentionInput<T> input_of(const Arguments& a) {
  AttentionInput<T> in;
  in.element = element_of(a.query);
  check(element_of(a.key) == in.element && element_of(a.value) == in.element,
        "query, key and value of one type");
  in.query = rows<const void>(a.query, a.query.data(), "query", 4);
  in.key = rows<const void>(a.key, a.key.data(), "key", 4);
  in.value = rows<const void>(a.value, a.value.data(), "value", 4);
  in.heads = static_cast<std::size_t>(a.query.shape(1));
  in.key_heads = static_cast<std::size_t>(a.key.shape(1));
  in.head_dim = static_cast<std::size_t>(a.query.shape(3));
  in.value_dim = static_cast<std::size_t>(a.value.shape(3));
  check(a.key.shape(3) == a.query.shape(3) && a.value.shape(1) == a.key.shape(1) &&
            a.value.shape(0) == a.key.shape(0) && a.value.shape(2) == a.key.shape(2),
        "query, key and value that fit");
  check(in.key_heads > 0 ? in.heads % in.key_heads == 0 : in.heads == 0,
        "heads of query in a multiple of those of key");
  check(a.sequences.ndim() == 2 && a.sequences.shape(1) == 7, "sequences of shape (batch, 7)");
  for (py::ssize_t s = 0; s < a.sequences.shape(0); ++s) {
    const std::int64_t* x = a.sequences.data(s, 0);
    for (int k = 0; k < 6; ++k) check(x[k] >= 0, "sequences of sizes");
    check(x[0] < a.query.shape(0) && x[1] + x[2] <= a.query.shape(2), "sequences inside query");
    check(a.block_table ? x[3] < a.block_table->shape(0)
                        : x[3] < a.key.shape(0) && x[4] + x[5] <= a.key.shape(2),
          "sequences inside key");
    const auto size = [x](int k) { return static_cast<std::size_t>(x[k]); };
    in.sequences.push_back({size(0), size(1), size(2), size(3), size(4), size(5), x[6]});
  }
  if (a.block_table) {
    check(a.block_table->ndim() == 2, "block_table of two dimensions");
    in.block_table = a.block_table->data();
    in.max_blocks = static_cast<std::size_t>(a.block_table->shape(1));
    in.block_size = static_cast<std::size_t>(a.key.shape(2));
  }
  check_type<T>(a.scale, "scale");
  in.scale = rows<const T>(a.scale, a.scale.data(), "scale", 3);
  in.left = a.left;
  in.right = a.right;
  in.softcap = static_cast<T>(a.softcap);
  in.slopes = per_head<T>(a.slopes, in.heads, "slopes");
  in.sinks = per_head<T>(a.sinks, in.heads, "sinks");
  in.mask = scores<std::uint8_t>(a.mask, "mask");
  in.terms[0] = scores<T>(a.terms, "terms");
  in.terms[1] = scores<T>(a.more_terms, "more_terms");
  return in;
}

// An array of elements like the queries, with `columns` of them.
logitkit::Rows<void> like(const py::array& x, py::array& to, py::ssize_t columns,
                          const char* name) {
  check(element_of(to) == element_of(x) && to.ndim() == 4 && to.shape(0) == x.shape(0) &&
            to.shape(1) == x.shape(1) && to.shape(2) == x.shape(2) && to.shape(3) == columns,
        std::string(name) + " of the shape and type of its argument");
  return rows<void>(to, to.mutable_data(), name, 4);
}

template <class T>
logitkit::Rows<const T> given(const Optional& x, const py::array& query, const char* name) {
  if (!x) return {};
  check_type<T>(*x, name);
  check(x->ndim() == 3 && x->shape(0) == query.shape(0) && x->shape(1) == query.shape(1) &&
            x->shape(2) == query.shape(2),
        std::string(name) + " of one element a row");
  return rows<const T>(*x, x->data(), name, 3);
}

template <class T>
logitkit::Rows<T> wanted(Optional& x, const py::array& query, const char* name) {
  if (!x) return {};
  static_cast<void>(given<T>(x, query, name));
  return rows<T>(*x, x->mutable_data(), name, 3);
}

struct Results {
  py::array& out;
  Optional &logsumexp, &entropy, &max_logit;
};

template <class T>
void run(const Arguments& a, Results& r, std::size_t threads, logitkit::Isa isa) {
  const AttentionInput<T> in = input_of<T>(a);
  AttentionOutput<T> to;
  to.out = like(a.query, r.out, a.value.shape(3), "out");
  to.logsumexp = wanted<T>(r.logsumexp, a.query, "logsumexp");
  to.entropy = wanted<T>(r.entropy, a.query, "entropy");
  to.max_logit = wanted<T>(r.max_logit, a.query, "max_logit");
  logitkit::without_gil([&] { logitkit::attention(in, to, threads, isa); });
}

struct Gradients {
  const py::array &out, &grad_out;
  const Optional &logsumexp, &entropy, &grad_logsumexp, &grad_entropy;
  py::array &grad_query, &grad_key, &grad_value;
  Optional &grad_scale, &grad_logits;
};

template <class T>
void run_gradient(const Arguments& a, Gradients& r, std::size_t threads, logitkit::Isa isa) {
  const AttentionInput<T> in = input_of<T>(a);
  logitkit::AttentionGradient<T> to;
  const auto columns = a.value.shape(3);
  const py::array &out = r.out, &grad_out = r.grad_out;
  for (const py::array* x : {&out, &grad_out})
    check(element_of(*x) == in.element && x->ndim() == 4 && x->shape(0) == a.query.shape(0) &&
              x->shape(1) == a.query.shape(1) && x->shape(2) == a.query.shape(2) &&
              x->shape(3) == columns,
          "out and grad_out like query, with the columns of value");
  to.out = rows<const void>(out, out.data(), "out", 4);
  to.grad_out = rows<const void>(grad_out, grad_out.data(), "grad_out", 4);
  to.logsumexp = given<T>(r.logsumexp, a.query, "logsumexp");
  check(to.logsumexp.data != nullptr || a.query.size() == 0, "logsumexp");
  to.entropy = given<T>(r.entropy, a.query, "entropy");
  to.grad_logsumexp = given<T>(r.grad_logsumexp, a.query, "grad_logsumexp");
  to.grad_entropy = given<T>(r.grad_entropy, a.query, "grad_entropy");
  to.grad_query = like(a.query, r.grad_query, a.query.shape(3), "grad_query");
  to.grad_key = like(a.key, r.grad_key, a.key.shape(3), "grad_key");
  to.grad_value = like(a.value, r.grad_value, columns, "grad_value");
  to.grad_scale = wanted<T>(r.grad_scale, a.query, "grad_scale");
  if (r.grad_logits) {
    py::array& x = *r.grad_logits;
    check_type<T>(x, "grad_logits");
    check(x.ndim() == 4 && x.shape(0) == a.query.shape(0) && x.shape(1) == a.query.shape(1) &&
              x.shape(2) == a.query.shape(2) && x.shape(3) == a.key.shape(2),
          "grad_logits of shape (batch, head, row, key)");
    const auto like_rows = rows<T>(x, x.mutable_data(), "grad_logits", 4);
    to.grad_logits = like_rows.data;
    to.logits_batch = like_rows.batch;
    to.logits_head = like_rows.head;
    to.logits_row = like_rows.row;
  }
  check(!a.block_table, "no block_table, as a paged cache has no gradient");
  logitkit::without_gil([&] { logitkit::attention_gradient(in, to, threads, isa); });
}

bool is_double(const py::array& x) { return element_of(x) == Element::float64; }

}  // namespace

void bind_attention(py::module_& m) {
  m.def(
      "attention",
      [](const py::array& query, const py::array& key, const py::array& value, py::array& out,
         const Sequences& sequences, const py::array& scale, std::int64_t left, std::int64_t right,
         double softcap, const Optional& slopes, const Optional& sinks, const Optional& mask,
         const Optional& terms, const Optional& more_terms, const std::optional<Table>& block_table,
         Optional logsumexp, Optional entropy, Optional max_logit, std::size_t threads,
         logitkit::Isa isa) {
        const Arguments a = {query,   key,    value, sequences, scale, left,       right,
                             softcap, slopes, sinks, mask,      terms, more_terms, block_table};
        Results r = {out, logsumexp, entropy, max_logit};
        is_double(query) ? run<double>(a, r, threads, isa) : run<float>(a, r, threads, isa);
      },
      py::arg("query").noconvert(), py::arg("key").noconvert(), py::arg("value").noconvert(),
      py::arg("out").noconvert(), py::arg("sequences").noconvert(), py::arg("scale").noconvert(),
      py::kw_only(), py::arg("left"), py::arg("right"), py::arg("softcap") = 0.0,
      py::arg("slopes").noconvert() = py::none(), py::arg("sinks").noconvert() = py::none(),
      py::arg("mask").noconvert() = py::none(), py::arg("terms").noconvert() = py::none(),
      py::arg("more_terms").noconvert() = py::none(),
      py::arg("block_table").noconvert() = py::none(),
      py::arg("logsumexp").noconvert() = py::none(), py::arg("entropy").noconvert() = py::none(),
      py::arg("max_logit").noconvert() = py::none(), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
  m.def(
      "attention_gradient",
      [](const py::array& query, const py::array& key, const py::array& value,
         const Sequences& sequences, const py::array& scale, const py::array& out,
         const py::array& grad_out, const py::array& logsumexp, py::array& grad_query,
         py::array& grad_key, py::array& grad_value, std::int64_t left, std::int64_t right,
         double softcap, const Optional& slopes, const Optional& mask, const Optional& terms,
         const Optional& more_terms, const Optional& entropy, const Optional& grad_logsumexp,
         const Optional& grad_entropy, Optional grad_scale, Optional grad_logits,
         std::size_t threads, logitkit::Isa isa) {
        const Optional no_sinks, some_logsumexp = logsumexp;
        const std::optional<Table> no_table;
        const Arguments a = {query,   key,    value,    sequences, scale, left,       right,
                             softcap, slopes, no_sinks, mask,      terms, more_terms, no_table};
        Gradients r = {out,          grad_out,   some_logsumexp, entropy,    grad_logsumexp,
                       grad_entropy, grad_query, grad_key,       grad_value, grad_scale,
                       grad_logits};
        is_double(query) ? run_gradient<double>(a, r, threads, isa)
                         : run_gradient<float>(a, r, threads, isa);
      },
      py::arg("query").noconvert(), py::arg("key").noconvert(), py::arg("value").noconvert(),
      py::arg("sequences").noconvert(), py::arg("scale").noconvert(), py::arg("out").noconvert(),
      py::arg("grad_out").noconvert(), py::arg("logsumexp").noconvert(),
      py::arg("grad_query").noconvert(), py::arg("grad_key").noconvert(),
      py::arg("grad_value").noconvert(), py::kw_only(), py::arg("left"), py::arg("right"),
      py::arg("softcap") = 0.0, py::arg("slopes").noconvert() = py::none(),
      py::arg("mask").noconvert() = py::none(), py::arg("terms").noconvert() = py::none(),
      py::arg("more_terms").noconvert() = py::none(), py::arg("entropy").noconvert() = py::none(),
      py::arg("grad_logsumexp").noconvert() = py::none(),
      py::arg("grad_entropy").noconvert() = py::none(),
      py::arg("grad_scale").noconvert() = py::none(),
      py::arg("grad_logits").noconvert() = py::none(), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}
