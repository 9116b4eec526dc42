#include "slr/store/lock.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

std::string owner_of(int descriptor) {
  std::array<char, 256> text{};
  const auto length = ::pread(descriptor, text.data(), text.size() - 1, 0);
  std::string words(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  words.erase(words.find_last_not_of('\n') + 1);
  return words.empty() ? "another job" : words;
}

void leave_name(int descriptor) {
  std::array<char, 128> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string text = "process " + std::to_string(::getpid()) + " on " + host.data() + "\n";
  // Only words for whoever waits: a full disk must not refuse the lock.
  if (::ftruncate(descriptor, 0) == 0) [[maybe_unused]]
    const auto written = ::pwrite(descriptor, text.data(), text.size(), 0);
}

bool is_not_supported(int error) {
  return error == ENOLCK || error == ENOTSUP || error == ENOSYS || error == EINVAL;
}

} // namespace

OutputLock::OutputLock(const fs::path& folder, double wait_seconds) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ExitCode::io, "cannot create the folder " + folder.string() + ": " + error.message());
  const auto file = folder / ".lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor_ < 0) throw Error(ExitCode::io, "cannot create " + file.string() + ": " + std::strerror(errno));

  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(wait_seconds);
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    if (reason == EINTR) continue;
    if (is_not_supported(reason)) return;
    if (reason == EWOULDBLOCK && Clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      continue;
    }
    const std::string owner = owner_of(descriptor_);
    release();
    if (reason == EWOULDBLOCK)
      throw Error(ExitCode::configuration, "the output folder " + folder.string() + " is in use by " + owner +
                                               ": wait for it to end or choose another output folder");
    throw Error(ExitCode::io, "cannot lock " + file.string() + ": " + std::strerror(reason));
  }
  is_held_ = true;
  leave_name(descriptor_);
}

OutputLock::~OutputLock() {
  release();
}

OutputLock::OutputLock(OutputLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), is_held_(std::exchange(other.is_held_, false)) {}

OutputLock& OutputLock::operator=(OutputLock&& other) noexcept {
  if (this != &other) {
    release();
    descriptor_ = std::exchange(other.descriptor_, -1);
    is_held_ = std::exchange(other.is_held_, false);
  }
  return *this;
}

void OutputLock::release() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_); // closing the only descriptor of the open file drops the lock
  descriptor_ = -1;
  is_held_ = false;
}

} // namespace slr::store
