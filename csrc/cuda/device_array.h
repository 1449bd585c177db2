// Dense arrays on a GPU, as other libraries hand them over.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "dlpack.h"

namespace logitkit::cuda {

/// Where arrays lie: in the memory of a GPU, or, for the emulation, in main memory.
#ifdef LOGITKIT_CUDA_EMULATION
constexpr dlpack::DeviceType device_type = dlpack::cpu;
#else
constexpr dlpack::DeviceType device_type = dlpack::cuda;
#endif

/// Whether an array is dense and in the order of rows, or has steps of its own.
enum class Order { rows, any };

/// An array that lives while `capsule` does: the caller's arguments outlive the call, and who
/// frees memory that a stream still reads takes care of that, as everywhere with streams.
class DeviceArray {
 public:
  /// Reads array.__dlpack__(stream=-1), which waits for nothing; refuses what needs a copy.
  DeviceArray(const pybind11::handle& array, const char* name, Order order = Order::rows)
      : name_(name),
        capsule_(array.attr("__dlpack__")(pybind11::arg("stream") = -1).cast<pybind11::capsule>()) {
    tensor_ = &capsule_.get_pointer<dlpack::CapsuleTensor>()->tensor;
    if (tensor_->device.type != device_type) fail("is not in the memory of a GPU");
    if (tensor_->type.lanes != 1) fail("does not hold plain numbers");
    if (order == Order::any) return;
    std::int64_t dense = 1;
    for (int k = tensor_->ndim - 1; k >= 0; --k) {
      if (tensor_->strides && tensor_->shape[k] != 1 && tensor_->strides[k] != dense && size() > 0)
        fail("is not dense and in the order of rows");
      dense *= tensor_->shape[k];
    }
  }

  int device() const { return tensor_->device.index; }
  int ndim() const { return tensor_->ndim; }
  std::size_t shape(int axis) const { return static_cast<std::size_t>(tensor_->shape[axis]); }
  /// Elements from one index of an axis to the next; 0 along one that is broadcast.
  std::ptrdiff_t step(int axis) const {
    if (shape(axis) == 1) return 0;
    if (tensor_->strides) return static_cast<std::ptrdiff_t>(tensor_->strides[axis]);
    std::ptrdiff_t product = 1;
    for (int k = axis + 1; k < ndim(); ++k) product *= static_cast<std::ptrdiff_t>(shape(k));
    return product;
  }
  std::size_t size() const {
    std::size_t product = 1;
    for (int k = 0; k < tensor_->ndim; ++k) product *= shape(k);
    return product;
  }

  /// The elements, if they are of type T.
  template <class T>
  T* data() const {
    if (!holds<T>()) fail("has another type than expected");
    return reinterpret_cast<T*>(static_cast<unsigned char*>(tensor_->data) + tensor_->byte_offset);
  }

  template <class T>
  bool holds() const {
    const auto expected = type_of(static_cast<T*>(nullptr));
    return tensor_->type.code == expected.code && tensor_->type.bits == expected.bits;
  }

  /// A check of the shape; -1 stands for any length.
  void expect(std::initializer_list<std::int64_t> sizes) const {
    bool fits = static_cast<int>(sizes.size()) == tensor_->ndim;
    int k = 0;
    for (const std::int64_t n : sizes) {
      fits = fits && (n == -1 || tensor_->shape[k] == n);
      ++k;
    }
    if (!fits) fail("has an unexpected shape");
  }

  [[noreturn]] void fail(const char* what) const {
    throw pybind11::value_error(std::string(name_) + " " + what);
  }

 private:
  static dlpack::DataType type_of(float*) { return {dlpack::floating, 32, 1}; }
  static dlpack::DataType type_of(double*) { return {dlpack::floating, 64, 1}; }
  static dlpack::DataType type_of(__half*) { return {dlpack::floating, 16, 1}; }
  static dlpack::DataType type_of(__nv_bfloat16*) { return {dlpack::bfloat, 16, 1}; }
  static dlpack::DataType type_of(std::uint8_t*) { return {dlpack::unsigned_integer, 8, 1}; }
  static dlpack::DataType type_of(std::int32_t*) { return {dlpack::integer, 32, 1}; }
  static dlpack::DataType type_of(std::int64_t*) { return {dlpack::integer, 64, 1}; }
  static dlpack::DataType type_of(std::uint64_t*) { return {dlpack::unsigned_integer, 64, 1}; }
  static dlpack::DataType type_of(bool*) { return {dlpack::boolean, 8, 1}; }

  const char* name_;
  pybind11::capsule capsule_;
  const dlpack::Tensor* tensor_;
};

/// Calls f(pointer) with a null pointer to the floating-point type that `array` holds.
template <class F>
void with_element(const DeviceArray& array, const F& f) {
  if (array.holds<float>()) return f(static_cast<float*>(nullptr));
  if (array.holds<double>()) return f(static_cast<double*>(nullptr));
  if (array.holds<__half>()) return f(static_cast<__half*>(nullptr));
  if (array.holds<__nv_bfloat16>()) return f(static_cast<__nv_bfloat16*>(nullptr));
  array.fail("does not hold float16, bfloat16, float32 or float64");
}

/// Throws what a call returned, after which CUDA forgets it: a launch would find it again.
inline void throw_if_failed(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

/// Calls f() on a device, whose streams and memory it uses, and comes back to the one before.
template <class F>
void on_device(int device, const F& f) {
  int before = 0;
  throw_if_failed(cudaGetDevice(&before));
  struct Return {
    int device;
    bool is_elsewhere;
    ~Return() {
      if (is_elsewhere) cudaSetDevice(device);
    }
  } const back = {before, device != before};
  if (back.is_elsewhere) throw_if_failed(cudaSetDevice(device));
  throw_if_failed(f());
}

inline cudaStream_t as_stream(std::uintptr_t stream) {
  return reinterpret_cast<cudaStream_t>(stream);
}

}  // namespace logitkit::cuda
