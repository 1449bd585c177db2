// Memory that tasks use one after another, so that it is allocated once for each thread.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace logitkit {

/// As many workspaces as there were ever tasks at the same time.
template <class Workspace>
class Workspaces {
 public:
  /// Calls task(workspace) with one that no other task has; make() returns a new one.
  template <class Make, class Task>
  void lend(const Make& make, const Task& task) {
    std::unique_ptr<Workspace> workspace = take();
    if (workspace == nullptr) workspace = std::make_unique<Workspace>(make());
    task(*workspace);
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(workspace));
  }

  /// All of them, once no task is running.
  const std::vector<std::unique_ptr<Workspace>>& all() const { return idle_; }

 private:
  std::unique_ptr<Workspace> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.empty()) return nullptr;
    std::unique_ptr<Workspace> last = std::move(idle_.back());
    idle_.pop_back();
    return last;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace logitkit
