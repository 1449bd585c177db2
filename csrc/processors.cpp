#include "processors.h"

#include <algorithm>
#include <thread>

#if defined(__linux__)
#include <sched.h>

#include <atomic>
#include <fstream>
#include <string>
#endif

namespace logitkit {
namespace {

std::size_t of_machine() { return std::max(1u, std::thread::hardware_concurrency()); }

#if defined(__linux__)
// of_machine() does not see taskset or a job scheduler.
std::size_t of_affinity() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return of_machine();  // over 1024 processors
  return static_cast<std::size_t>(CPU_COUNT(&set));
}

// The quota in one control group: cpu.max holds "max 100000" or "QUOTA PERIOD" in
// microseconds (Linux, Documentation/admin-guide/cgroup-v2.rst). 0 means no limit.
std::size_t quota_in(const std::string& group) {
  std::ifstream file("/sys/fs/cgroup" + group + "/cpu.max");
  double quota, period;
  if (!(file >> quota >> period) || quota <= 0.0 || period <= 0.0) return 0;
  return static_cast<std::size_t>((quota + period - 1.0) / period);
}

// The tightest quota among the group of this process and its ancestors.
std::size_t read_quota() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line) && line.rfind("0::", 0) != 0) continue;
  std::string group = line.size() > 4 ? line.substr(3) : "";  // "0::/" is the root
  std::size_t tightest = 0;
  for (;;) {
    const std::size_t quota = quota_in(group);
    if (quota != 0 && (tightest == 0 || quota < tightest)) tightest = quota;
    if (group.empty()) break;
    group.resize(group.rfind('/'));
  }
  return tightest == 0 ? of_machine() : tightest;
}

// Not a function-local static: a fork during its initialisation would leave the
// child with a lock that nobody opens. Two threads may both read, to the same end.
std::size_t of_quota() {
  static std::atomic<std::size_t> known{0};
  if (known == 0) known = read_quota();
  return known;
}
#endif

}  // namespace

std::size_t usable_processors() {
#if defined(__linux__)
  return std::max<std::size_t>(1, std::min(of_affinity(), of_quota()));
#else
  return of_machine();
#endif
}

}  // namespace logitkit
