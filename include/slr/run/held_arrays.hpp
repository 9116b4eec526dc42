#pragma once
/// \file
/// Activations that wait for the next layer: in memory as far as it goes, then in files as far as the disk goes.
#include "slr/infer/array.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/run/configuration.hpp"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace slr::run {

/// How much a rank holds in memory, and where the rest goes.
struct ScratchPlace {
  std::int64_t memory_bytes = 0;
  std::filesystem::path folder;
};
/// This rank's share of `calibration.memory`, or of half of its node's memory; the folder is the output folder.
/// Collective over all ranks of the job.
[[nodiscard]] ScratchPlace scratch_place(const Communicator& world, const Configuration& config);
/// What all ranks of a node may hold together, of so many bytes of memory.
[[nodiscard]] std::int64_t memory_of_node(const Configuration& config, std::int64_t node_bytes);
/// Bytes that files may take in the file system of a folder (or of the nearest that exists above it): what is free but
/// for a reserve for results and checkpoints. Local.
[[nodiscard]] std::int64_t room_for_files(const std::filesystem::path& folder);
/// Memory of this machine. Local.
[[nodiscard]] std::int64_t memory_of_this_node();

/// Sets of named arrays, each taken and put as often as one likes. Those that would exceed the memory lie in a file
/// each, which is gone with the object; for those that would exceed the disk there is no room. Local.
class HeldArrays {
public:
  using Arrays = std::map<std::string, infer::Array>;

  explicit HeldArrays(ScratchPlace place) : place_(std::move(place)) {}
  ~HeldArrays();
  HeldArrays(HeldArrays&& other) noexcept;
  HeldArrays& operator=(HeldArrays&&) = delete;
  HeldArrays(const HeldArrays&) = delete;
  HeldArrays& operator=(const HeldArrays&) = delete;

  [[nodiscard]] std::size_t size() const { return held_.size(); }
  [[nodiscard]] bool is_empty(std::size_t number) const { return held_.at(number).arrays.empty(); }
  /// One more set, with the next number; it is empty if there is no room. \throws Error{io}
  void add(Arrays arrays);
  /// The set, to be put in either way before it is looked at or taken again. \throws Error{io}
  [[nodiscard]] Arrays take(std::size_t number);
  /// Another one in its place, if there is room: otherwise `arrays` stays as it is. \pre the set was taken
  /// \throws Error{io}
  [[nodiscard]] bool put(std::size_t number, Arrays& arrays);
  /// What was taken. \pre the set was taken
  void put_back(std::size_t number, Arrays arrays);
  /// The set where it is in memory, else read for the moment: action(arrays). \throws Error{io}
  template <class Action>
  auto look_at(std::size_t number, Action&& action) const {
    const auto& held = held_.at(number);
    return held.file.empty() ? action(held.arrays) : action(read(held));
  }
  /// Bytes that lie in files now.
  [[nodiscard]] std::int64_t bytes_in_files() const;

private:
  struct Held {
    Arrays arrays; ///< without numbers if they are in the file
    std::filesystem::path file;
    std::int64_t bytes = 0;
  };
  [[nodiscard]] static Arrays read(const Held& held);
  [[nodiscard]] static bool write(const std::filesystem::path& file, const Arrays& arrays);

  ScratchPlace place_;
  std::int64_t in_memory_ = 0; ///< bytes
  std::vector<Held> held_;
};

} // namespace slr::run
