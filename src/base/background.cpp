#include "slr/base/background.hpp"

#include <ctime>
#include <utility>

namespace slr {

Background::Background(std::size_t most_waiting) : most_waiting_(most_waiting), thread_([this] { run(); }) {}

Background::~Background() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  thread_.join();
}

void Background::add(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_.size() < most_waiting_ || failure_; });
  if (failure_) return;
  waiting_.push_back(std::move(task));
  changed_.notify_all();
}

void Background::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_.empty() && !is_working_; });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Background::abandon() noexcept {
  std::unique_lock lock(mutex_);
  waiting_.clear();
  changed_.wait(lock, [this] { return !is_working_; });
  failure_ = nullptr;
}

double Background::seconds() const {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

void Background::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !waiting_.empty() || is_over_; });
    if (is_over_) return;
    auto task = std::move(waiting_.front());
    waiting_.pop_front();
    is_working_ = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      task();
    } catch (...) {
      failure = std::current_exception();
    }
    task = nullptr; // what it held goes before anybody is told that it is done
    lock.lock();
    is_working_ = false;
    seconds_ = thread_seconds();
    if (failure && !failure_) failure_ = failure;
    if (failure_) waiting_.clear();
    changed_.notify_all();
  }
}

double thread_seconds() {
  std::timespec now{};
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

} // namespace slr
