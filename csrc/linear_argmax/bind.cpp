#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "linear_argmax/linear_argmax.h"
#include "without_gil.h"

namespace py = pybind11;
using FloatArray = py::array_t<float, py::array::c_style>;
using IndexArray = py::array_t<std::int64_t, py::array::c_style>;

namespace {

logitkit::Matrix matrix(const FloatArray& array) {
  if (array.ndim() != 2) throw py::value_error("expected x and weight of two dimensions");
  return {array.data(), static_cast<std::size_t>(array.shape(0)),
          static_cast<std::size_t>(array.shape(1))};
}

const float* checked_bias(const std::optional<FloatArray>& bias, const logitkit::Matrix& x,
                          const logitkit::Matrix& weight) {
  if (x.columns != weight.columns)
    throw py::value_error("expected x of shape (m, d) and weight of shape (n, d)");
  if (weight.rows == 0 || weight.rows > std::numeric_limits<std::int32_t>::max())
    throw py::value_error("expected from 1 to 2**31 - 1 rows of weight");
  if (!bias) return nullptr;
  if (bias->ndim() != 1 || static_cast<std::size_t>(bias->shape(0)) != weight.rows)
    throw py::value_error("expected bias of shape (n,)");
  return bias->data();
}

}  // namespace

void bind_linear_argmax(py::module_& m) {
  m.def(
      "linear_argmax",
      [](const FloatArray& x_array, const FloatArray& weight_array,
         const std::optional<FloatArray>& bias_array, FloatArray& values, IndexArray& indices,
         std::size_t threads, logitkit::Isa isa) {
        const logitkit::Matrix x = matrix(x_array), weight = matrix(weight_array);
        const float* bias = checked_bias(bias_array, x, weight);
        if (values.ndim() != 1 || indices.ndim() != 1 || values.shape(0) != x_array.shape(0) ||
            indices.shape(0) != x_array.shape(0))
          throw py::value_error("expected values and indices of shape (m,)");
        float* to_values = values.mutable_data();
        std::int64_t* to_indices = indices.mutable_data();
        logitkit::without_gil(
            [&] { logitkit::linear_argmax(x, weight, bias, to_values, to_indices, threads, isa); });
      },
      py::arg("x").noconvert(), py::arg("weight").noconvert(), py::arg("bias").noconvert(),
      py::arg("values").noconvert(), py::arg("indices").noconvert(), py::kw_only(),
      py::arg("threads") = 0, py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
  m.def(
      "linear_topk",
      [](const FloatArray& x_array, const FloatArray& weight_array,
         const std::optional<FloatArray>& bias_array, FloatArray& values, IndexArray& indices,
         std::size_t threads, logitkit::Isa isa) {
        const logitkit::Matrix x = matrix(x_array), weight = matrix(weight_array);
        const float* bias = checked_bias(bias_array, x, weight);
        if (values.ndim() != 2 || indices.ndim() != 2 || values.shape(0) != x_array.shape(0) ||
            indices.shape(0) != x_array.shape(0) || values.shape(1) != indices.shape(1) ||
            values.shape(1) < 1 || static_cast<std::size_t>(values.shape(1)) > weight.rows)
          throw py::value_error("expected values and indices of shape (m, k), 1 <= k <= n");
        const auto k = static_cast<std::size_t>(values.shape(1));
        float* to_values = values.mutable_data();
        std::int64_t* to_indices = indices.mutable_data();
        logitkit::without_gil([&] {
          logitkit::linear_topk(x, weight, bias, k, to_values, to_indices, threads, isa);
        });
      },
      py::arg("x").noconvert(), py::arg("weight").noconvert(), py::arg("bias").noconvert(),
      py::arg("values").noconvert(), py::arg("indices").noconvert(), py::kw_only(),
      py::arg("threads") = 0, py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}
