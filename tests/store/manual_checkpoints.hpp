#pragma once
// Checkpoints in a file, made when a test says so.
#include "slr/base/hash.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/store/checkpoint_file.hpp"

#include "shared_folder.hpp"

#include <optional>

namespace slr::test {

inline store::CheckpointPaths paths_in(const SharedFolder& folder) {
  return {folder / "checkpoint.h5", folder / "checkpoint.previous.h5"};
}

inline store::CheckpointHeader some_header() {
  return {store::CheckpointHeader::current_schema, "1.0", R"({"model": "m.onnx"})", sha256("model"), 3};
}

class ManualCheckpoints : public Checkpoints {
public:
  ManualCheckpoints(const Communicator& comm, const SharedFolder& folder)
      : Checkpoints(comm), paths_(paths_in(folder)) {
    bool is_there = false;
    on_root(comm, [&] { is_there = std::filesystem::exists(paths_.current); });
    if (!comm.broadcast_value(is_there)) return;
    file_.emplace(comm, paths_.current);
    offer(file_->parts());
  }
  Wish next = Wish::go_on;
  int stop_at = -1; ///< the poll at which it stops, counted from 0
  int writes = 0, failures = 0;
  bool is_disk_full = false;

protected:
  [[nodiscard]] Wish wish() const override {
    if (polls_++ == stop_at) return Wish::stop_by_signal;
    return comm().is_root() ? next : Wish::go_on;
  }
  [[nodiscard]] std::string stop_sentence(Wish) const override { return "stopped"; }
  void write(const std::map<std::string, Save>& parts) override {
    if (is_disk_full) throw Error(ExitCode::io, "no space");
    store::CheckpointWriter writer(comm(), paths_, some_header());
    for (const auto& [name, save] : parts) {
      writer.begin_part(name);
      save(writer);
    }
    writer.commit();
    ++writes;
  }
  void tell_failure(const Error&) override { ++failures; }
  [[nodiscard]] std::unique_ptr<StateReader> open(const std::string& name) override { return file_->part(name); }

private:
  mutable int polls_ = 0;
  store::CheckpointPaths paths_;
  std::optional<store::CheckpointFile> file_;
};

} // namespace slr::test
