#include <pybind11/native_enum.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "least_distance/least_distance.h"
#include "threads.h"
#include "without_gil.h"

namespace py = pybind11;
using logitkit::LeastDistance;
using Matrix = py::array_t<double, py::array::c_style>;
using Labels = py::array_t<std::int64_t, py::array::c_style>;

namespace {

template <class T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

std::size_t rows_of(const LeastDistance& problem, const Matrix& vectors, const Labels& labels) {
  if (vectors.ndim() != 2 || labels.ndim() != 1 || vectors.shape(0) != labels.shape(0) ||
      static_cast<std::size_t>(vectors.shape(1)) != problem.dim())
    throw py::value_error("expected vectors of shape (count, dim) and labels of shape (count,)");
  return static_cast<std::size_t>(labels.shape(0));
}

}  // namespace

void bind_least_distance(py::module_& m) {
  py::class_<LeastDistance> least_distance(m, "LeastDistance");
  py::native_enum<LeastDistance::Status>(least_distance, "Status", "enum.Enum")
      .value("feasible", LeastDistance::Status::feasible)
      .value("infeasible", LeastDistance::Status::infeasible)
      .value("paused", LeastDistance::Status::paused)
      .value("stalled", LeastDistance::Status::stalled)
      .finalize();
  least_distance.def(py::init<std::size_t>(), py::arg("dim"))
      .def(
          "add_points",
          [](LeastDistance& self, const Matrix& center, const Matrix& points,
             const Labels& labels) {
            if (center.ndim() != 1 || static_cast<std::size_t>(center.shape(0)) != self.dim())
              throw py::value_error("expected center of shape (dim,)");
            const std::size_t count = rows_of(self, points, labels);
            return self.add_points(center.data(), points.data(), labels.data(), count);
          },
          py::arg("center").noconvert(), py::arg("points").noconvert(),
          py::arg("labels").noconvert())
      .def(
          "add_rays",
          [](LeastDistance& self, const Matrix& rays, const Labels& labels) {
            const std::size_t count = rows_of(self, rays, labels);
            return self.add_rays(rays.data(), labels.data(), count);
          },
          py::arg("rays").noconvert(), py::arg("labels").noconvert())
      .def_property_readonly("direction",
                             [](const LeastDistance& self) { return to_array(self.direction()); })
      .def_property_readonly("margin", &LeastDistance::margin)
      .def_property_readonly(
          "active_labels", [](const LeastDistance& self) { return to_array(self.active_labels()); })
      .def_property_readonly(
          "active_weights",
          [](const LeastDistance& self) { return to_array(self.active_weights()); })
      .def_property_readonly("constraints", &LeastDistance::constraints)
      .def_property_readonly("iterations", &LeastDistance::iterations);

  m.def(
      "solve_least_distances",
      [](const std::vector<LeastDistance*>& problems, std::size_t max_iterations,
         std::size_t threads, logitkit::Isa isa) {
        std::vector<LeastDistance*> sorted(problems);
        std::sort(sorted.begin(), sorted.end());
        if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
          throw py::value_error("a problem stands in the list twice");
        if (!sorted.empty() && sorted.front() == nullptr)
          throw py::type_error("expected LeastDistance, not None");
        std::vector<LeastDistance::Status> status(problems.size());
        logitkit::without_gil([&] {
          logitkit::parallel_for(problems.size(), threads, [&](std::size_t i) {
            status[i] = problems[i]->solve(max_iterations, isa);
          });
        });
        return status;
      },
      py::arg("problems"), py::kw_only(), py::arg("max_iterations"), py::arg("threads") = 0,
      py::arg_v("isa", logitkit::default_isa(), "default_isa()"));
}
