#pragma once
// A temporary folder that all ranks of a test see.
#include "slr/mpi/communicator.hpp"

#include "store_test.hpp"

#include <optional>

namespace slr::test {

/// Made and removed by the root. Collective.
class SharedFolder {
public:
  explicit SharedFolder(const Communicator& comm) : comm_(comm) {
    if (comm.is_root()) folder_.emplace();
    path_ = comm.broadcast_text(comm.is_root() ? folder_->path().string() : "");
  }
  ~SharedFolder() { comm_.barrier(); }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
  const Communicator& comm_;
  std::optional<TemporaryFolder> folder_;
  std::filesystem::path path_;
};

} // namespace slr::test
