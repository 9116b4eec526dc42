#pragma once
/// \file
/// The network of a job and its images.
#include "slr/graph/layers.hpp"
#include "slr/graph/model.hpp"
#include "slr/infer/array.hpp"
#include "slr/infer/preprocess.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/run/configuration.hpp"
#include "slr/store/image_source.hpp"

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace slr::run {

/// A network after folding, and what of it can be compressed.
struct Network {
  graph::Model model; ///< BatchNorm folded, dead parts removed, grouped convolutions split
  std::string sha256; ///< of the file, and of those with its external data
  std::string input;  ///< the only input
  std::string logits; ///< what accuracy is judged by
  infer::InputShape input_shape;
  std::vector<graph::Layer> layers; ///< every linear layer, in topological order
};

/// The layer of this name. Local. \pre there is one
[[nodiscard]] const graph::Layer& layer_named(const std::vector<graph::Layer>& layers, const std::string& name);

/// Reads the file on the root and parses the bytes on every rank. The ranks of a node share the weights, where they can
/// see each other's memory. `grouping` is what compressed layers will keep whole. Collective.
/// \throws Error{io}, Error{bad_data} as graph::read_model; the same on every rank.
[[nodiscard]] Network load_network(const Communicator& comm, const std::filesystem::path& file,
                                   Grouping grouping = Grouping::channel);

/// Notes in every layer what its compressed form keeps whole; a column of a kernel with one place is a channel. Local.
void set_grouping(std::vector<graph::Layer>& layers, Grouping grouping);

/// For every layer of the network, why it stays dense whatever its budget: "kept" (budget.keep), "depthwise",
/// "grouped", "shared" (another node reads its weight that is not one of its others); empty for those that can be
/// compressed. Local.
/// \throws Error{configuration} if a pattern of budget.keep or a name of budget.layers matches no layer, naming the
/// nearest one, or if a layer cannot have the structure that budget.layers fixes.
[[nodiscard]] std::vector<std::string> dense_reasons(const Network& network, const Configuration& config);

/// Consecutive items of a list dealt to the ranks in whole blocks of 16, so that what is computed for a block of images
/// does not depend on the number of ranks.
struct Share {
  std::int64_t first = 0, count = 0;
};
inline constexpr std::int64_t images_per_block = 16;
/// Of one of some ranks. Local, pure.
[[nodiscard]] Share share_of(std::int64_t rank, std::int64_t ranks, std::int64_t items);
/// Local. The shares of all ranks follow each other and cover all items.
[[nodiscard]] Share share_of_rank(const Communicator& comm, std::int64_t items);

/// How many images go through the network at once: the largest power of two up to `most` for which all values that the
/// network computes take at most 512 MB, but no fewer than the executor computes together anyway. The same on every
/// rank, and a divisor of a block or whole blocks. Local.
[[nodiscard]] std::int64_t batch_images(const Network& network, std::int64_t most);

/// Images of the configuration as inputs of the network.
class ImageFeed {
public:
  /// Opens the source on this rank. Local. \throws as store::open_images and infer::preprocess.
  ImageFeed(const store::ImageSource& source, const Preprocess& preprocess, const Network& network);
  [[nodiscard]] std::int64_t size() const { return reader_->size(); }
  [[nodiscard]] bool has_labels() const { return reader_->has_labels(); }
  /// Images [first, first + count) ready for the network. Local.
  struct Batch {
    infer::Array input;
    std::vector<std::int32_t> labels;
  };
  [[nodiscard]] Batch read(std::int64_t first, std::int64_t count) const;
  /// The images of these numbers, increasing. Local.
  [[nodiscard]] Batch read(std::span<const std::int64_t> numbers) const;

private:
  std::unique_ptr<store::ImageReader> reader_;
  infer::Preprocess preprocess_;
  infer::InputShape shape_;
};

/// The configuration's source as the store takes it. Local.
[[nodiscard]] store::ImageSource image_source(const ImageSource& source);

} // namespace slr::run
