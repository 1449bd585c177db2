#include "threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "processors.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace logitkit {
namespace {

// Between two calls a worker, and at the end of a call the caller, looks this often (some 150
// microseconds, what Python takes between the calls of a loop) before it goes to sleep: to be woken
// takes half as long, and on virtual machines longer than a short call.
constexpr int looks = 400;

constexpr std::size_t most_workers = 1023;

// Whether this thread is running a task.
thread_local bool inside_task = false;

// One call of parallel_for.
class Job {
 public:
  Job(std::size_t count, const std::function<void(std::size_t)>& task)
      : count_(count), task_(task) {}

  // Runs tasks until none is left; called by every thread that takes part.
  void drain() {
    const bool nested = inside_task;
    inside_task = true;
    try {
      for (std::size_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(i);
    } catch (...) {
      next_ = count_;  // the others finish the task they are in, and stop
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    inside_task = nested;
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::size_t count_;
  const std::function<void(std::size_t)>& task_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Workers are hired at first need, wait for ever and are never joined: the pool
// is never destroyed, so nothing can hang when the interpreter exits.
class Pool {
 public:
  // Drains the job with up to `helpers` workers beside the calling thread; without
  // any if the pool is busy.
  void run(Job& job, std::size_t helpers) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn) return job.drain();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      hire(helpers);
      job_ = &job;
      seats_ = std::min(helpers, workers_);
    }
    wake_.notify_all();
    job.drain();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      seats_ = 0;  // a worker that is still asleep need not come
    }
    for (int i = 0; i < looks && active_ != 0; ++i) std::this_thread::yield();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  void hire(std::size_t wanted) {
    try {
      for (; workers_ < std::min(wanted, most_workers); ++workers_)
        std::thread(&Pool::work, this).detach();
    } catch (const std::system_error&) {
      // The system gives no more threads: those at hand do the work.
    }
  }

  [[noreturn]] void work() {
    for (;;) {
      for (int i = 0; i < looks && seats_ == 0; ++i) std::this_thread::yield();
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return seats_ != 0; });
      --seats_;
      ++active_;
      Job& job = *job_;
      lock.unlock();
      job.drain();
      lock.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_;   // held for the length of a job
  std::mutex mutex_;  // guards what follows; the atomics are also read without it
  std::condition_variable wake_, done_;
  std::size_t workers_ = 0;
  Job* job_ = nullptr;
  std::atomic<std::size_t> seats_{0};   // how many workers may still join the job
  std::atomic<std::size_t> active_{0};  // how many are in it
};

std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  Pool* current = the_pool;
  if (current != nullptr) return *current;
  Pool* made = new Pool;
  if (the_pool.compare_exchange_strong(current, made)) return *made;
  delete made;  // another thread was first
  return *current;
}

#if !defined(_WIN32)
// A forked child has the memory of the pool but none of its threads, and its locks
// may be held by threads that are gone: the child abandons it and makes its own.
// Registered when the library is loaded, when no other thread can be inside.
[[maybe_unused]] const int at_fork =
    pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
#endif

}  // namespace

void parallel_for(std::size_t count, std::size_t threads,
                  const std::function<void(std::size_t)>& task) {
  Job job(count, task);
  if (threads == 0 && count > 1) threads = default_threads();
  threads = std::min(threads, count);
  if (threads > 1 && !inside_task)
    pool().run(job, threads - 1);
  else
    job.drain();
  job.rethrow();
}

std::size_t default_threads() {
  const std::size_t usable = usable_processors();
  const char* text = std::getenv("LOGITKIT_NUM_THREADS");
  if (text == nullptr || *text == '\0') return usable;
  const std::string digits = text;
  const bool valid = digits.find_first_not_of("0123456789") == std::string::npos &&
                     digits.find_first_not_of('0') != std::string::npos;
  if (!valid)
    throw std::invalid_argument("LOGITKIT_NUM_THREADS must be a positive integer, not '" + digits +
                                "'");
  // Ten digits and more are beyond any machine, and beyond std::stoul on some.
  return digits.size() > 9 ? usable : std::min<std::size_t>(usable, std::stoul(digits));
}

std::size_t pieces_in_task(std::size_t count, std::size_t most, std::size_t threads) {
  if (threads == 0) threads = default_threads();
  const std::size_t rounds = (count + most * threads - 1) / (most * threads);
  const std::size_t tasks = std::max<std::size_t>(rounds * threads, 1);
  return std::max<std::size_t>((count + tasks - 1) / tasks, 1);
}

}  // namespace logitkit
