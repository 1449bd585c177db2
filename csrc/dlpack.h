// The structures in which libraries hand over arrays: DLPack, whose layout in memory is a standard
// (dmlc.github.io/dlpack/latest/c_api.html). What we do not use has no type here.
#pragma once

#include <cstdint>

namespace logitkit::dlpack {

enum DeviceType : std::int32_t { cpu = 1, cuda = 2 };
enum TypeCode : std::uint8_t {
  integer = 0,
  unsigned_integer = 1,
  floating = 2,
  bfloat = 4,
  boolean = 6
};

struct Device {
  DeviceType type;
  std::int32_t index;
};

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: in the order of rows
  std::uint64_t byte_offset;
};

/// What a capsule named "dltensor" holds, of version 0: array.__dlpack__().
struct CapsuleTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(CapsuleTensor*);
};

struct Version {
  std::uint32_t major, minor;
};

struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

/// How others read the arrays of a library from C, since version 1.3: a table of functions in the
/// capsule `__dlpack_c_exchange_api__` of the type of its arrays.
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
