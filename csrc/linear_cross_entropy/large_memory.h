// Memory of many megabytes, on large pages where the system has them.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace logitkit {

/// `count` elements on a boundary of large pages; not initialised. Small pages would cost a fault
/// for each 4 KiB that is touched first, and more misses of the address cache than it has room
/// for: 4 % of the gradient of a layer.
template <class T>
class LargeMemory {
 public:
  explicit LargeMemory(std::size_t count) {
    const std::size_t bytes = (count * sizeof(T) + page - 1) / page * page;
    memory_.reset(static_cast<T*>(::operator new(bytes, std::align_val_t{page})));
#if defined(__linux__)
    // Advice: whether it is taken changes nothing but time.
    static_cast<void>(madvise(memory_.get(), bytes, MADV_HUGEPAGE));
#endif
  }
  T* data() const { return memory_.get(); }

 private:
  static constexpr std::size_t page = std::size_t{2} << 20;
  struct Delete {
    void operator()(T* memory) const { ::operator delete(memory, std::align_val_t{page}); }
  };
  std::unique_ptr<T, Delete> memory_;
};

}  // namespace logitkit
