#pragma once
/// \file
/// Work beside the caller's: what waits for disks is done while the caller computes.
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace slr {

/// One thread that does what it is given, one thing after the other in that order. Libraries that may be used by one
/// thread at a time (HDF5) are the caller's again after `wait`. Local.
class Background {
public:
  /// So many things may wait at most. \pre most_waiting >= 1
  explicit Background(std::size_t most_waiting);
  /// What has not begun is not done any more.
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  /// Adds something to do; waits while too much is waiting. After a failure what is added is not done.
  void add(std::function<void()> task);
  /// Returns when nothing is left to do. \throws what the first task threw that failed since the last time
  void wait();
  /// Gives up what has not begun, and returns when nothing is being done; failures are forgotten.
  void abandon() noexcept;
  /// Processor time that the tasks have taken.
  [[nodiscard]] double seconds() const;

private:
  void run();

  std::size_t most_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  std::exception_ptr failure_;
  double seconds_ = 0;
  bool is_working_ = false, is_over_ = false;
  std::thread thread_; ///< last: it uses the others
};

/// Processor time that the calling thread has taken.
[[nodiscard]] double thread_seconds();

} // namespace slr
