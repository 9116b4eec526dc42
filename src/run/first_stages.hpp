#pragma once
// The first stages of a job, each done once: what an earlier start of the same job left is used.
#include "slr/run/curves.hpp"
#include "slr/run/evaluate.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/progress.hpp"

namespace slr::run {

/// Images of a source for this network. Collective.
[[nodiscard]] ImageFeed open_feed(const Communicator& comm, const store::ImageSource& source,
                                  const Configuration& config, const Network& network);

/// The calibration images, packed into the output folder where they are not yet. Collective.
/// \throws Error{configuration} if there are fewer than calibration.images
[[nodiscard]] ImageFeed open_calibration(const Communicator& comm, const Configuration& config,
                                         const OutputFiles& files, const Network& network, Progress& progress,
                                         Checkpoints& checkpoints);

/// The feature shards of this configuration: those that are there and fit, else captured now. Collective.
[[nodiscard]] store::FeatureSet open_features(const Communicator& comm, const Network& network,
                                              const std::vector<std::string>& dense, const ImageFeed& feed,
                                              const Configuration& config, const OutputFiles& files, Progress& progress,
                                              Checkpoints& checkpoints);

/// The layers' curves: those of an earlier start of this run, else measured now and kept. Collective.
[[nodiscard]] Curves open_curves(const Communicator& comm, const Network& network,
                                 const std::vector<std::string>& dense, const store::FeatureSet& features,
                                 const ImageFeed& feed, const Configuration& config, const OutputFiles& files,
                                 Progress& progress, Checkpoints& checkpoints);

} // namespace slr::run
