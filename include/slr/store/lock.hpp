#pragma once
/// \file
/// One job at a time in an output folder.
#include <filesystem>

namespace slr::store {

/// An exclusive lock on a folder (flock on its file `.lock`, which holds the owner's process and host). The kernel
/// drops it when the process dies, however it dies; the file stays. Local: taken by one rank for its job. Movable.
class OutputLock {
public:
  /// Waits up to `wait_seconds` for the lock. The folder is created if it is missing.
  /// \throws Error{configuration} naming the folder and the owner if it is still taken, Error{io} if the folder or the
  /// file cannot be created.
  explicit OutputLock(const std::filesystem::path& folder, double wait_seconds = 10);
  ~OutputLock();
  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&& other) noexcept;
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

  /// False where the file system has no locks (some parallel ones are mounted so): nothing keeps a second job out then,
  /// which deserves a word to the user.
  [[nodiscard]] bool is_held() const { return is_held_; }

private:
  void release() noexcept;
  int descriptor_ = -1;
  bool is_held_ = false;
};

} // namespace slr::store
