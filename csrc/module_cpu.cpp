#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "isa.h"
#include "threads.h"

namespace py = pybind11;

void bind_attention(py::module_& m);
void bind_cross_entropy(py::module_& m);
void bind_diffusion_update(py::module_& m);
void bind_combine(py::module_& m);
void bind_gemm(py::module_& m);
void bind_least_distance(py::module_& m);
void bind_linear_argmax(py::module_& m);
void bind_linear_cross_entropy(py::module_& m);
void bind_logsumexp(py::module_& m);
void bind_noise_argmax(py::module_& m);
void bind_random(py::module_& m);
void bind_self_witness(py::module_& m);
void bind_softmax(py::module_& m);
void bind_softmax_stats(py::module_& m);

PYBIND11_MODULE(_cpu, m, py::mod_gil_not_used()) {
  py::native_enum<logitkit::Isa>(m, "Isa", "enum.Enum")
      .value("scalar", logitkit::Isa::scalar)
      .value("neon", logitkit::Isa::neon)
      .value("avx2", logitkit::Isa::avx2)
      .value("avx512", logitkit::Isa::avx512)
      .value("avx512_bf16", logitkit::Isa::avx512_bf16)
      .value("amx", logitkit::Isa::amx)
      .finalize();
  m.def("supported_isas", &logitkit::supported_isas);
  m.def("default_isa", &logitkit::default_isa);
  m.def("default_threads", &logitkit::default_threads);

  bind_attention(m);
  bind_cross_entropy(m);
  bind_diffusion_update(m);
  bind_combine(m);
  bind_gemm(m);
  bind_least_distance(m);
  bind_linear_argmax(m);
  bind_linear_cross_entropy(m);
  bind_logsumexp(m);
  bind_noise_argmax(m);
  bind_random(m);
  bind_self_witness(m);
  bind_softmax(m);
  bind_softmax_stats(m);
}
