#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "self_witness/self_witness.h"
#include "without_gil.h"

namespace py = pybind11;
using FloatArray = py::array_t<float, py::array::c_style>;

namespace {

// z, and that the arrays beside it have the shapes that go with it.
logitkit::Matrix checked(const FloatArray& z, const FloatArray& tails, const FloatArray& squares) {
  if (z.ndim() != 2 || z.shape(1) == 0)
    throw py::value_error("expected z of shape (n, r) with r >= 1");
  const logitkit::Matrix rows = {z.data(), static_cast<std::size_t>(z.shape(0)),
                                 static_cast<std::size_t>(z.shape(1))};
  if (tails.ndim() != 2 ||
      static_cast<std::size_t>(tails.shape(0)) != logitkit::witness_tails(rows.columns) ||
      tails.shape(1) != z.shape(0) || squares.ndim() != 1 || squares.shape(0) != z.shape(0))
    throw py::value_error(
        "expected tails of shape (witness_tails(r), n) and squares of shape (n,)");
  return rows;
}

}  // namespace

void bind_self_witness(py::module_& m) {
  m.def("witness_tails", &logitkit::witness_tails, py::arg("columns"));
  m.def(
      "prepare_self_witness",
      [](const FloatArray& z_array, FloatArray& tails, FloatArray& squares, double error,
         std::size_t threads) {
        const logitkit::Matrix z = checked(z_array, tails, squares);
        if (!(error >= 0.0)) throw py::value_error("expected error >= 0");
        float* to_tails = tails.mutable_data();
        float* to_squares = squares.mutable_data();
        std::size_t bad;
        logitkit::without_gil(
            [&] { bad = logitkit::prepare_self_witness(z, error, to_tails, to_squares, threads); });
        if (bad < z.rows)
          throw py::value_error("row " + std::to_string(bad) +
                                " of z is not finite or longer than 2**62: scale the rows");
      },
      py::arg("z").noconvert(), py::arg("tails").noconvert(), py::arg("squares").noconvert(),
      py::kw_only(), py::arg("error"), py::arg("threads") = 0);
  m.def(
      "self_witness",
      [](const FloatArray& z_array, const FloatArray& tails, const FloatArray& squares,
         FloatArray& slack, std::size_t begin, std::size_t end, std::size_t threads,
         logitkit::Isa isa) {
        const logitkit::Matrix z = checked(z_array, tails, squares);
        if (slack.ndim() != 1 || slack.shape(0) != z_array.shape(0))
          throw py::value_error("expected slack of shape (n,)");
        if (begin > end || end > z.rows) throw py::value_error("expected begin <= end <= n");
        const float *from_tails = tails.data(), *from_squares = squares.data();
        float* to_slack = slack.mutable_data();
        std::uint64_t multiply_adds;
        logitkit::without_gil([&] {
          multiply_adds = logitkit::self_witness(z, from_tails, from_squares, begin, end, to_slack,
                                                 threads, isa);
        });
        return multiply_adds;
      },
      py::arg("z").noconvert(), py::arg("tails").noconvert(), py::arg("squares").noconvert(),
      py::arg("slack").noconvert(), py::kw_only(), py::arg("begin"), py::arg("end"),
      py::arg("threads") = 0, py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}
