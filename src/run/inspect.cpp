#include "slr/run/inspect.hpp"

#include "inspect_parts.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/store/feature_shards.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

namespace slr::run {
namespace {

namespace fs = std::filesystem;

enum class Content { run_folder, features, images, shard, factors, checkpoint, manifest, report, job, model };

Error not_recognised(const fs::path& path) {
  return Error(
      ExitCode::bad_data,
      path.string() +
          " is no ONNX model, no packed images, no features, no factors, no checkpoint, no manifest or report, "
          "and no output folder of a run: give one of these");
}

Content content_of_folder(const fs::path& folder) {
  if (is_run_folder(folder)) return Content::run_folder;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().extension() == ".h5") return Content::features;
  throw not_recognised(folder);
}

Content content_of_hdf5(const fs::path& path) {
  const auto file = store::Hdf5File::open(path);
  if (file.is_dataset("/images")) return Content::images;
  if (file.attribute("/", "checkpoint_schema")) return Content::checkpoint;
  if (file.attribute("/", "schema") && !file.attribute("/", "shard_index")) {
    const auto groups = file.children("/");
    if (std::all_of(groups.begin(), groups.end(), [&](const auto& g) { return file.is_dataset("/" + g + "/U"); }))
      return Content::factors;
  }
  const store::ShardReader shard(path);
  if (shard.header() || !shard.layers().empty()) return Content::shard;
  throw not_recognised(path);
}

Content content_of_json(const fs::path& path) {
  const auto value = read_json(path);
  if (is_manifest(value)) return Content::manifest;
  if (is_report(value)) return Content::report;
  if (value.is_object() && value.contains("configuration") && value.contains("model_sha256")) return Content::job;
  throw not_recognised(path);
}

Content content_of(const fs::path& path) {
  if (fs::is_directory(path)) return content_of_folder(path);
  if (store::Hdf5File::is_hdf5(path)) return content_of_hdf5(path); // says so if there is no such file
  std::array<char, 64> head{};
  std::ifstream stream(path, std::ios::binary);
  stream.read(head.data(), head.size());
  const std::string_view begin(head.data(), static_cast<std::size_t>(stream.gcount()));
  const auto first = begin.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && begin[first] == '{') return content_of_json(path);
  // Protobuf writes fields in the order of their numbers: a model begins with its IR version, field 1, an integer.
  constexpr char ir_version_tag = 0x08;
  if (begin.starts_with(ir_version_tag) || path.extension() == ".onnx") return Content::model;
  throw not_recognised(path);
}

/// Verifies the run that a file belongs to. What lies in no run has nothing to be held against.
void verify_run_of(const Communicator& alone, const fs::path& folder, const std::string& what, const Print& print) {
  const OutputFiles files{folder};
  if (!fs::is_regular_file(files.manifest()))
    throw Error(ExitCode::bad_data, what + " cannot be verified: there is no manifest.json beside it, which a run "
                                           "writes at its end");
  verify_run(alone, files.manifest(), print);
}

void inspect(const Communicator& alone, const fs::path& path, bool verify, const Print& print) {
  const auto folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  switch (content_of(path)) {
  case Content::run_folder:
    inspect_run(path, print);
    if (verify) verify_run_of(alone, path, path.string(), print);
    return;
  case Content::job:
    inspect_run(folder, print);
    if (verify) verify_run_of(alone, folder, path.string(), print);
    return;
  case Content::manifest:
    inspect_manifest(path, read_json(path), print);
    if (verify) verify_run(alone, path, print);
    return;
  case Content::report:
    inspect_report(path, read_json(path), print);
    if (verify) verify_run_of(alone, folder, path.string(), print);
    return;
  case Content::factors:
    inspect_factors(path, verify, print);
    if (verify && fs::is_regular_file(OutputFiles{folder}.manifest()))
      verify_run_of(alone, folder, path.string(), print);
    return;
  case Content::checkpoint:
    return inspect_checkpoint(path, print);
  case Content::features:
    return inspect_features(alone, path, verify, print);
  case Content::images:
    return inspect_images(path, verify, print);
  case Content::shard:
    return inspect_shard(path, verify, print);
  case Content::model:
    return inspect_model(path, verify, print);
  }
}

} // namespace

ExitCode run_inspect(const Communicator& comm, const InspectOptions& options) {
  const auto alone = comm.split(-1, 0);
  on_root(comm, [&] {
    const Print print = [](const std::string& lines) {
      if (std::fputs(lines.c_str(), stdout) < 0 || std::fflush(stdout) != 0)
        throw Error(ExitCode::io, "writing to standard output failed");
    };
    fs::path path(options.file);
    if (!path.has_filename() && path.has_parent_path()) path = path.parent_path(); // "run/vgg/"
    try {
      inspect(alone, path, options.verify, print);
    } catch (const fs::filesystem_error& error) {
      throw Error(ExitCode::io, "cannot look at " + path.string() + ": " + error.code().message());
    }
  });
  return ExitCode::done;
}

} // namespace slr::run
