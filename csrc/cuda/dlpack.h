// The structures in which libraries hand over arrays: DLPack, version 0 (dmlc.github.io/dlpack),
// whose layout in memory is a standard.
#pragma once

#include <cstdint>

namespace logitkit::dlpack {

enum DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_managed = 13 };
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
  std::int64_t* strides;  // in elements; null: dense, the last axis innermost
  std::uint64_t byte_offset;
};

/// What a capsule named "dltensor" holds first.
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

}  // namespace logitkit::dlpack
