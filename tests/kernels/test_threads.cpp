// csrc/threads and csrc/processors
#include "threads.h"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "expect.h"
#include "processors.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace logitkit::test {
namespace {

// Whether parallel_for runs every task exactly once.
bool runs_each_once(std::size_t count, std::size_t threads) {
  std::vector<int> calls(count, 0);
  parallel_for(count, threads, [&](std::size_t i) { ++calls[i]; });
  for (const int n : calls)
    if (n != 1) return false;
  return true;
}

void test_counts() {
  for (const std::size_t count : {0, 1, 2, 3, 100, 10000})
    for (const std::size_t threads : {0, 1, 2, 3, 8})
      expect(runs_each_once(count, threads), "each task runs once");
}

// Thousands of short calls: workers must neither miss a job nor join a finished one.
void test_many_short_calls() {
  bool all = true;
  for (int i = 0; i < 3000; ++i) all = runs_each_once(7, 4) && all;
  expect(all, "each task runs once in each of many calls");
}

void test_callers_at_once() {
  std::atomic<int> failures{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int i = 0; i < 300; ++i) failures += runs_each_once(50, 3) ? 0 : 1;
    });
  for (std::thread& caller : callers) caller.join();
  expect(failures == 0, "callers do not disturb each other");
}

void test_nested_call() {
  std::atomic<int> calls{0};
  std::atomic<bool> moved{false};
  parallel_for(8, 4, [&](std::size_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(5, 4, [&](std::size_t) {
      ++calls;
      if (std::this_thread::get_id() != outer) moved = true;
    });
  });
  expect(calls == 40, "nested calls run all tasks");
  expect(!moved, "a nested call stays on its thread");
}

void test_exception() {
  for (const std::size_t threads : {1, 4}) {
    bool caught = false;
    try {
      parallel_for(100, threads, [](std::size_t i) {
        if (i == 13) throw std::runtime_error("thirteen");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    expect(caught, "an exception reaches the caller");
    expect(runs_each_once(100, threads), "and the pool works after it");
  }
}

void test_default() {
  expect(usable_processors() >= 1, "at least one processor");
  expect(default_threads() >= 1 && default_threads() <= usable_processors(), "default in range");
}

#if !defined(_WIN32)
// The parent's pool is at work before the fork, and the child needs one of its own.
void test_fork() {
  expect(runs_each_once(100, 4), "before the fork");
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a hang is a failure, not a hang of the test
    _exit(runs_each_once(1000, 4) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child computes");
  expect(runs_each_once(100, 4), "after the fork");
}
#endif

}  // namespace

void test_threads() {
  test_counts();
  test_many_short_calls();
  test_callers_at_once();
  test_nested_call();
  test_exception();
  test_default();
#if !defined(_WIN32)
  test_fork();
#endif
}

}  // namespace logitkit::test
