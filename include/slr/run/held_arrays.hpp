#pragma once
/// \file
/// Activations that wait for the next layer: in memory as far as it goes, then in files.
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

/// Sets of named arrays, each put back as often as it is taken. Those that would exceed the memory lie in a file each,
/// which is gone with the object. Local.
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
  /// One more set, with the next number. \throws Error{io}
  void add(Arrays arrays);
  /// The set, which is empty until it is put back. \throws Error{io}
  [[nodiscard]] Arrays take(std::size_t number);
  /// \pre the set was taken \throws Error{io}
  void put(std::size_t number, Arrays arrays);
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
  static void write(const Held& held, const Arrays& arrays);

  ScratchPlace place_;
  std::int64_t in_memory_ = 0; ///< bytes
  std::vector<Held> held_;
};

} // namespace slr::run
