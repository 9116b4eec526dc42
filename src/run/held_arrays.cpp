#include "slr/run/held_arrays.hpp"

#include "slr/base/error.hpp"
#include "slr/run/output_folder.hpp"

#include <algorithm>
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

/// Whether the last failure says that the disk, the user's part of it or the largest file is full.
bool is_full() {
  return errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
}

} // namespace

std::int64_t memory_of_this_node() {
  return static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
}

std::int64_t memory_of_node(const Configuration& config, std::int64_t node_bytes) {
  return config.calibration.memory_bytes.value_or(node_bytes / 2);
}

std::int64_t room_for_files(const fs::path& folder) {
  constexpr std::int64_t reserve = std::int64_t(512) << 20;
  std::error_code error;
  auto existing = folder;
  while (!existing.empty() && !fs::exists(existing, error) && existing != existing.parent_path())
    existing = existing.parent_path();
  const auto space = fs::space(existing.empty() ? "." : existing, error);
  if (error) return 0;
  const auto available = std::min<std::uintmax_t>(space.available, std::uintmax_t(1) << 60);
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(available) - reserve);
}

ScratchPlace scratch_place(const Communicator& world, const Configuration& config) {
  return {memory_of_node(config, memory_of_this_node()) / world.split_by_node().size(), config.output.absolute};
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
  (void)put(held_.size() - 1, arrays);
}

HeldArrays::Arrays HeldArrays::take(std::size_t number) {
  auto& held = held_.at(number);
  if (!held.file.empty()) return read(held); // the file stays until something else is put
  in_memory_ -= held.bytes;
  held.bytes = 0;
  return std::exchange(held.arrays, {});
}

bool HeldArrays::put(std::size_t number, Arrays& arrays) {
  auto& held = held_.at(number);
  require(held.arrays.empty() || !held.file.empty(), "activations were put where others are");
  Held fresh;
  fresh.bytes = bytes_of(arrays);
  const bool fits = in_memory_ + fresh.bytes <= place_.memory_bytes;
  if (!fits) {
    fresh.file = next_file(place_.folder);
    if (fresh.bytes > room_for_files(place_.folder) || !write(fresh.file, arrays)) return false;
    for (auto& [name, array] : arrays) fresh.arrays[name].dims = std::move(array.dims);
  } else {
    in_memory_ += fresh.bytes;
    fresh.arrays = std::move(arrays);
  }
  arrays.clear();
  std::error_code ignored;
  if (!held.file.empty()) fs::remove(held.file, ignored);
  held = std::move(fresh);
  return true;
}

void HeldArrays::put_back(std::size_t number, Arrays arrays) {
  auto& held = held_.at(number);
  if (!held.file.empty()) return;
  held.bytes = bytes_of(arrays);
  in_memory_ += held.bytes; // where it was
  held.arrays = std::move(arrays);
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

/// False, and no file, if there is no room for it.
bool HeldArrays::write(const fs::path& file, const Arrays& arrays) {
  errno = 0;
  std::ofstream out(file, std::ios::binary);
  for (const auto& [name, array] : arrays)
    out.write(reinterpret_cast<const char*>(array.data.data()),
              static_cast<std::streamsize>(array.data.size() * sizeof(float)));
  if (out.flush()) return true;
  if (!is_full()) fail("write", file);
  std::error_code ignored;
  fs::remove(file, ignored);
  return false;
}

} // namespace slr::run
