#pragma once
/// \file
/// checkpoint.h5: the state of an unfinished job, one HDF5 file that its root writes.
#include "slr/mpi/checkpoints.hpp"
#include "slr/store/hdf5.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace slr::store {

/// Whose state it is. A checkpoint serves only a job of the same program version, configuration and model.
struct CheckpointHeader {
  static constexpr std::int64_t current_schema = 1;
  std::int64_t schema = current_schema;
  std::string program;       ///< version
  std::string configuration; ///< resolved, as JSON text
  std::string model_sha256;
  std::int64_t mpi_ranks = 1;
};

/// Where a checkpoint and the one before it lie.
struct CheckpointPaths {
  std::filesystem::path current, previous;
};

/// Writes a checkpoint: parts in groups `/state/<part>`, a dataset per array, chunked and checksummed. Lists that go
/// through all ranks are gathered on the root one after the other. The first failure (a full disk) is remembered and
/// agreed on by `commit`; nothing is left behind then and the checkpoint there stays as it was.
class CheckpointWriter : public StateWriter {
public:
  /// Collective.
  CheckpointWriter(const Communicator& comm, CheckpointPaths paths, const CheckpointHeader& header);
  /// What is put from now on belongs to this part. Local, the same on every rank.
  void begin_part(const std::string& name);
  void put(const std::string& name, Values values) override;
  void put_part(const std::string& name, Values values) override;
  /// Flushes the file to the disk and makes it the current one, the current one the previous. Collective.
  /// \throws Error{io}, the same on every rank
  void commit();

private:
  /// On the root, and only until something failed.
  template <class Action>
  void attempt(Action&& action);
  const Communicator& comm_;
  CheckpointPaths paths_;
  std::filesystem::path fresh_;
  std::optional<Hdf5File> file_; ///< on the root
  std::optional<Error> failure_;
  std::vector<std::string> parts_;
};

/// A checkpoint opened for reading by all ranks.
class CheckpointFile {
public:
  /// Collective. The root has read every byte before it returns: damage is found here. \throws Error{bad_data},
  /// Error{io}, the same on every rank
  CheckpointFile(const Communicator& comm, const std::filesystem::path& file);
  [[nodiscard]] const CheckpointHeader& header() const { return header_; }
  [[nodiscard]] const std::vector<std::string>& parts() const { return parts_; }
  /// \pre one of parts(); the file outlives the reader
  [[nodiscard]] std::unique_ptr<StateReader> part(const std::string& name) const;

private:
  const Communicator& comm_;
  Hdf5File file_;
  CheckpointHeader header_;
  std::vector<std::string> parts_;
};

/// Header and names of the parts, everything read and checked. Local. \throws Error{bad_data}, Error{io}
struct CheckpointSummary {
  CheckpointHeader header;
  std::vector<std::string> parts;
  std::int64_t bytes = 0; ///< of all arrays
};
[[nodiscard]] CheckpointSummary verify_checkpoint(const std::filesystem::path& file);

} // namespace slr::store
