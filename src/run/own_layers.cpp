#include "slr/run/own_layers.hpp"

#include "slr/base/file.hpp"
#include "slr/base/hash.hpp"
#include "slr/graph/count.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/report.hpp"
#include "slr/run/report_table.hpp"
#include "slr/run/safeguards.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/verify_outputs.hpp"
#include "slr/store/hdf5.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>

namespace slr::run {
namespace {

constexpr std::int64_t fewest_images = 20; // two of each role

/// A file of weights as every rank gets it from the root.
struct OwnWeights {
  std::int64_t rows = 0, cols = 0, group_columns = 1;
  std::vector<float> weight, bias;
};

OwnWeights read_weights(const OwnLayer& layer) {
  const auto file = store::Hdf5File::open(layer.weights.absolute);
  const auto wrong = [&](const std::string& what) {
    return Error(ExitCode::bad_data, layer.weights.absolute.string() + ", the weights of layer " + layer.name + ", " +
                                         what + ": write the file again");
  };
  if (!file.is_dataset("/weight")) throw wrong("has no dataset /weight");
  const auto dataset = file.dataset("/weight");
  const auto& dims = dataset.info().dims;
  if ((dims.size() != 2 && dims.size() != 4) || std::find(dims.begin(), dims.end(), 0) != dims.end())
    throw wrong("has a /weight that is neither n x k nor n x channels x kh x kw");
  OwnWeights result;
  result.rows = dims[0];
  result.cols = dataset.info().row_elements();
  const auto area = dims.size() == 4 ? dims[2] * dims[3] : 1;
  result.group_columns = file.attribute_as<std::int64_t>("/weight", "group_columns").value_or(area);
  if (result.group_columns < 1 || result.cols % result.group_columns != 0 ||
      (dims.size() == 4 && result.group_columns != area))
    throw wrong("has the attribute group_columns = " + std::to_string(result.group_columns) +
                ", which is not the kernel area of /weight");
  result.weight = dataset.read<float>();
  result.bias.assign(static_cast<std::size_t>(result.rows), 0.0F);
  if (file.is_dataset("/bias")) result.bias = file.dataset("/bias").read<float>();
  if (std::ssize(result.bias) != result.rows)
    throw wrong("has a /bias of " + std::to_string(result.bias.size()) + " values, not one per row of /weight");
  return result;
}

OwnWeights load_weights(const Communicator& comm, const OwnLayer& layer) {
  OwnWeights result;
  on_root(comm, [&] { result = read_weights(layer); });
  result.rows = comm.broadcast_value(result.rows);
  result.cols = comm.broadcast_value(result.cols);
  result.group_columns = comm.broadcast_value(result.group_columns);
  result.weight.resize(static_cast<std::size_t>(result.rows * result.cols));
  result.bias.resize(static_cast<std::size_t>(result.rows));
  comm.broadcast(std::span<float>(result.weight));
  comm.broadcast(std::span<float>(result.bias));
  return result;
}

graph::Activation activation_named(const std::string& word) {
  using Kind = graph::ActivationKind;
  if (word == "relu") return {Kind::relu, 0, 0, 0};
  if (word == "relu6") return {Kind::clip, 0, 0, 6};
  if (word == "sigmoid") return {Kind::sigmoid, 0, 0, 0};
  if (word == "tanh") return {Kind::tanh, 0, 0, 0};
  require(word == "identity", "the configuration let an unknown activation pass");
  return {};
}

/// One convolution whose kernel covers its whole input: a matrix product per sample.
void add_layer(graph::Model& model, const OwnLayer& layer, const OwnWeights& own) {
  const auto channels = own.cols / own.group_columns;
  const auto value = [&](const char* what) { return layer.name + "/" + what; };
  graph::Node node;
  node.name = layer.name;
  node.op = "Conv";
  node.inputs = {value("input"), value("weight"), value("bias")};
  node.outputs = {value("output")};
  node.attributes["kernel_shape"] = std::vector<std::int64_t>{1, own.group_columns};
  model.nodes.push_back(node);
  model.initializers[value("weight")] =
      graph::Tensor::of_floats({own.rows, channels, 1, own.group_columns}, own.weight);
  model.initializers[value("bias")] = graph::Tensor::of_floats({own.rows}, own.bias);
  const auto declare = [](const std::string& name, graph::Dims dims) {
    const auto rank = dims.size();
    return graph::Value{name, graph::ElementType::float32, std::move(dims), std::vector<std::string>(rank), true};
  };
  model.inputs.push_back(declare(value("input"), {1, channels, 1, own.group_columns}));
  model.outputs.push_back(declare(value("output"), {1, own.rows, 1, 1}));
}

/// All shards of all layers, each once.
store::FeatureSet open_own_features(const Communicator& comm, const Configuration& config) {
  std::vector<std::filesystem::path> shards;
  on_root(comm, [&] {
    for (const auto& layer : config.layers) {
      const auto more = store::shard_files(layer.shards.absolute.string());
      shards.insert(shards.end(), more.begin(), more.end());
    }
  });
  return store::FeatureSet::open_files(comm, std::move(shards));
}

/// Number of images that the shards number, the largest of all layers. \throws Error{bad_data} if a layer's shards do
/// not fit its weights.
std::int64_t images_of(const Network& network, const store::FeatureSet& features) {
  std::int64_t images = 0;
  for (const auto& layer : network.layers) {
    const auto& found = features.layer(layer.name);
    const auto wrong = [&](const std::string& what) {
      return Error(ExitCode::bad_data, "the shards of layer " + layer.name + " " + what);
    };
    if (!features.has(layer.name, store::Quantity::outputs)) throw wrong("have no Y: write the layer's outputs");
    if (found.inputs != layer.cols || found.outputs != layer.rows)
      throw wrong("have " + std::to_string(found.outputs) + " x " + std::to_string(found.inputs) +
                  " values per sample, its weights are " + std::to_string(layer.rows) + " x " +
                  std::to_string(layer.cols));
    const auto samples = features.samples(layer.name);
    if (!samples.empty() && samples.front() < 0) throw wrong("have a negative sample number");
    const auto here = samples.empty() ? 0 : image_of(samples.back(), found) + 1;
    if (here < fewest_images)
      throw wrong("have samples of " + std::to_string(here) + " images, expected at least " +
                  std::to_string(fewest_images));
    images = std::max(images, here);
  }
  return images;
}

} // namespace

Network own_network(const Communicator& comm, const Configuration& config) {
  Network network;
  Sha256 files;
  on_root(comm, [&] {
    for (const auto& layer : config.layers) files.update(sha256_of_file(layer.weights.absolute) + "\n");
  });
  network.sha256 = comm.broadcast_text(files.hex());
  network.model.ir_version = 8;
  network.model.opsets[""] = 13;
  network.model.name = "layers";
  for (const auto& layer : config.layers) add_layer(network.model, layer, load_weights(comm, layer));
  network.layers = graph::find_layers(network.model);
  require(network.layers.size() == config.layers.size(), "a layer of one's own became no layer of the model");
  for (std::size_t i = 0; i < network.layers.size(); ++i)
    network.layers[i].activation = activation_named(config.layers[i].activation);
  set_grouping(network.layers, config.method.grouping);
  return network;
}

ExitCode compress_own_layers(const Communicator& comm, const Configuration& config, const Network& network,
                             const BudgetPoint& point, const OutputFiles& files, Progress& progress,
                             JobCheckpoints& checkpoints) {
  StageClock clock;
  auto dense = dense_reasons(network, config);
  check_weights(network, config, dense, progress);
  const auto limit = point.limit_of(Resource::parameters);
  const auto features = clock.measure("calibrate", [&] { return open_own_features(comm, config); });
  auto own = config; // how many images there are and what inputs are fitted is what the shards say
  own.calibration.inputs = CalibrationInputs::original;
  own.calibration.images = collectively(comm, [&] { return images_of(network, features); });
  const auto row_grid = ProcessGrid::row(comm);
  auto allotment = no_limit(network);
  if (limit)
    clock.measure("budget", [&] {
      allotment = config.method.kind == MethodKind::relaxed
                      ? find_shared_factor(comm, row_grid, network, dense, features, own, *limit, progress, checkpoints)
                      : allot_uniformly(network, dense, *limit);
    });
  Checkpoints::Kept kept_allotment;
  if (config.method.kind == MethodKind::relaxed && limit) kept_allotment = keep_shared_factor(checkpoints, allotment);
  const auto result = clock.measure("solve", [&] {
    return sweep(comm, row_grid, network, dense, allotment, features, nullptr, own, limit, files.features(), progress,
                 checkpoints);
  });
  const auto unverified = files.unverified();
  clock.measure("export", [&] {
    on_root(comm, [&] {
      std::filesystem::create_directories(unverified.folder);
      write_factors(result, std::nullopt, network, configuration_hash(config), unverified.factors());
    });
  });
  clock.measure("verify", [&] { verify_factors(comm, result, features, unverified.factors()); });
  auto report = make_report(comm, network, result, std::nullopt, "", clock, point, allotment);
  report["run"].update(checkpoints.json());
  on_root(comm, [&] {
    write_file_atomically(unverified.report(), json_text(report));
    publish(unverified, files);
    FileHashes hashes;
    write_file_atomically(files.manifest(), json_text(make_manifest(comm, config, files, {point}, hashes)));
  });
  checkpoints.finish();
  if (comm.is_root()) std::cout << report_table(report) << std::flush;
  const bool is_over = limit && report["model"]["parameters_after"].get<std::int64_t>() > *limit;
  return is_over || result.is_failure_tolerated ? ExitCode::target_missed : ExitCode::done;
}

} // namespace slr::run
