// Images -> packed HDF5.
#include "slr/run/program.hpp"
#include "slr/run/progress.hpp"
#include "slr/store/packed_images.hpp"

#include <string>

namespace {

using slr::Communicator;
using slr::ExitCode;

slr::store::ImageSource source_of(const slr::run::PackOptions& options) {
  slr::store::ImageSource source;
  source.images = options.images;
  if (!options.labels.empty()) source.labels = options.labels;
  if (!options.list.empty()) source.list = options.list;
  source.first = options.first;
  source.count = options.count.value_or(-1);
  source.resize = static_cast<int>(options.resize.value_or(0)); // the command line bounds both
  source.crop = static_cast<int>(options.crop.value_or(0));
  return source;
}

ExitCode pack(const Communicator& comm, const slr::run::PackOptions& options) {
  const auto progress = slr::run::make_progress(comm);
  slr::store::PackOptions how;
  how.on_unreadable = options.strict ? slr::store::OnUnreadable::fail : slr::store::OnUnreadable::skip;
  bool has_begun = false;
  how.progress = [&](std::int64_t done, std::int64_t total) {
    if (!has_begun) progress->stage("packing images", total);
    has_begun = true;
    progress->advance(done);
  };
  const auto report = slr::store::pack_images(comm, source_of(options), options.output, how);

  constexpr std::size_t warnings_limit = 20; // a folder of the wrong kind should not fill the screen
  for (std::size_t i = 0; i < report.skipped.size() && i < warnings_limit; ++i)
    progress->warning("left out: " + report.skipped[i].sentence);
  if (report.skipped.size() > warnings_limit)
    progress->warning("left out: " + std::to_string(report.skipped.size() - warnings_limit) + " more images");
  progress->note(options.output + ": " + std::to_string(report.count) + " images of " +
                 std::to_string(report.channels) + " x " + std::to_string(report.height) + " x " +
                 std::to_string(report.width) + (report.has_labels ? ", labelled" : ", without labels"));
  return ExitCode::done;
}

} // namespace

int main(int argc, char** argv) {
  return slr::run::run_program(argc, argv, {"slr_pack", MPI_COMM_WORLD}, slr::run::parse_pack, pack);
}
