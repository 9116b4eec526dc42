#include "slr/run/output_folder.hpp"

#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/json_text.hpp"

#include <algorithm>
#include <vector>

namespace slr::run {
namespace {

/// Also the results of several budgets, by the names that such folders have whatever the budgets were.
std::vector<std::filesystem::path> everything_written(const OutputFiles& files) {
  std::vector<std::filesystem::path> paths{
      files.job(),           files.calibration(),      files.calibration_parts(), files.features(),
      files.features_view(), files.curves(),           files.checkpoint(),        files.previous_checkpoint(),
      files.layers(),        files.corrected_inputs(), files.machine(),           files.compressed(),
      files.factors(),       files.report(),           files.manifest(),          files.log()};
  for (const auto& entry : std::filesystem::directory_iterator(files.folder)) {
    const auto name = entry.path().filename().string();
    const bool is_point =
        name.starts_with("batch-") ||
        std::any_of(resources.begin(), resources.end(), [&](Resource r) { return name.starts_with(to_text(r) + "-"); });
    if (is_point && entry.is_directory() && std::filesystem::exists(OutputFiles{entry.path()}.job()))
      paths.push_back(entry.path());
  }
  return paths;
}

/// Files of somebody else: nothing is written beside them.
bool has_foreign_files(const OutputFiles& files) {
  const auto ours = everything_written(files);
  for (const auto& entry : std::filesystem::directory_iterator(files.folder)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(".")) continue; // the lock, and what a killed run left under a temporary name
    if (std::find(ours.begin(), ours.end(), entry.path()) == ours.end()) return true;
  }
  return false;
}

/// What a killed run left under temporary names, and where its ranks were.
void clear_temporaries(const OutputFiles& files) {
  for (const auto& entry : std::filesystem::directory_iterator(files.folder)) {
    const auto name = entry.path().filename().string();
    const bool is_ours = name.starts_with(OutputFiles::scratch_prefix) ||
                         (name.starts_with(".") && (name.ends_with(".part") || name == ".checkpoint.new.h5"));
    if (is_ours && entry.is_regular_file()) std::filesystem::remove(entry.path());
  }
  std::filesystem::remove(files.heartbeat());
  std::filesystem::remove_all(files.unverified().folder);
}

FolderState inspect(const OutputFiles& files, const Configuration& config, const std::string& model_sha256) {
  if (!std::filesystem::exists(files.job())) {
    const auto ours = everything_written(files);
    const bool has_ours =
        std::any_of(ours.begin(), ours.end(), [](const auto& path) { return std::filesystem::exists(path); });
    if (has_ours || has_foreign_files(files))
      throw Error(ExitCode::configuration,
                  config.where("output") + ": the output folder " + files.folder.string() +
                      " holds files that no run of slr_compress began; choose an empty folder");
    return FolderState::fresh;
  }
  const auto job = read_json(files.job());
  const std::string again = "; use --fresh to remove that run and start anew, or another output folder";
  if (!job.is_object() || !job.contains("configuration") || !job.contains("model_sha256"))
    throw Error(ExitCode::configuration, files.job().string() + " is damaged" + again);
  if (const auto difference = first_difference(job["configuration"], config))
    throw Error(ExitCode::configuration, "the output folder " + files.folder.string() +
                                             " holds a run of another configuration: it " + difference->sentence() +
                                             again);
  if (job["model_sha256"] != model_sha256)
    throw Error(ExitCode::configuration, "the output folder " + files.folder.string() +
                                             " holds a run of another version of the model file" + again);
  return std::filesystem::exists(files.manifest()) ? FolderState::finished : FolderState::unfinished;
}

} // namespace

OutputFolder::OutputFolder(const Communicator& comm, const Configuration& config, const std::string& model_sha256,
                           bool is_fresh, const std::vector<std::string>& points)
    : files_{config.output.absolute} {
  on_root(comm, [&] {
    std::error_code error;
    std::filesystem::create_directories(files_.folder, error);
    if (error)
      throw Error(ExitCode::io, "cannot create the output folder " + files_.folder.string() + ": " + error.message());
    lock_.emplace(files_.folder);
    if (is_fresh)
      for (const auto& path : everything_written(files_)) {
        std::filesystem::remove_all(path, error);
        if (error) throw Error(ExitCode::io, "cannot remove " + path.string() + ": " + error.message());
      }
    state_ = inspect(files_, config, model_sha256);
    clear_temporaries(files_);
    if (state_ == FolderState::fresh)
      write_file_atomically(files_.job(),
                            json_text({{"configuration", resolved_json(config)}, {"model_sha256", model_sha256}}));
    for (const auto& point : points) {
      if (point.empty()) continue;
      const auto below = files_.point(point);
      std::filesystem::create_directories(below.folder);
      if (!std::filesystem::exists(below.job())) write_file_atomically(below.job(), json_text({{"point", point}}));
    }
  });
  state_ = comm.broadcast_value(state_);
}

} // namespace slr::run
