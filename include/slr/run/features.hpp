#pragma once
/// \file
/// Feature maps: captured from the original network into shards, followed through the compressed one in memory.
#include "slr/infer/capture.hpp"
#include "slr/infer/executor.hpp"
#include "slr/layer/exact_products.hpp"
#include "slr/layer/problem.hpp"
#include "slr/mpi/checkpoints.hpp"
#include "slr/run/held_arrays.hpp"
#include "slr/run/network.hpp"
#include "slr/run/progress.hpp"
#include "slr/store/feature_set.hpp"

namespace slr::run {

/// What an image is used for, by its global number: i mod 10 = 0 report only, = 1 selection, the rest fit.
enum class Role { fit, selection, report };
[[nodiscard]] constexpr Role role_of_image(std::int64_t image) {
  return image % 10 == 0 ? Role::report : image % 10 == 1 ? Role::selection : Role::fit;
}

/// How positions are drawn. Local.
[[nodiscard]] infer::Sampling sampling_of(const Configuration& config);

/// The image that a sample is of; shards of other programs may say nothing of positions: one per image. Local.
[[nodiscard]] inline std::int64_t image_of(std::int64_t sample, const store::FeatureLayer& layer) {
  return sample / std::max<std::int64_t>(1, layer.positions);
}

/// So many images at most go through the network together while features are taken.
inline constexpr std::int64_t most_images_captured_at_once = 4 * images_per_block;

/// The sample numbers of a share of the images, a section of `features.samples(layer)`. Local.
[[nodiscard]] std::span<const std::int64_t> samples_of_share(const store::FeatureSet& features,
                                                             const std::string& layer, Share share);

/// The scalar function of a layer as the solver takes it. Local.
[[nodiscard]] slr::Activation solver_activation(const graph::Activation& activation);

/// Values computed before `node` that the layers from there on or the logits still need. Local.
[[nodiscard]] std::vector<std::string> live_before(const graph::Model& model, std::size_t node);
/// The same values without copying them. Local.
[[nodiscard]] std::map<std::string, infer::ArrayView> views(const std::map<std::string, infer::Array>& values);
/// From the values of one cut of the network to those of a later one; those that both have are moved, the others stay.
/// Local.
[[nodiscard]] std::map<std::string, infer::Array> advance_values(infer::Executor& executor,
                                                                 std::map<std::string, infer::Array>& values,
                                                                 const std::vector<std::string>& live);
/// The most that is alive between two layers of those that `is_followed` names, of one image, and where: bytes and the
/// layer that comes next.
struct WidestCut {
  std::int64_t bytes = 0;
  std::string layer;
};
/// Local.
[[nodiscard]] WidestCut widest_cut(const Network& network, const std::vector<bool>& is_followed);

/// Follows this rank's calibration images through a network whose layers are replaced one after the other: keeps, per
/// image, the values that the rest of the network still needs (the frontier), and runs only what lies between two
/// frontiers. Where there is no room for a frontier, the images stay at one before, and go on from there for every
/// layer; the first one is the packed images. Memory: the frontier of this rank's images as far as the place allows,
/// and one batch.
class Frontier {
public:
  /// What is known of some neighbouring images: the values that are still needed, by name.
  struct Batch {
    std::int64_t first = 0, count = 0; ///< images
    std::map<std::string, infer::Array> values;
  };

  /// `feed` outlives the object.
  Frontier(const Network& network, const ImageFeed& feed, Share share, ScratchPlace place);
  /// Goes on from where other ranks were. \throws Error{io} if there is no room for that
  Frontier(std::vector<Batch> batches, ScratchPlace place);
  /// What is known of all images, which are given up.
  [[nodiscard]] std::vector<Batch> take_batches();
  /// Input patches of the layer at its sampled positions in the network as it is now, samples x cols row-major, in the
  /// order of images and positions; everything before the layer's node must be final. Not `is_wanted`: only goes on to
  /// the layer, step by step as before it was replaced, and returns nothing. Local.
  [[nodiscard]] std::vector<float> inputs_of(const graph::Model& model, const std::string& layer,
                                             const infer::Sampling& sampling, bool is_wanted = true);

  /// The same for a layer further on, before which nothing is final but what leads to it: the images stay where they
  /// are. Local.
  [[nodiscard]] std::vector<float> inputs_ahead(const graph::Model& model, const std::string& layer,
                                                const infer::Sampling& sampling) const;

private:
  /// What is held of a batch, or its images.
  [[nodiscard]] std::map<std::string, infer::Array> taken(std::size_t batch);
  [[nodiscard]] std::map<std::string, infer::Array> images_of(std::size_t batch) const;

  const ImageFeed* feed_ = nullptr; ///< none where other ranks gave what is held
  std::string input_;               ///< the network's
  std::vector<Share> shares_;       ///< the images of each batch
  HeldArrays values_;
};

/// Writes this rank's shard with the inputs that a layer is fitted on (rows in the order of images and positions).
/// Local.
void write_inputs(const Communicator& comm, const Network& network, const graph::Layer& layer,
                  const store::FeatureSet& features, Share share, const std::vector<float>& rows,
                  const std::filesystem::path& folder);

/// What `write_inputs` wrote, perhaps on other ranks, of this rank's images. Local.
[[nodiscard]] std::vector<float> inputs_in(const store::FeatureSet& shards, const std::string& layer, Share share);

/// Has the system fetch what `prepare_problem` will read of the shards for the first layer behind this one that does
/// not stay dense, while this one is computed. Collective.
void announce_behind(const Communicator& comm, const Network& network, const std::vector<std::string>& dense_reasons,
                     std::size_t layer, const store::FeatureSet& features, Share share);

/// The problem of a layer on this rank's images: Y and X0 from the shards, X given (empty: that of the shards, where
/// one of X and X0 stands for the other if it is missing). The inputs are rounded (`scale`). Of the fit samples every
/// `thinning`-th block of images is taken. Collective.
struct PreparedProblem {
  LayerProblem problem;
  InputScale scale;
};
[[nodiscard]] PreparedProblem prepare_problem(const Communicator& comm, const Network& network,
                                              const graph::Layer& layer, const store::FeatureSet& features, Share share,
                                              const std::vector<float>& inputs, std::int64_t thinning = 1);

} // namespace slr::run
