#include "slr/store/checkpoint_file.hpp"

#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"

#include <sstream>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

const std::string state_group = "/state";

Error damaged(const fs::path& file, const std::string& what) {
  return Error(ExitCode::bad_data, file.string() + " is no usable checkpoint: " + what);
}

std::string text_of(const Hdf5File& file, const std::string& dataset) {
  const auto bytes = file.dataset(dataset).read<std::uint8_t>();
  return {bytes.begin(), bytes.end()};
}

void write_text(Hdf5File& file, const std::string& dataset, const std::string& text) {
  const std::vector<std::uint8_t> bytes(text.begin(), text.end());
  file.write<std::uint8_t>(dataset, {std::ssize(bytes)}, bytes);
}

template <Element T>
void check_rows(const Hdf5Dataset& dataset, std::int64_t piece) {
  std::vector<T> values;
  for (std::int64_t first = 0; first < dataset.info().rows(); first += piece) {
    const auto count = std::min(piece, dataset.info().rows() - first);
    values.resize(static_cast<std::size_t>(count));
    dataset.read_rows<T>(first, count, std::span(values));
  }
}

/// Reads the whole dataset, so that every checksum is looked at. Returns its bytes.
std::int64_t check_dataset(const Hdf5File& file, const std::string& name) {
  const auto dataset = file.dataset(name);
  const auto& info = dataset.info();
  if (info.dims.size() != 1) throw damaged(file.path(), name + " is not a list");
  const auto piece = std::max<std::int64_t>(1, info.chunk_rows);
  if (info.element_class == ElementClass::floating)
    info.element_bytes == sizeof(float) ? check_rows<float>(dataset, piece) : check_rows<double>(dataset, piece);
  else
    info.element_bytes == 1 ? check_rows<std::uint8_t>(dataset, piece) : check_rows<std::int64_t>(dataset, piece);
  return info.rows() * info.element_bytes;
}

std::int64_t check_group(const Hdf5File& file, const std::string& group, int depth = 0) {
  constexpr int deepest = 16;
  if (depth > deepest) throw damaged(file.path(), "its groups are nested too deeply");
  std::int64_t bytes = 0;
  for (const auto& child : file.children(group)) {
    const auto name = (group == "/" ? "" : group) + "/" + child;
    bytes += file.is_group(name) ? check_group(file, name, depth + 1) : check_dataset(file, name);
  }
  return bytes;
}

CheckpointHeader read_header(const Hdf5File& file) {
  const auto text = [&](const char* name) {
    const auto value = file.attribute_as<std::string>("/", name);
    if (!value) throw damaged(file.path(), std::string("it has no ") + name);
    return *value;
  };
  CheckpointHeader header;
  header.schema = file.attribute_as<std::int64_t>("/", "checkpoint_schema").value_or(0);
  header.program = text("program");
  header.model_sha256 = text("model_sha256");
  header.mpi_ranks = file.attribute_as<std::int64_t>("/", "mpi_ranks").value_or(0);
  header.configuration = text_of(file, "/configuration");
  return header;
}

std::vector<std::string> read_parts(const Hdf5File& file) {
  std::vector<std::string> parts;
  std::istringstream lines(text_of(file, "/parts"));
  for (std::string line; std::getline(lines, line);) parts.push_back(line);
  return parts;
}

/// One part of a checkpoint: what is the same on every rank is read by the root, parts of lists by their owners.
class PartReader : public StateReader {
public:
  PartReader(const Communicator& comm, const Hdf5File& file, std::string group)
      : comm_(comm), file_(file), group_(std::move(group)) {}
  [[nodiscard]] bool has(const std::string& name) const override { return file_.is_dataset(group_ + "/" + name); }

protected:
  void read(const std::string& name, Target target) override {
    std::visit(
        [&]<class T>(std::vector<T>* values) {
          on_root(comm_, [&] { *values = file_.dataset(group_ + "/" + name).template read<T>(); });
          values->resize(comm_.broadcast_value(values->size()));
          comm_.broadcast(std::span<T>(*values));
        },
        target);
  }
  void read_part(const std::string& name, Target target) override {
    std::visit(
        [&]<class T>(std::vector<T>* values) {
          const auto counts = comm_.allgather_value(std::ssize(*values));
          std::int64_t first = 0, total = 0;
          for (int rank = 0; rank < comm_.size(); ++rank) {
            if (rank < comm_.rank()) first += counts[static_cast<std::size_t>(rank)];
            total += counts[static_cast<std::size_t>(rank)];
          }
          collectively(comm_, [&] {
            const auto dataset = file_.dataset(group_ + "/" + name);
            if (dataset.info().rows() != total)
              throw damaged(file_.path(), group_ + "/" + name + " has another length");
            dataset.template read_rows<T>(first, std::ssize(*values), std::span<T>(*values));
          });
        },
        target);
  }

private:
  const Communicator& comm_;
  const Hdf5File& file_;
  std::string group_;
};

} // namespace

template <class Action>
void CheckpointWriter::attempt(Action&& action) {
  if (!comm_.is_root() || failure_) return;
  try {
    std::forward<Action>(action)();
  } catch (...) {
    failure_ = current_error();
    file_.reset();
  }
}

CheckpointWriter::CheckpointWriter(const Communicator& comm, CheckpointPaths paths, const CheckpointHeader& header)
    : comm_(comm), paths_(std::move(paths)),
      fresh_(paths_.current.parent_path() / ("." + paths_.current.stem().string() + ".new.h5")) {
  attempt([&] {
    file_.emplace(Hdf5File::create(fresh_));
    file_->set_attribute("/", "checkpoint_schema", header.schema);
    file_->set_attribute("/", "program", header.program);
    file_->set_attribute("/", "model_sha256", header.model_sha256);
    file_->set_attribute("/", "mpi_ranks", header.mpi_ranks);
    write_text(*file_, "/configuration", header.configuration);
    file_->make_group(state_group);
  });
}

void CheckpointWriter::begin_part(const std::string& name) {
  parts_.push_back(name);
  attempt([&] { file_->make_group(state_group + "/" + name); });
}

void CheckpointWriter::put(const std::string& name, Values values) {
  attempt([&] {
    std::visit(
        [&]<class T>(std::span<const T> span) {
          file_->write<T>(state_group + "/" + parts_.back() + "/" + name, {std::ssize(span)}, span);
        },
        values);
  });
}

void CheckpointWriter::put_part(const std::string& name, Values values) {
  std::visit([&]<class T>(std::span<const T> span) { put(name, std::span<const T>(comm_.gather(span))); }, values);
}

void CheckpointWriter::commit() {
  attempt([&] {
    std::string lines;
    for (const auto& part : parts_) lines += part + "\n";
    write_text(*file_, "/parts", lines);
    file_->commit();
    std::error_code error;
    if (fs::exists(paths_.current)) fs::rename(paths_.current, paths_.previous, error);
    if (error) throw Error(ExitCode::io, "renaming " + paths_.current.string() + " failed: " + error.message());
    commit_file(fresh_, paths_.current);
  });
  std::error_code ignored;
  if (failure_) fs::remove(fresh_, ignored);
  agree(comm_, failure_);
}

CheckpointFile::CheckpointFile(const Communicator& comm, const fs::path& file)
    : comm_(comm), file_(collectively(comm, [&] {
        if (comm.is_root()) (void)verify_checkpoint(file);
        return Hdf5File::open(file);
      })) {
  collectively(comm, [&] {
    header_ = read_header(file_);
    parts_ = read_parts(file_);
  });
}

std::unique_ptr<StateReader> CheckpointFile::part(const std::string& name) const {
  return std::make_unique<PartReader>(comm_, file_, state_group + "/" + name);
}

CheckpointSummary verify_checkpoint(const fs::path& path) {
  const auto file = Hdf5File::open(path);
  if (!file.attribute("/", "checkpoint_schema")) throw damaged(path, "it has no checkpoint_schema");
  CheckpointSummary summary{read_header(file), read_parts(file), check_group(file, "/")};
  for (const auto& part : summary.parts)
    if (!file.is_group(state_group + "/" + part)) throw damaged(path, "its part " + part + " is missing");
  return summary;
}

} // namespace slr::store
