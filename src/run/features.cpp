#include "slr/run/features.hpp"

#include "slr/graph/count.hpp"
#include "slr/infer/metrics.hpp"
#include "slr/layer/block_columns.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>

namespace slr::run {
namespace {

std::vector<std::int64_t> numbers_from(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

} // namespace

std::span<const std::int64_t> samples_of_share(const store::FeatureSet& features, const std::string& layer,
                                               Share share) {
  const auto positions = std::max<std::int64_t>(1, features.layer(layer).positions);
  const auto numbers = features.samples(layer);
  const auto begin = std::lower_bound(numbers.begin(), numbers.end(), share.first * positions);
  const auto end = std::lower_bound(begin, numbers.end(), (share.first + share.count) * positions);
  return {begin, end};
}

infer::Sampling sampling_of(const Configuration& config) {
  return {static_cast<std::uint64_t>(config.calibration.seed), config.calibration.positions};
}

std::map<std::string, infer::ArrayView> views(const std::map<std::string, infer::Array>& values) {
  return {values.begin(), values.end()};
}

std::vector<std::string> live_before(const graph::Model& model, std::size_t node) {
  // What leads to the logits or into a layer; the rest of the network need not be runnable.
  const auto logits = infer::logits_value(model);
  std::set<std::string> wanted{logits};
  std::vector<bool> is_needed(model.nodes.size(), false);
  for (std::size_t i = model.nodes.size(); i-- > 0;) {
    const auto& each = model.nodes[i];
    is_needed[i] = each.op == "Conv" || each.op == "Gemm" || each.op == "MatMul" ||
                   std::ranges::any_of(each.outputs, [&](const auto& output) { return wanted.contains(output); });
    if (is_needed[i]) wanted.insert(each.inputs.begin(), each.inputs.end());
  }
  std::set<std::string> made;
  for (const auto& input : model.inputs) made.insert(input.name);
  for (std::size_t i = 0; i < node; ++i)
    for (const auto& output : model.nodes[i].outputs) made.insert(output);
  std::set<std::string> live;
  if (made.contains(logits)) live.insert(logits);
  for (std::size_t i = node; i < model.nodes.size(); ++i)
    for (const auto& input : model.nodes[i].inputs)
      if (is_needed[i] && made.contains(input)) live.insert(input);
  return {live.begin(), live.end()};
}

std::map<std::string, infer::Array> advance_values(infer::Executor& executor,
                                                   std::map<std::string, infer::Array>& values,
                                                   const std::vector<std::string>& live) {
  std::vector<std::string> fetches;
  for (const auto& value : live)
    if (!values.contains(value)) fetches.push_back(value);
  std::map<std::string, infer::Array> next;
  if (!fetches.empty()) next = executor.run(views(values), fetches);
  for (const auto& value : live)
    if (values.contains(value)) next[value] = std::move(values[value]);
  return next;
}

WidestCut widest_cut(const Network& network, const std::vector<bool>& is_followed) {
  const auto shapes = graph::infer_shapes(network.model);
  WidestCut widest;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    if (!is_followed[i]) continue;
    std::int64_t bytes = 0;
    for (const auto& value : live_before(network.model, network.layers[i].node))
      if (const auto shape = shapes.find(value); shape != shapes.end())
        bytes += graph::element_count(shape->second) * static_cast<std::int64_t>(sizeof(float));
    if (bytes > widest.bytes) widest = {bytes, network.layers[i].name};
  }
  return widest;
}

slr::Activation solver_activation(const graph::Activation& activation) {
  slr::Activation result;
  switch (activation.kind) {
  case graph::ActivationKind::identity:
    break;
  case graph::ActivationKind::relu:
    result.type = ActivationType::relu;
    break;
  case graph::ActivationKind::leaky_relu:
    result.type = ActivationType::leaky_relu;
    break;
  case graph::ActivationKind::clip:
    result.type = ActivationType::clip;
    break;
  case graph::ActivationKind::sigmoid:
    result.type = ActivationType::sigmoid;
    break;
  case graph::ActivationKind::tanh:
    result.type = ActivationType::tanh;
    break;
  }
  result.alpha = activation.alpha;
  result.low = activation.low;
  result.high = activation.high;
  return result;
}

Frontier::Frontier(const Network& network, const ImageFeed& feed, Share share, ScratchPlace place)
    : feed_(&feed), input_(network.input), values_(std::move(place)) {
  const auto images_at_once = batch_images(network, most_images_captured_at_once);
  for (std::int64_t done = 0; done < share.count; done += images_at_once) {
    shares_.push_back({share.first + done, std::min(images_at_once, share.count - done)});
    values_.add({{network.input, feed.read(shares_.back().first, shares_.back().count).input}});
  }
}

Frontier::Frontier(std::vector<Batch> batches, ScratchPlace place) : values_(std::move(place)) {
  for (auto& batch : batches) {
    shares_.push_back({batch.first, batch.count});
    const bool is_given = !batch.values.empty();
    values_.add(std::move(batch.values));
    if (is_given && values_.is_empty(shares_.size() - 1))
      throw Error(ExitCode::io, "there is no room for the activations of " + std::to_string(batch.count) +
                                    " images, neither in calibration.memory nor in the output folder; make room there");
  }
}

std::map<std::string, infer::Array> Frontier::images_of(std::size_t batch) const {
  return {{input_, feed_->read(shares_[batch].first, shares_[batch].count).input}};
}

std::map<std::string, infer::Array> Frontier::taken(std::size_t batch) {
  return values_.is_empty(batch) && feed_ ? images_of(batch) : values_.take(batch);
}

std::vector<Frontier::Batch> Frontier::take_batches() {
  std::vector<Batch> batches;
  for (std::size_t i = 0; i < shares_.size(); ++i) batches.push_back({shares_[i].first, shares_[i].count, taken(i)});
  return batches;
}

namespace {

/// Appends the sampled patches of a batch's inputs; inputs that are not among the values are computed from them.
void append_patches(Share images, infer::Executor& executor, const HeldArrays::Arrays& values,
                    const graph::Layer& layer, const infer::Sampling& sampling, std::vector<float>& rows) {
  const auto numbers = numbers_from(images.first, images.count);
  std::vector<infer::SampleTable> tables;
  std::vector<std::vector<float>> of_uses;
  const auto take = [&](const graph::Layer& use, const infer::Array& input) {
    tables.push_back(infer::sample_batch(sampling, numbers, use.name, infer::output_map(use, input.dims)));
    of_uses.push_back(infer::patches(input, use, tables.back()));
  };
  for (const auto* use : layer.uses())
    if (const auto known = values.find(use->input); known != values.end())
      take(*use, known->second);
    else
      take(*use, executor.run(views(values), {use->input}).at(use->input));
  const auto patches = infer::interleaved(tables, std::move(of_uses));
  rows.insert(rows.end(), patches.begin(), patches.end());
}

} // namespace

std::vector<float> Frontier::inputs_of(const graph::Model& model, const std::string& name,
                                       const infer::Sampling& sampling, bool is_wanted) {
  const auto layers = graph::find_layers(model);
  const auto& layer = layer_named(layers, name);
  const auto live = live_before(model, layer.node);
  infer::Executor executor(model);
  std::vector<float> rows;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const bool is_held = !values_.is_empty(i);
    auto before = taken(i);
    std::vector<std::string> names;
    for (const auto& [value, array] : before) names.push_back(value);
    auto values = advance_values(executor, before, live);
    if (is_wanted) append_patches(shares_[i], executor, values, layer, sampling, rows);
    if (values_.put(i, values) || !is_held) continue;
    for (const auto& value : names)
      if (const auto moved = values.find(value); moved != values.end()) before[value] = std::move(moved->second);
    values_.put_back(i, std::move(before));
  }
  return rows;
}

std::vector<float> Frontier::inputs_ahead(const graph::Model& model, const std::string& name,
                                          const infer::Sampling& sampling) const {
  const auto layers = graph::find_layers(model);
  const auto& layer = layer_named(layers, name);
  infer::Executor executor(model);
  std::vector<float> rows;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const auto append = [&](const HeldArrays::Arrays& values) {
      append_patches(shares_[i], executor, values, layer, sampling, rows);
    };
    values_.is_empty(i) && feed_ ? append(images_of(i)) : values_.look_at(i, append);
  }
  return rows;
}

void write_inputs(const Communicator& comm, const Network& network, const graph::Layer& layer,
                  const store::FeatureSet& features, Share share, const std::vector<float>& rows,
                  const std::filesystem::path& folder) {
  const auto samples = samples_of_share(features, layer.name, share);
  store::ShardWriter writer(store::shard_file(store::inputs_folder(folder, layer.name), comm.rank(), comm.size()),
                            {network.sha256, features.config_hash(), comm.rank(), comm.size()});
  writer.begin_layer(features.layer(layer.name));
  writer.append(layer.name, store::Quantity::inputs, rows);
  writer.append_samples(layer.name, samples);
  writer.commit();
}

std::vector<float> inputs_in(const store::FeatureSet& shards, const std::string& layer, Share share) {
  const auto samples = samples_of_share(shards, layer, share);
  return shards.read(layer, store::Quantity::inputs, samples.data() - shards.samples(layer).data(),
                     std::ssize(samples));
}

void announce_behind(const Communicator& comm, const Network& network, const std::vector<std::string>& dense_reasons,
                     std::size_t layer, const store::FeatureSet& features, Share share) {
  using store::Quantity;
  do ++layer;
  while (layer < dense_reasons.size() && !dense_reasons[layer].empty());
  if (layer >= dense_reasons.size()) return;
  const auto& name = network.layers[layer].name;
  collectively(comm, [&] {
    const auto samples = samples_of_share(features, name, share);
    const auto first = samples.data() - features.samples(name).data();
    const bool has_original = features.has(name, Quantity::original_inputs);
    for (const auto quantity : {has_original ? Quantity::original_inputs : Quantity::inputs, Quantity::outputs})
      features.announce(name, quantity, first, std::ssize(samples));
  });
}

PreparedProblem prepare_problem(const Communicator& comm, const Network& network, const graph::Layer& layer,
                                const store::FeatureSet& features, Share share, const std::vector<float>& given,
                                std::int64_t thinning) {
  const std::int64_t n = layer.rows, k = layer.cols;
  LayerProblem problem;
  problem.name = layer.name;
  problem.rows = n;
  problem.cols = k;
  problem.group_columns = layer.group_columns();
  problem.grouping = layer.grouping;
  problem.activation = solver_activation(layer.activation);
  problem.weights.resize(static_cast<std::size_t>(n * k));
  const auto weights = graph::weight_matrix(network.model, layer);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < k; ++j)
      problem.weights[static_cast<std::size_t>(j * n + i)] = weights[static_cast<std::size_t>(i * k + j)];
  problem.bias.assign(layer.bias.begin(), layer.bias.end());

  std::vector<Role> roles;          // of this rank's samples, in their order
  std::vector<std::int64_t> blocks; // likewise the number of their block of images
  std::vector<float> original, stored, outputs;
  collectively(comm, [&] {
    using store::Quantity;
    const auto samples = samples_of_share(features, layer.name, share);
    const auto first = samples.data() - features.samples(layer.name).data();
    const auto count = static_cast<std::int64_t>(samples.size());
    const bool has_original = features.has(layer.name, Quantity::original_inputs);
    if (!has_original || (given.empty() && features.has(layer.name, Quantity::inputs)))
      stored = features.read(layer.name, Quantity::inputs, first, count);
    original = has_original ? features.read(layer.name, Quantity::original_inputs, first, count) : stored;
    outputs = features.read(layer.name, Quantity::outputs, first, count);
    for (const auto sample : samples) {
      const auto image = image_of(sample, features.layer(layer.name));
      roles.push_back(role_of_image(image));
      blocks.push_back(image / images_per_block);
    }
    require(given.empty() || given.size() == original.size(), "layer " + layer.name + ": inputs and shards differ");
  });

  const auto& inputs = given.empty() ? stored : given;

  // The original values before the activation: Z = W0 X0 + b0, in the order of the samples.
  LayerProblem reference;
  reference.name = layer.name;
  reference.rows = n;
  reference.cols = k;
  reference.fit.count = static_cast<std::int64_t>(roles.size());
  reference.fit.x = inputs.empty() ? original : std::move(original);
  const auto reference_scale = round_inputs(comm, reference);
  const auto linear = linear_values(reference, reference_scale, problem.weights, problem.bias);

  const auto& seen = inputs.empty() ? original : inputs;
  const std::array parts{&problem.fit, &problem.selection, &problem.report};
  const auto part_of = [&](std::size_t s) -> Samples* { // none: left out
    if (roles[s] == Role::fit) return blocks[s] % thinning == 0 ? &problem.fit : nullptr;
    return roles[s] == Role::selection ? &problem.selection : &problem.report;
  };
  for (std::size_t s = 0; s < roles.size(); ++s)
    if (auto* part = part_of(s)) ++part->count;
  for (auto* part : parts) { // growing lists take up to twice their size
    part->x.reserve(static_cast<std::size_t>(part->count * k));
    part->y.reserve(static_cast<std::size_t>(part->count * n));
    if (part == &problem.fit) part->linear.reserve(static_cast<std::size_t>(part->count * n));
    part->count = 0;
  }
  for (std::size_t s = 0; s < roles.size(); ++s) {
    if (s > 0 && blocks[s] != blocks[s - 1])
      for (auto* part : parts) part->block_ends.push_back(part->count);
    auto* const to = part_of(s);
    if (to == nullptr) continue;
    const auto append = [&](std::vector<float>& list, const std::vector<float>& from, std::int64_t size) {
      const auto at = from.begin() + static_cast<std::ptrdiff_t>(s) * size;
      list.insert(list.end(), at, at + size);
    };
    append(to->x, seen, k);
    append(to->y, outputs, n);
    if (to == &problem.fit) append(to->linear, linear, n);
    ++to->count;
  }
  PreparedProblem result{std::move(problem), {}};
  result.scale = round_inputs(comm, result.problem);
  return result;
}

} // namespace slr::run
