#include "slr/run/held_arrays.hpp"

#include "slr/base/error.hpp"
#include "slr/run/output_folder.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <unistd.h>

namespace slr::run {
namespace {

namespace fs = std::filesystem;

std::int64_t bytes_of(const HeldArrays::Arrays& arrays) {
  std::int64_t bytes = 0;
  for (const auto& [name, array] : arrays) bytes += std::ssize(array.data) * static_cast<std::int64_t>(sizeof(float));
  return bytes;
}

/// A name that no other rank, on whatever node, and nothing else in this process has.
fs::path next_file(const fs::path& folder) {
  static std::atomic<std::int64_t> count = 0;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return folder / (OutputFiles::scratch_prefix + (std::string(host) + "-") + std::to_string(::getpid()) + "-" +
                   std::to_string(count++));
}

[[noreturn]] void fail(const char* what, const fs::path& file) {
  throw Error(ExitCode::io, std::string("cannot ") + what + " activations " + (*what == 'w' ? "to " : "from ") +
                                file.string() + ": " + std::strerror(errno) +
                                "; make room there, or raise calibration.memory");
}

} // namespace

ScratchPlace scratch_place(const Communicator& world, const Configuration& config) {
  const auto ranks = world.split_by_node().size();
  const auto whole = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  return {config.calibration.memory_bytes.value_or(whole / 2) / ranks, config.output.absolute};
}

HeldArrays::~HeldArrays() {
  std::error_code ignored;
  for (const auto& held : held_)
    if (!held.file.empty()) fs::remove(held.file, ignored);
}

HeldArrays::HeldArrays(HeldArrays&& other) noexcept
    : place_(std::move(other.place_)), in_memory_(other.in_memory_), held_(std::move(other.held_)) {
  other.held_.clear();
}

void HeldArrays::add(Arrays arrays) {
  held_.emplace_back();
  put(held_.size() - 1, std::move(arrays));
}

HeldArrays::Arrays HeldArrays::take(std::size_t number) {
  auto& held = held_.at(number);
  if (held.file.empty()) {
    in_memory_ -= held.bytes;
    held.bytes = 0;
    return std::exchange(held.arrays, {});
  }
  auto arrays = read(held);
  std::error_code ignored;
  fs::remove(held.file, ignored);
  held = {};
  return arrays;
}

void HeldArrays::put(std::size_t number, Arrays arrays) {
  auto& held = held_.at(number);
  require(held.arrays.empty() && held.file.empty(), "activations were put where others are");
  held.bytes = bytes_of(arrays);
  if (in_memory_ + held.bytes <= place_.memory_bytes) {
    in_memory_ += held.bytes;
    held.arrays = std::move(arrays);
    return;
  }
  held.file = next_file(place_.folder);
  write(held, arrays);
  for (auto& [name, array] : arrays) held.arrays[name].dims = std::move(array.dims);
}

std::int64_t HeldArrays::bytes_in_files() const {
  std::int64_t bytes = 0;
  for (const auto& held : held_)
    if (!held.file.empty()) bytes += held.bytes;
  return bytes;
}

HeldArrays::Arrays HeldArrays::read(const Held& held) {
  auto arrays = held.arrays;
  std::ifstream in(held.file, std::ios::binary);
  for (auto& [name, array] : arrays) {
    array.data.resize(static_cast<std::size_t>(graph::element_count(array.dims)));
    const auto bytes = static_cast<std::streamsize>(array.data.size() * sizeof(float));
    if (!in.read(reinterpret_cast<char*>(array.data.data()), bytes)) fail("read", held.file);
  }
  return arrays;
}

void HeldArrays::write(const Held& held, const Arrays& arrays) {
  std::ofstream out(held.file, std::ios::binary);
  for (const auto& [name, array] : arrays)
    out.write(reinterpret_cast<const char*>(array.data.data()),
              static_cast<std::streamsize>(array.data.size() * sizeof(float)));
  if (!out.flush()) fail("write", held.file);
}

} // namespace slr::run
