// Runs kernels without the global interpreter lock.
#pragma once

#include <Python.h>

namespace logitkit {

/// Calls f() with the lock released. Until Python 3.13 an interpreter that is
/// shutting down ends a daemon thread that asks for the lock by unwinding its
/// stack. That may not begin in a destructor, such as pybind11's
/// gil_scoped_release has: the process would abort.
template <class F>
void without_gil(const F& f) {
  PyThreadState* state = PyEval_SaveThread();
  try {
    f();
  } catch (...) {
    PyEval_RestoreThread(state);
    throw;
  }
  PyEval_RestoreThread(state);
}

}  // namespace logitkit
