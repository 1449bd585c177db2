// The fibers of tests/cuda/emulation/cuda_runtime.h.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "cuda_runtime.h"

namespace emulation {

dim3 grid_size, block_size;
uint3 block_index, thread_index;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "emulation: %s\n", what);
  std::abort();
}

namespace {

enum class State { ready, in_block, in_warp, ended };

using Registers = void* [5];  // as the compiler's own setjmp takes them

struct Fiber {
  Registers registers;
  std::unique_ptr<unsigned char[]> stack;
  State state = State::ended;
  uint3 index;
};

struct Warp {
  // One is written for the next exchange while slow lanes read the last.
  LaneBytes bytes[2];
  std::size_t size_of_lane[warp_size];
  unsigned parity = 0;
};

constexpr std::size_t stack_bytes = 256 << 10;

std::mutex only_one_launch;
Registers scheduler;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
unsigned count, current;
std::unique_ptr<unsigned char[]> dynamic;
void (*kernel_body)(void*);
void* kernel_context;
std::mt19937 order;

unsigned warp_of(unsigned fiber) { return fiber / warp_size; }

// swapcontext asks the kernel for the signals at each call, and under the address sanitizer clears
// what it knows of the whole stack, which takes longer than all that threads compute. So fibers
// begin with a context, once, and then jump: by functions of the compiler, which no sanitizer takes
// for an end of the functions that are left. Their callers may not look into them for registers
// that keep their values.
#if defined(__clang__)
#define EMULATION_JUMPS __attribute__((noinline, no_sanitize_address))
#else
#define EMULATION_JUMPS __attribute__((noipa, no_sanitize_address))
#endif

EMULATION_JUMPS void resume(Registers to) { __builtin_longjmp(to, 1); }

EMULATION_JUMPS void jump(Registers from, Registers to) {
  if (__builtin_setjmp(from) == 0) resume(to);
}

EMULATION_JUMPS void begin(Registers from, ucontext_t* to) {
  if (__builtin_setjmp(from) == 0) setcontext(to);
}

void wait(State why) {
  fibers[current].state = why;
  jump(fibers[current].registers, scheduler);
}

// What a fiber does: one thread of a block after the other.
void run_threads() {
  for (;;) {
    wait(State::ended);
    kernel_body(kernel_context);
  }
}

void hire(Fiber& fiber) {
  fiber.stack.reset(new unsigned char[stack_bytes]);
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, run_threads, 0);
  begin(scheduler, &context);
}

// Wakes the warps that wait as a whole, then the block if it does.
void wake() {
  bool waiting = false, whole = true;
  for (unsigned w = 0; w < warps.size(); ++w) {
    bool all = true, some = false, left = false;
    const unsigned end = std::min(count, (w + 1) * warp_size);
    for (unsigned i = w * warp_size; i < end; ++i) {
      some |= fibers[i].state == State::in_warp;
      left |= fibers[i].state == State::ended;
      all &= fibers[i].state == State::in_warp || fibers[i].state == State::ended;
      waiting |= fibers[i].state == State::in_block;
      whole &= fibers[i].state == State::in_block || fibers[i].state == State::ended;
    }
    if (!all) continue;
    // Which is undefined, as masks have all lanes.
    require(!(some && left), "a warp that waits for threads that have ended");
    for (unsigned i = 1; some && i < end - w * warp_size; ++i)
      require(warps[w].size_of_lane[i] == warps[w].size_of_lane[0],
              "a warp whose threads wait at different instructions");
    unsigned& lanes = warps[w].bytes[warps[w].parity].lanes;
    warps[w].parity ^= 1;
    lanes = 0;
    for (unsigned i = w * warp_size; i < end; ++i) {
      if (fibers[i].state != State::in_warp) continue;
      lanes |= 1u << i % warp_size;
      fibers[i].state = State::ready;
    }
  }
  if (!waiting || !whole) return;
  for (unsigned i = 0; i < count; ++i)
    if (fibers[i].state == State::in_block) fibers[i].state = State::ready;
}

void run_block() {
  for (unsigned i = 0; i < count; ++i) {
    fibers[i].state = State::ready;
    fibers[i].index = {i % block_size.x, i / block_size.x % block_size.y,
                       i / (block_size.x * block_size.y)};
  }
  std::vector<unsigned> ready;
  for (;;) {
    ready.clear();
    bool alive = false;
    for (unsigned i = 0; i < count; ++i) {
      alive |= fibers[i].state != State::ended;
      if (fibers[i].state == State::ready) ready.push_back(i);
    }
    if (!alive) return;
    require(!ready.empty(), "threads that wait for each other at different barriers");
    std::shuffle(ready.begin(), ready.end(), order);
    for (const unsigned i : ready) {
      current = i;
      thread_index = fibers[i].index;
      jump(scheduler, fibers[i].registers);
    }
    wake();
  }
}

}  // namespace

void wait_for_block() { wait(State::in_block); }

const LaneBytes& exchange(const void* given, std::size_t size) {
  Warp& warp = warps[warp_of(current)];
  LaneBytes& bytes = warp.bytes[warp.parity];
  require(size <= sizeof bytes.of_lane[0], "more bytes than a lane can give");
  warp.size_of_lane[lane()] = size;
  if (size > 0) std::memcpy(bytes.of_lane[lane()], given, size);
  wait(State::in_warp);
  return bytes;
}

unsigned lane() { return current % warp_size; }

void* shared_bytes() { return dynamic.get(); }

void run(dim3 grid, dim3 block, std::size_t shared, void (*body)(void*), void* context) {
  const std::lock_guard<std::mutex> lock(only_one_launch);
  const char* seed = std::getenv("LOGITKIT_EMULATION_SEED");
  order.seed(seed ? static_cast<unsigned>(std::atoi(seed)) : 0);
  grid_size = grid;
  block_size = block;
  kernel_body = body;
  kernel_context = context;
  count = block.x * block.y * block.z;
  for (current = static_cast<unsigned>(fibers.size()); current < count; ++current) {
    fibers.emplace_back();
    hire(fibers.back());
  }
  warps.resize((count + warp_size - 1) / warp_size);
  // Of exactly this size, so that the address sanitizer sees its end.
  dynamic.reset(new unsigned char[shared + (shared == 0)]);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = {x, y, z};
        std::memset(dynamic.get(), 0xff, shared);  // NaN in every type
        run_block();
      }
}

}  // namespace emulation
