#include <algorithm>

#include "cuda/optional_array.h"
#include "gemm/choose_arithmetic_cuda.h"
#include "linear_cross_entropy/linear_cross_entropy_cuda.h"

namespace py = pybind11;

namespace {

// Fits any GPU, and classes enough to keep it busy.
constexpr std::size_t default_chunk_bytes = std::size_t{256} << 20;

using logitkit::cuda::Compute;
using logitkit::cuda::DeviceArray;
using logitkit::cuda::OptionalArray;

/// The arrays of a layer and its targets.
struct Layer {
  Layer(const py::object& of_rows, const py::object& of_classes, const py::object& of_labels,
        const py::dict& options)
      : input(of_rows, "input"),
        weight(of_classes, "weight"),
        labels(of_labels, "labels"),
        rows((input.expect({-1, -1}), input.shape(0))),
        depth(input.shape(1)),
        classes((weight.expect({-1, static_cast<std::int64_t>(depth)}), weight.shape(0))),
        bias(options["bias"], "bias", {classes}),
        targets(options["targets"], "targets", {rows, classes}),
        class_weight(options["class_weight"], "class_weight", {classes}),
        softcap(options["softcap"].cast<double>()) {
    labels.expect({static_cast<std::int64_t>(rows)});
    constexpr std::size_t most = (std::size_t{1} << 31) - 256;
    if (classes == 0 || classes > most) weight.fail("does not have from 1 to 2^31 - 256 rows");
  }

  template <class S>
  logitkit::cuda::LayerLossInput<S> of() const {
    return {input.data<S>(),
            weight.data<S>(),
            bias.data<S>(),
            rows,
            classes,
            depth,
            static_cast<Compute<S>>(softcap),
            labels.data<std::int64_t>(),
            targets.data<S>(),
            class_weight.data<S>()};
  }

  const DeviceArray input, weight, labels;
  const std::size_t rows, depth, classes;
  const OptionalArray bias, targets, class_weight;
  const double softcap;
};

void* memory_for(const DeviceArray& workspace, std::size_t bytes) {
  if (workspace.size() < bytes) workspace.fail("is too small");
  return workspace.data<std::uint8_t>();
}

void linear_cross_entropy(const py::object& input, const py::object& weight,
                          const py::object& labels, const py::object& memory,
                          const py::object& bias, double softcap, const py::object& targets,
                          const py::object& class_weight, const py::object& to_logsumexp,
                          const py::object& to_entropy, const py::object& to_target,
                          const py::object& to_total, const py::object& to_best, bool exact,
                          std::uintptr_t stream) {
  using namespace py::literals;
  const Layer layer(input, weight, labels,
                    py::dict("bias"_a = bias, "softcap"_a = softcap, "targets"_a = targets,
                             "class_weight"_a = class_weight));
  const DeviceArray workspace(memory, "workspace");
  const std::size_t rows = layer.rows;
  const OptionalArray logsumexp(to_logsumexp, "logsumexp", {rows}),
      entropy(to_entropy, "entropy", {rows}), target(to_target, "target", {rows}),
      total(to_total, "total", {rows}), best(to_best, "best", {rows});
  with_element(layer.input, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    void* bytes = memory_for(
        workspace, logitkit::cuda::linear_cross_entropy_workspace<S>(rows, layer.classes));
    const logitkit::cuda::LayerLossStats stats = {logsumexp.data<double>(), entropy.data<double>(),
                                                  target.data<double>(), total.data<double>(),
                                                  best.data<std::int64_t>()};
    logitkit::cuda::on_device(layer.input.device(), [&] {
      return logitkit::cuda::linear_cross_entropy(layer.of<S>(), stats,
                                                  logitkit::cuda::arithmetic_of(layer.input, exact),
                                                  bytes, logitkit::cuda::as_stream(stream));
    });
  });
}

void linear_cross_entropy_gradient(const py::object& input, const py::object& weight,
                                   const py::object& labels, const py::object& memory,
                                   const py::object& given_base, const py::object& given_slope,
                                   const py::object& given_peak, const py::object& given_spread,
                                   const py::object& given_logsumexp, const py::object& bias,
                                   double softcap, const py::object& targets,
                                   const py::object& class_weight, const py::object& to_input,
                                   const py::object& to_weight, const py::object& to_bias,
                                   std::size_t chunk_bytes, bool exact, std::uintptr_t stream) {
  using namespace py::literals;
  const Layer layer(input, weight, labels,
                    py::dict("bias"_a = bias, "softcap"_a = softcap, "targets"_a = targets,
                             "class_weight"_a = class_weight));
  const DeviceArray workspace(memory, "workspace");
  const std::size_t rows = layer.rows, classes = layer.classes, depth = layer.depth;
  const OptionalArray base(given_base, "base", {rows}), slope(given_slope, "slope", {rows}),
      peak(given_peak, "peak", {rows}), spread(given_spread, "spread", {rows}),
      logsumexp(given_logsumexp, "logsumexp", {rows});
  const OptionalArray grad_input(to_input, "grad_input", {rows, depth}),
      grad_weight(to_weight, "grad_weight", {classes, depth}),
      grad_bias(to_bias, "grad_bias", {classes});
  with_element(layer.input, [&](auto* type) {
    using S = std::remove_pointer_t<decltype(type)>;
    void* bytes = memory_for(workspace, logitkit::cuda::linear_cross_entropy_gradient_workspace<S>(
                                            rows, classes, depth, chunk_bytes));
    const logitkit::cuda::LayerLossFactors factors = {base.data<double>(), slope.data<double>(),
                                                      peak.data<double>(), spread.data<double>(),
                                                      logsumexp.data<double>()};
    const logitkit::cuda::LayerLossGradient<S> gradient = {
        grad_input.data<S>(), grad_weight.data<S>(), grad_bias.data<S>()};
    logitkit::cuda::on_device(layer.input.device(), [&] {
      return logitkit::cuda::linear_cross_entropy_gradient(
          layer.of<S>(), factors, gradient, chunk_bytes,
          logitkit::cuda::arithmetic_of(layer.input, exact), bytes,
          logitkit::cuda::as_stream(stream));
    });
  });
}

std::size_t workspace_size(std::size_t rows, std::size_t classes) {
  using logitkit::cuda::linear_cross_entropy_workspace;
  return std::max(linear_cross_entropy_workspace<float>(rows, classes),
                  linear_cross_entropy_workspace<double>(rows, classes));
}

std::size_t gradient_workspace_size(std::size_t rows, std::size_t classes, std::size_t depth,
                                    std::size_t chunk_bytes) {
  using logitkit::cuda::linear_cross_entropy_gradient_workspace;
  return std::max(
      {linear_cross_entropy_gradient_workspace<__half>(rows, classes, depth, chunk_bytes),
       linear_cross_entropy_gradient_workspace<float>(rows, classes, depth, chunk_bytes),
       linear_cross_entropy_gradient_workspace<double>(rows, classes, depth, chunk_bytes)});
}

}  // namespace

void bind_linear_cross_entropy(py::module_& m) {
  m.def("linear_cross_entropy_workspace", &workspace_size, py::arg("rows"), py::arg("classes"));
  m.def("linear_cross_entropy_gradient_workspace", &gradient_workspace_size, py::arg("rows"),
        py::arg("classes"), py::arg("depth"), py::arg("chunk_bytes") = default_chunk_bytes);
  m.def("linear_cross_entropy", &linear_cross_entropy, py::arg("input"), py::arg("weight"),
        py::arg("labels"), py::arg("workspace"), py::arg("bias") = py::none(),
        py::arg("softcap") = 0.0, py::arg("targets") = py::none(),
        py::arg("class_weight") = py::none(), py::arg("logsumexp") = py::none(),
        py::arg("entropy") = py::none(), py::arg("target") = py::none(),
        py::arg("total") = py::none(), py::arg("best") = py::none(), py::kw_only(),
        py::arg("exact") = false, py::arg("stream") = 0);
  m.def("linear_cross_entropy_gradient", &linear_cross_entropy_gradient, py::arg("input"),
        py::arg("weight"), py::arg("labels"), py::arg("workspace"), py::arg("base"),
        py::arg("slope"), py::arg("peak"), py::arg("spread"), py::arg("logsumexp"),
        py::arg("bias") = py::none(), py::arg("softcap") = 0.0, py::arg("targets") = py::none(),
        py::arg("class_weight") = py::none(), py::arg("grad_input") = py::none(),
        py::arg("grad_weight") = py::none(), py::arg("grad_bias") = py::none(), py::kw_only(),
        py::arg("chunk_bytes") = default_chunk_bytes, py::arg("exact") = false,
        py::arg("stream") = 0);
}
