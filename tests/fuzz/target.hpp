#pragma once
// What every fuzz target does with its input.
#include "slr/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

/// libFuzzer's entry; fuzz_driver.cpp calls it where there is no libFuzzer.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace slr::fuzz {

/// The action must succeed or throw an Error about the input. Another exception ends the process, and so does an Error
/// that calls the input a bug of this program. True if it succeeded.
template <class Action>
bool answers(Action&& action) {
  try {
    std::forward<Action>(action)();
    return true;
  } catch (const Error& error) {
    if (error.code() != ExitCode::bug) return false;
    std::fprintf(stderr, "fuzz: an input was answered with code 70: %s\n", error.what());
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "fuzz: an exception that is no slr::Error: %s\n", exception.what());
  }
  std::abort();
}

/// A condition that no input may break.
inline void expect(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: %s\n", sentence);
  std::abort();
}

/// A file in memory that has a path while it lives.
class MemoryFile {
public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("slr_fuzz", MFD_CLOEXEC)) {
    expect(descriptor_ >= 0, "memfd_create failed");
    while (!bytes.empty()) {
      const auto written = ::write(descriptor_, bytes.data(), bytes.size());
      expect(written > 0, "writing a file in memory failed");
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  /// The folder in which all such files are, and the name in it.
  [[nodiscard]] static std::filesystem::path folder() { return "/proc/self/fd"; }
  [[nodiscard]] std::string name() const { return std::to_string(descriptor_); }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] std::filesystem::path path() const { return folder() / name(); }

private:
  int descriptor_;
};

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

} // namespace slr::fuzz
