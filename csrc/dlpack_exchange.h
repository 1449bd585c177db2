// How libraries of arrays let others read their arrays from C: the binary interface of DLPack 1.3,
// a table of functions in the capsule `__dlpack_c_exchange_api__` of an array's type. Source:
// dmlc.github.io/dlpack/latest/c_api.html. What we do not use has no type here.
#pragma once

#include <cstdint>

namespace logitkit::dlpack {

enum : std::int32_t { on_cpu = 1 };
enum : std::uint8_t { floating_point = 2 };

struct Version {
  std::uint32_t major, minor;
};

struct Device {
  std::int32_t type, id;
};

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // null: in the order of C
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

struct ExchangeApi {
  Version version;
  ExchangeApi* older;
  void* allocate;
  int (*own)(void* object, ManagedTensor** out);
  int (*wrap)(ManagedTensor* tensor, void** object);  // takes over the tensor
  int (*look)(void* object, Tensor* out);             // may be null
  void* stream;
};

}  // namespace logitkit::dlpack
