#include "slr/run/network.hpp"

#include "slr/base/file.hpp"
#include "slr/base/hash.hpp"
#include "slr/base/text.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/groups.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/infer/executor.hpp"
#include "slr/infer/metrics.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/node_memory.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

namespace slr::run {
namespace {

/// The sentence for a name that no layer has.
[[noreturn]] void throw_no_such_layer(const Configuration& config, const std::string& key, const std::string& name,
                                      const Network& network) {
  std::vector<std::string> names;
  for (const auto& layer : network.layers) names.push_back(layer.name);
  const auto near = nearest_name(name, names);
  throw Error(ExitCode::configuration, config.where(key) + ": " + key + " names '" + name +
                                           "', but the network has no such layer" +
                                           (near.empty() ? "" : "; did you mean '" + near + "'?"));
}

/// Whether a layer can have the structure that the configuration fixes.
void check_fixed(const Configuration& config, const graph::Layer& layer, const FixedLayer& fixed,
                 const std::string& dense_reason) {
  const auto refuse = [&](const std::string& what) {
    const auto key = "budget.layers." + layer.name;
    throw Error(ExitCode::configuration, config.where(key) + ": " + key + " " + what);
  };
  if (!dense_reason.empty())
    refuse("fixes the structure of a layer that stays dense (" + dense_reason + "); leave it out");
  const auto rank = fixed.target_rank.value_or(0), groups = fixed.groups.value_or(0);
  const auto most = layer.group_count(), largest = std::min(layer.rows, layer.cols);
  if (rank < 0 || rank > largest)
    refuse("has rank " + std::to_string(rank) + ", expected 0 to " + std::to_string(largest));
  if (groups < 0 || groups > most)
    refuse("has groups " + std::to_string(groups) + ", expected 0 to " + std::to_string(most) + ", the " +
           (layer.grouping == Grouping::filter   ? "output channels"
            : layer.grouping == Grouping::column ? "columns"
                                                 : "input channels"));
  if (rank == 0 && groups == 0) refuse("leaves nothing of the layer; give rank, groups, or both");
}

} // namespace

const graph::Layer& layer_named(const std::vector<graph::Layer>& layers, const std::string& name) {
  const auto found = std::find_if(layers.begin(), layers.end(), [&](const auto& l) { return l.name == name; });
  require(found != layers.end(), "the network has no layer " + name);
  return *found;
}

namespace {

/// The bytes of a file that the root has read, once per node where that can be, else on every rank.
class FileBytes {
public:
  /// Collective over `comm`.
  FileBytes(const Communicator& comm, const Communicator& node, std::string of_root) : own_(std::move(of_root)) {
    size_ = comm.broadcast_value(own_.size());
    const auto leaders = comm.split(node.is_root() ? 0 : 1, comm.rank());
    if (node.is_root()) own_ = leaders.broadcast_text(own_);
    shared_ = share_on_node(node, size_,
                            [&](std::span<std::byte> bytes) { std::memcpy(bytes.data(), own_.data(), own_.size()); });
    if (comm.allreduce_value(shared_ ? 1 : 0, Reduction::min) == 0)
      own_ = comm.broadcast_text(own_);
    else
      own_ = std::string();
  }
  [[nodiscard]] std::string_view view() const {
    return own_.empty() && shared_ ? std::string_view(reinterpret_cast<const char*>(shared_.get()), size_)
                                   : std::string_view(own_);
  }

private:
  std::string own_;
  std::size_t size_ = 0;
  std::shared_ptr<const std::byte> shared_;
};

/// The weights of a network in memory that the ranks of a node share; small ones stay where they are.
class SharedWeights {
public:
  /// Of the node's root. Collective over `node`.
  SharedWeights(const Communicator& node, const graph::Model& of_root) {
    std::size_t size = 0;
    if (node.is_root()) size = for_each(of_root, [](const auto&, std::size_t) {});
    memory_ = share_on_node(node, size, [&](std::span<std::byte> bytes) {
      for_each(of_root, [&](const graph::Tensor& tensor, std::size_t at) {
        std::memcpy(bytes.data() + at, tensor.data.bytes().data(), tensor.data.bytes().size());
      });
    });
  }
  /// Replaces the rank's own copies. Local. \pre the same network as the root's
  void replace(graph::Model& model) const {
    if (!memory_) return;
    for_each(model, [&](graph::Tensor& tensor, std::size_t at) {
      tensor.data = graph::Buffer(std::span(memory_.get() + at, tensor.data.bytes().size()), memory_);
    });
  }

private:
  /// Calls `action` with every large weight and its place; returns the size of all.
  template <class Model, class Action>
  static std::size_t for_each(Model& model, Action&& action) {
    constexpr std::size_t alignment = 64, smallest = 4096;
    std::size_t size = 0;
    for (auto& [name, tensor] : model.initializers) {
      const auto bytes = tensor.data.bytes().size();
      if (bytes < smallest) continue;
      action(tensor, size);
      size += (bytes + alignment - 1) / alignment * alignment;
    }
    return size;
  }
  std::shared_ptr<const std::byte> memory_;
};

graph::Model parsed(std::string_view bytes, const std::filesystem::path& file) {
  auto model = graph::fold(graph::parse_model(bytes, file.parent_path(), file.string()));
  graph::split_groups(model);
  return model;
}

} // namespace

void set_grouping(std::vector<graph::Layer>& layers, Grouping grouping) {
  for (auto& layer : layers) {
    const bool is_channel = grouping == Grouping::column && layer.window_area() == 1;
    layer.grouping = is_channel ? Grouping::channel : grouping;
  }
}

Network load_network(const Communicator& comm, const std::filesystem::path& file, Grouping grouping) {
  constexpr int parsed_at_once = 4; // ranks of a node that hold the weights twice for a moment
  std::string hash, read;
  on_root(comm, [&] {
    read = read_file(file);
    hash = sha256(read);
    if (const auto more = graph::external_files(file); !more.empty()) {
      Sha256 all;
      all.update(hash);
      for (const auto& each : more) all.update(" " + sha256_of_file(each));
      hash = all.hex();
    }
  });
  Network network;
  network.sha256 = comm.broadcast_text(hash);
  const auto node = comm.split_by_node();
  const FileBytes bytes(comm, node, std::move(read));
  collectively(comm, [&] {
    if (node.is_root()) network.model = parsed(bytes.view(), file);
  });
  const SharedWeights weights(node, network.model);
  if (node.is_root()) weights.replace(network.model);
  std::optional<Error> error;
  for (int first = 1; first < node.size(); first += parsed_at_once) {
    if (node.rank() >= first && node.rank() < first + parsed_at_once) {
      try {
        network.model = parsed(bytes.view(), file);
        weights.replace(network.model);
      } catch (...) {
        error = current_error();
      }
    }
    node.barrier();
  }
  agree(comm, error);
  return collectively(comm, [&] {
    network.input_shape = infer::input_shape(network.model);
    network.input = network.model.inputs.front().name;
    network.logits = infer::logits_value(network.model);
    network.layers = graph::find_layers(network.model);
    if (network.layers.empty())
      throw Error(ExitCode::bad_data, file.string() + " has no convolution or fully connected layer with constant "
                                                      "weights: there is nothing to compress");
    set_grouping(network.layers, grouping);
    return std::move(network);
  });
}

std::vector<std::string> dense_reasons(const Network& network, const Configuration& config) {
  std::map<std::string, std::size_t> readers; // of every initializer
  for (const auto& node : network.model.nodes)
    for (const auto& input : node.inputs) ++readers[input];
  std::vector<std::string> reasons;
  for (const auto& layer : network.layers) {
    const bool is_shared = readers[layer.weight] > layer.uses().size();
    reasons.emplace_back(layer.is_depthwise() ? "depthwise" : layer.groups > 1 ? "grouped" : is_shared ? "shared" : "");
  }
  for (const auto& pattern : config.budget.keep) {
    bool is_used = false;
    for (std::size_t i = 0; i < network.layers.size(); ++i)
      for (const auto* use : network.layers[i].uses()) // or all groups of a convolution of that name
        if (glob_match(pattern, use->name) || glob_match(pattern + "/group?", use->name)) {
          reasons[i] = "kept";
          is_used = true;
        }
    if (!is_used) throw_no_such_layer(config, "budget.keep", pattern, network);
  }
  for (const auto& [name, fixed] : config.budget.layers) {
    const auto here = std::find_if(network.layers.begin(), network.layers.end(),
                                   [&, &name = name](const auto& layer) { return layer.name == name; });
    if (here == network.layers.end()) throw_no_such_layer(config, "budget.layers", name, network);
    check_fixed(config, *here, fixed, reasons[static_cast<std::size_t>(here - network.layers.begin())]);
  }
  return reasons;
}

std::int64_t batch_images(const Network& network, std::int64_t most) {
  constexpr std::int64_t largest_bytes = std::int64_t(512) << 20;
  std::int64_t bytes = 0;
  for (const auto& [value, dims] : graph::infer_shapes(network.model)) {
    std::int64_t elements = 1;
    for (const auto extent : dims) elements *= std::max<std::int64_t>(1, extent);
    if (!network.model.initializers.contains(value)) bytes += elements * static_cast<std::int64_t>(sizeof(float));
  }
  auto images = most;
  while (images > infer::ExecutorOptions{}.block && images * bytes > largest_bytes) images /= 2;
  return images;
}

Share share_of(std::int64_t rank, std::int64_t ranks, std::int64_t items) {
  const std::int64_t blocks = (items + images_per_block - 1) / images_per_block;
  const auto begin = [&](std::int64_t r) { return std::min(items, r * blocks / ranks * images_per_block); };
  return {begin(rank), begin(rank + 1) - begin(rank)};
}

Share share_of_rank(const Communicator& comm, std::int64_t items) {
  return share_of(comm.rank(), comm.size(), items);
}

store::ImageSource image_source(const ImageSource& source) {
  store::ImageSource result;
  result.images = source.images.absolute;
  if (!source.labels.empty()) result.labels = source.labels.absolute;
  if (!source.list.empty()) result.list = source.list.absolute;
  result.first = source.first;
  result.count = source.count.value_or(-1);
  result.resize = static_cast<int>(source.resize.value_or(0));
  result.crop = static_cast<int>(source.crop.value_or(0));
  return result;
}

ImageFeed::ImageFeed(const store::ImageSource& source, const Preprocess& preprocess, const Network& network)
    : reader_(store::open_images(source)), preprocess_{preprocess.scale, preprocess.mean, preprocess.deviation,
                                                       preprocess.channels == ChannelOrder::bgr
                                                           ? infer::ChannelOrder::bgr
                                                           : infer::ChannelOrder::rgb},
      shape_(network.input_shape) {}

ImageFeed::Batch ImageFeed::read(std::int64_t first, std::int64_t count) const {
  auto batch = reader_->read(first, count);
  return {infer::preprocess(preprocess_, batch.pixels,
                            {batch.count, reader_->channels(), reader_->height(), reader_->width()}, shape_),
          std::move(batch.labels)};
}

ImageFeed::Batch ImageFeed::read(std::span<const std::int64_t> numbers) const {
  Batch all;
  for (std::size_t at = 0; at < numbers.size();) {
    std::size_t end = at + 1; // neighbours at once
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    auto part = read(numbers[at], static_cast<std::int64_t>(end - at));
    at = end;
    if (all.input.dims.empty()) {
      all = std::move(part);
      continue;
    }
    all.input.data.insert(all.input.data.end(), part.input.data.begin(), part.input.data.end());
    all.input.dims.front() += part.input.dims.front();
    all.labels.insert(all.labels.end(), part.labels.begin(), part.labels.end());
  }
  return all;
}

} // namespace slr::run
