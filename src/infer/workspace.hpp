#pragma once
/// \file
/// What every run needs around its plan.
#include "slr/base/error.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <omp.h>
#include <string>

namespace slr::infer {

/// The number of OpenMP threads while it lives: oneDNN asks for it when it prepares and when it runs.
class ThreadCount {
public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadCount() { omp_set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

private:
  int before_;
};

/// Working memory that grows and never shrinks.
class Workspace {
public:
  std::byte* at_least(std::size_t bytes) {
    if (bytes <= bytes_) return memory_.get();
    memory_.reset();
    bytes_ = 0;
    auto* fresh = static_cast<std::byte*>(::operator new(bytes, alignment, std::nothrow));
    if (fresh == nullptr)
      throw Error(ExitCode::bad_data, "the activations of one block of images need " + std::to_string(bytes) +
                                          " bytes, more than there is memory");
    memory_.reset(fresh);
    bytes_ = bytes;
    return fresh;
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
  static constexpr std::align_val_t alignment{4096};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, alignment); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_ = 0;
};

} // namespace slr::infer
