#pragma once
/// \file
/// The state of a computation as one run of bytes, to be sent or kept.
#include "slr/mpi/checkpoints.hpp"

#include <map>

namespace slr {

/// Takes values that are the same on every rank of a group. Local.
class PackedState : public StateWriter {
public:
  void put(const std::string& name, Values values) override;
  /// \throws Error{bug}: parts of ranks are not one rank's to pack
  void put_part(const std::string& name, Values values) override;
  /// Everything so far, and its SHA-256.
  [[nodiscard]] std::string bytes() const;

private:
  std::string packed_;
};

/// Gives them back. Local.
class UnpackedState : public StateReader {
public:
  /// \throws Error{bad_data} if the bytes are not those of a PackedState
  explicit UnpackedState(const std::string& bytes);
  [[nodiscard]] bool has(const std::string& name) const override { return values_.contains(name); }

protected:
  void read(const std::string& name, Target values) override;
  void read_part(const std::string& name, Target values) override;

private:
  struct Entry {
    std::uint64_t type = 0;
    std::string bytes;
  };
  std::map<std::string, Entry> values_;
};

} // namespace slr
