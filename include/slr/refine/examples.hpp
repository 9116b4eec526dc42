#pragma once
/// \file
/// Unlabelled images with the outputs that they should have.
#include "slr/graph/model.hpp"
#include "slr/infer/array.hpp"
#include "slr/mpi/communicator.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slr::infer {
class Executor;
}

namespace slr::refine {

/// Neighbouring images that are computed together, whatever the number of ranks.
inline constexpr std::int64_t images_per_block = 8;

/// Images [first, first + count) as inputs of the network. Local.
using ImageReader = std::function<infer::Array(std::int64_t first, std::int64_t count)>;

/// A network between two of its values.
struct Reference {
  const graph::Model& model;
  std::string input, output;
};

/// Images in blocks of 8 (the last one may be shorter), and for each the output of a reference network. Every rank can
/// have every block: outputs of all images are held by every rank, images are read when they are asked for and kept as
/// long as they fit into `memory_bytes`.
class Examples {
public:
  struct Source {
    std::int64_t images = 0;
    ImageReader read;
    std::size_t memory_bytes = std::size_t(1) << 30; ///< of this rank, for images that are read once
  };
  /// Runs the reference over all images, dealt to the ranks in blocks. `mixes`: it stays for `mixed`. Collective.
  /// \throws Error as the reader and infer::Executor; the same on every rank.
  Examples(const Communicator& comm, Source source, const Reference& reference, bool mixes = false);

  [[nodiscard]] std::int64_t images() const { return source_.images; }
  [[nodiscard]] std::int64_t blocks() const { return (source_.images + images_per_block - 1) / images_per_block; }
  [[nodiscard]] std::int64_t images_of(std::int64_t block) const {
    return std::min(images_per_block, source_.images - block * images_per_block);
  }
  /// Dimensions of one image's output.
  [[nodiscard]] const graph::Dims& target_dims() const { return target_dims_; }

  struct Block {
    std::shared_ptr<const infer::Array> images;
    infer::ArrayView targets;
    std::shared_ptr<const infer::Array> outputs = {}; ///< what the targets are a view of, if these are the block's own
  };
  /// Local. \throws as the reader
  [[nodiscard]] Block block(std::int64_t index) const;
  /// The block's images a, each mixed with an image b of a block that is drawn, x = (1 - l) a + l b, and the
  /// reference's outputs of these: images beyond those that there are (Zhang, Cisse, Dauphin, Lopez-Paz: mixup, 2018;
  /// they mix labels, too). Which block, and every l (uniform in [0, 1)), follow from `seed` and the index alone.
  /// Local, one forward pass of the reference. \pre constructed with `mixes` \throws as the reader and infer::Executor
  [[nodiscard]] Block mixed(std::int64_t index, std::uint64_t seed) const;

private:
  [[nodiscard]] std::shared_ptr<const infer::Array> images_in(std::int64_t block) const;
  Source source_;
  std::shared_ptr<infer::Executor> reference_; ///< if mixtures are asked for
  std::string reference_input_, reference_output_;
  graph::Dims target_dims_;
  std::vector<float> targets_;
  mutable std::vector<std::shared_ptr<const infer::Array>> kept_;
  mutable std::size_t kept_bytes_ = 0;
};

} // namespace slr::refine
