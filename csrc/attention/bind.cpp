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

template <class T>
logitkit::Rows<T> statistic(Optional& x, const char* name) {
  if (!x) return {};
  check_type<T>(*x, name);
  return rows<T>(*x, x->mutable_data(), name, 3);
}

// Everything but query, key, value and out.
struct Arguments {
  Sequences sequences;
  py::array scale;
  std::int64_t left, right;
  double softcap;
  Optional slopes, sinks, mask, terms, more_terms;
  std::optional<Table> block_table;
  Optional logsumexp, entropy, max_logit;
  std::size_t threads;
  logitkit::Isa isa;
};

template <class T>
void run(Element element, const py::array& query, const py::array& key, const py::array& value,
         py::array& out, Arguments& a) {
  AttentionInput<T> in;
  in.element = element;
  in.query = rows<const void>(query, query.data(), "query", 4);
  in.key = rows<const void>(key, key.data(), "key", 4);
  in.value = rows<const void>(value, value.data(), "value", 4);
  in.heads = static_cast<std::size_t>(query.shape(1));
  in.key_heads = static_cast<std::size_t>(key.shape(1));
  in.head_dim = static_cast<std::size_t>(query.shape(3));
  in.value_dim = static_cast<std::size_t>(value.shape(3));
  check(key.shape(3) == query.shape(3) && value.shape(1) == key.shape(1) &&
            value.shape(0) == key.shape(0) && value.shape(2) == key.shape(2),
        "query, key and value that fit");
  check(in.key_heads > 0 ? in.heads % in.key_heads == 0 : in.heads == 0,
        "heads of query in a multiple of those of key");
  check(a.sequences.ndim() == 2 && a.sequences.shape(1) == 7, "sequences of shape (batch, 7)");
  for (py::ssize_t s = 0; s < a.sequences.shape(0); ++s) {
    const std::int64_t* x = a.sequences.data(s, 0);
    for (int k = 0; k < 6; ++k) check(x[k] >= 0, "sequences of sizes");
    check(x[0] < query.shape(0) && x[1] + x[2] <= query.shape(2), "sequences inside query");
    check(a.block_table ? x[3] < a.block_table->shape(0)
                        : x[3] < key.shape(0) && x[4] + x[5] <= key.shape(2),
          "sequences inside key");
    const auto size = [x](int k) { return static_cast<std::size_t>(x[k]); };
    in.sequences.push_back({size(0), size(1), size(2), size(3), size(4), size(5), x[6]});
  }
  if (a.block_table) {
    check(a.block_table->ndim() == 2, "block_table of two dimensions");
    in.block_table = a.block_table->data();
    in.max_blocks = static_cast<std::size_t>(a.block_table->shape(1));
    in.block_size = static_cast<std::size_t>(key.shape(2));
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

  check(element_of(out) == element && out.ndim() == 4 && out.shape(0) == query.shape(0) &&
            out.shape(1) == query.shape(1) && out.shape(2) == query.shape(2) &&
            out.shape(3) == value.shape(3),
        "out like query, with the columns of value");
  AttentionOutput<T> to;
  to.out = rows<void>(out, out.mutable_data(), "out", 4);
  to.logsumexp = statistic<T>(a.logsumexp, "logsumexp");
  to.entropy = statistic<T>(a.entropy, "entropy");
  to.max_logit = statistic<T>(a.max_logit, "max_logit");
  logitkit::without_gil([&] { logitkit::attention(in, to, a.threads, a.isa); });
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def(
      "attention",
      [](const py::array& query, const py::array& key, const py::array& value, py::array& out,
         const Sequences& sequences, const py::array& scale, std::int64_t left, std::int64_t right,
         double softcap, const Optional& slopes, const Optional& sinks, const Optional& mask,
         const Optional& terms, const Optional& more_terms, const std::optional<Table>& block_table,
         const Optional& logsumexp, const Optional& entropy, const Optional& max_logit,
         std::size_t threads, logitkit::Isa isa) {
        Arguments a = {sequences, scale,     left,    right,      softcap,     slopes,
                       sinks,     mask,      terms,   more_terms, block_table, logsumexp,
                       entropy,   max_logit, threads, isa};
        const Element element = element_of(query);
        check(element_of(key) == element && element_of(value) == element,
              "query, key and value of one type");
        if (element == Element::float64)
          run<double>(element, query, key, value, out, a);
        else
          run<float>(element, query, key, value, out, a);
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
}
