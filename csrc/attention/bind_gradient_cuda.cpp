#include "attention/arguments_cuda.h"

namespace py = pybind11;

namespace {

using namespace logitkit::cuda::attention_arguments;
using logitkit::cuda::AttentionInput;
using logitkit::cuda::Compute;
using logitkit::cuda::DeviceArray;

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

void bind_attention_gradient(py::module_& m) {
  m.def("attention_gradient_workspace", [](std::size_t rows) {
    return logitkit::cuda::attention_gradient_workspace<double>(rows);
  });
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
