#include "attention/arguments_cuda.h"

namespace py = pybind11;

namespace {

using namespace logitkit::cuda::attention_arguments;
using logitkit::cuda::AttentionInput;
using logitkit::cuda::Compute;
using logitkit::cuda::DeviceArray;

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

}  // namespace

void bind_attention(py::module_& m) {
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
}
