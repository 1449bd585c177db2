#include "plain_array.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <atomic>
#include <new>

namespace py = pybind11;

namespace logitkit {
namespace {

constexpr std::size_t cache_line = 64;

struct Library {
  PyTypeObject* type;
  const dlpack::ExchangeApi* api;
  const Library* next;
};

/// The table in the capsule of a type, null if it has none that we understand. Only of the type
/// that has it itself: a subclass means something of its own.
const dlpack::ExchangeApi* read_table(PyTypeObject* type) {
  static const char* const attribute = "__dlpack_c_exchange_api__";
  const py::object own = py::getattr(reinterpret_cast<PyObject*>(type), "__dict__", py::none());
  if (own.is_none() || !own.contains(attribute)) return nullptr;
  const py::object capsule = own[attribute];
  const void* table = PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api");
  if (table == nullptr) PyErr_Clear();
  const auto* api = static_cast<const dlpack::ExchangeApi*>(table);
  return api != nullptr && api->version.major == 1 && api->look != nullptr ? api : nullptr;
}

/// The same, once for each library: its type lives as long as the process.
const dlpack::ExchangeApi* api_of(PyTypeObject* type) {
  static std::atomic<const Library*> known{nullptr};
  const Library* first = known.load(std::memory_order_acquire);
  for (const Library* one = first; one != nullptr; one = one->next)
    if (one->type == type) return one->api;
  const dlpack::ExchangeApi* api = read_table(type);
  if (api == nullptr) return nullptr;
  Py_INCREF(reinterpret_cast<PyObject*>(type));
  known.store(new Library{type, api, first},
              std::memory_order_release);  // a lost one is read again
  return api;
}

bool is_true(py::handle object, PyObject* name, bool call) {
  PyObject* value =
      call ? PyObject_CallMethodNoArgs(object.ptr(), name) : PyObject_GetAttr(object.ptr(), name);
  if (value == nullptr) {
    PyErr_Clear();
    return false;
  }
  const bool result = value == Py_True;
  Py_DECREF(value);
  return result;
}

std::size_t product(const std::int64_t* shape, int ndim) {
  std::size_t size = 1;
  for (int k = 0; k < ndim; ++k) size *= static_cast<std::size_t>(shape[k]);
  return size;
}

bool in_order(const dlpack::Tensor& tensor) {
  if (tensor.strides == nullptr) return true;
  std::int64_t step = 1;
  for (int k = tensor.ndim - 1; k >= 0; --k) {
    if (tensor.shape[k] != 1 && tensor.strides[k] != step) return false;
    step *= tensor.shape[k];
  }
  return true;
}

bool look_at_numpy(py::handle object, PlainArray& array) {
  const auto* proxy = py::detail::array_proxy(object.ptr());
  const auto* type = py::detail::array_descriptor_proxy(proxy->descr);
  constexpr int single = py::detail::npy_api::NPY_FLOAT_, twice = py::detail::npy_api::NPY_DOUBLE_;
  constexpr int plain =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((type->type_num != single && type->type_num != twice) || type->byteorder != '=' ||
      (proxy->flags & plain) != plain)
    return false;
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t), "shapes are of 64 bits");
  const auto* shape = reinterpret_cast<const std::int64_t*>(proxy->dimensions);
  array.data = proxy->data;
  array.is_double = type->type_num == twice;
  array.writeable = (proxy->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0;
  array.ndim = proxy->nd;
  array.shape = shape;
  array.size = product(shape, proxy->nd);
  array.api = nullptr;
  return true;
}

bool look_at_tensor(py::handle object, const dlpack::ExchangeApi* api, bool refuse_gradient,
                    PlainArray& array) {
  static PyObject* const requires_grad = PyUnicode_InternFromString("requires_grad");
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  dlpack::Tensor tensor;
  if (api->look(object.ptr(), &tensor) != 0) {
    PyErr_Clear();  // of a wrapper without memory, of a kind that DLPack does not know
    return false;
  }
  const bool known = tensor.device.type == dlpack::cpu && tensor.type.lanes == 1 &&
                     tensor.type.code == dlpack::floating &&
                     (tensor.type.bits == 32 || tensor.type.bits == 64);
  if (!known || !in_order(tensor)) return false;
  if (refuse_gradient && is_true(object, requires_grad, false)) return false;
  const std::size_t size = product(tensor.shape, tensor.ndim);
  // A tensor whose sign is yet to be changed is part of complex numbers, and so not in the order
  // of C, unless it is one number.
  if (size == 1 && is_true(object, is_neg, true)) return false;
  array.data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
  array.is_double = tensor.type.bits == 64;
  array.writeable = true;
  array.ndim = tensor.ndim;
  array.shape = tensor.shape;
  array.size = size;
  array.api = api;
  return true;
}

void release(dlpack::ManagedTensor* tensor) {
  ::operator delete(tensor, std::align_val_t{cache_line});
}

/// Memory for numbers like those of an array, in one piece with its description. The library could
/// allocate it too, which takes it longer than a small step of a sampler.
dlpack::ManagedTensor* allocate(const PlainArray& array) {
  const auto ndim = static_cast<std::size_t>(array.ndim);
  const std::size_t item = array.is_double ? sizeof(double) : sizeof(float);
  const std::size_t shape_at = sizeof(dlpack::ManagedTensor);
  const std::size_t used = shape_at + 2 * ndim * sizeof(std::int64_t);
  const std::size_t data_at = (used + cache_line - 1) / cache_line * cache_line;
  void* memory = ::operator new(data_at + array.size * item, std::align_val_t{cache_line});
  auto* bytes = static_cast<char*>(memory);
  auto* shape = reinterpret_cast<std::int64_t*>(bytes + shape_at);
  std::int64_t step = 1;
  for (std::size_t k = ndim; k-- > 0; step *= shape[k]) {
    shape[k] = array.shape[k];
    shape[ndim + k] = step;
  }
  const dlpack::DataType dtype = {dlpack::floating, static_cast<std::uint8_t>(8 * item), 1};
  const dlpack::Tensor tensor = {bytes + data_at, {dlpack::cpu, 0}, array.ndim, dtype,
                                 shape,           shape + ndim,     0};
  return new (memory) dlpack::ManagedTensor{{1, 0}, nullptr, release, 0, tensor};
}

}  // namespace

bool PlainArray::same_shape(const PlainArray& other) const {
  return ndim == other.ndim && std::equal(shape, shape + ndim, other.shape);
}

bool look_at(py::handle object, PlainArray& array, bool refuse_gradient) {
  PyTypeObject* type = Py_TYPE(object.ptr());
  static PyTypeObject* const numpy = py::detail::npy_api::get().PyArray_Type_;
  const dlpack::ExchangeApi* api = type == numpy ? nullptr : api_of(type);
  if (type != numpy && api == nullptr) return false;
  const bool found = type == numpy ? look_at_numpy(object, array)
                                   : look_at_tensor(object, api, refuse_gradient, array);
  array.type = type;
  return found;
}

py::object new_like(const PlainArray& array, void*& data) {
  if (array.api == nullptr) {
    const py::array::ShapeContainer shape(array.shape, array.shape + array.ndim);
    py::array result = array.is_double ? py::array(py::array_t<double>(shape))
                                       : py::array(py::array_t<float>(shape));
    data = result.mutable_data();
    return std::move(result);
  }
  dlpack::ManagedTensor* tensor = allocate(array);
  data = tensor->tensor.data;
  void* object = nullptr;
  if (array.api->wrap(tensor, &object) != 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
}

}  // namespace logitkit
