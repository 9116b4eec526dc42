#pragma once
// The calibrate stage: feature maps of the original network at the sampled positions, into shards.
#include "slr/run/features.hpp"

namespace slr::run {

/// Runs the original network over the calibration images and writes one shard per rank with X0 and Y of `layers`.
///
/// What a checkpoint finds captured it puts aside in shards below `folder/parts`; a later start, of whatever number of
/// ranks, captures only the images that are not there, and at the end the parts are copied into the shards proper (a
/// capture that nothing interrupted has one part, which becomes the shards as it is). The contents of the shards depend
/// neither on the parts nor on where the job was stopped. Collective. Memory: one batch's values; copying takes 64 MB.
/// \throws Error{stopped}
void capture_features(const Communicator& comm, const Network& network, const std::vector<std::string>& layers,
                      const ImageFeed& feed, const Configuration& config, const std::string& config_hash,
                      const std::filesystem::path& folder, Progress& progress, Checkpoints& checkpoints);
/// Where the parts are. They may be removed as soon as the shards are known to be complete.
[[nodiscard]] std::filesystem::path capture_parts(const std::filesystem::path& folder);

} // namespace slr::run
