#include "slr/run/refine_stage.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/refine/objective.hpp"
#include "slr/run/features.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>

namespace slr::run {
namespace {

/// What the nodes that replace a layer are called behind its name.
constexpr std::array parts{"", "/lowrank_v", "/lowrank_u", "/kept", "/add"};

/// For every node whether the value depends on it.
std::vector<bool> nodes_behind(const graph::Model& model, const std::string& value) {
  std::set<std::string> wanted{value};
  std::vector<bool> needed(model.nodes.size());
  for (std::size_t i = model.nodes.size(); i-- > 0;) {
    const auto& node = model.nodes[i];
    needed[i] =
        std::any_of(node.outputs.begin(), node.outputs.end(), [&](const auto& o) { return wanted.contains(o); });
    if (needed[i]) wanted.insert(node.inputs.begin(), node.inputs.end());
  }
  return needed;
}

/// The images of one role in the first part of a feed, which has 10 images for every 8 fitted ones: at most so many.
refine::Examples::Source images_of_role(const ImageFeed& feed, Role role, std::int64_t part, std::int64_t most) {
  std::vector<std::int64_t> numbers;
  for (std::int64_t i = 0; i < part; ++i)
    if (role_of_image(i) == role && std::ssize(numbers) < most) numbers.push_back(i);
  refine::Examples::Source source;
  source.images = std::ssize(numbers);
  source.read = [&feed, numbers](std::int64_t first, std::int64_t count) {
    infer::Array all;
    for (std::int64_t i = first, run = 1; i < first + count; i += run) {
      // Neighbours in the file are read together.
      const auto number = [&](std::int64_t k) { return numbers[static_cast<std::size_t>(k)]; };
      for (run = 1; i + run < first + count && number(i + run) == number(i) + run;) ++run;
      auto batch = feed.read(number(i), run).input;
      all.data.insert(all.data.end(), batch.data.begin(), batch.data.end());
      all.dims = std::move(batch.dims);
    }
    all.dims[0] = count;
    return all;
  };
  return source;
}

/// How many images of the feed belong to the refinement.
std::int64_t part_of_feed(const ImageFeed& feed, std::int64_t fit_images) {
  constexpr std::int64_t fitted_of_ten = 8;
  return std::min(feed.size(), (fit_images + fitted_of_ten - 1) / fitted_of_ten * 10);
}

/// Logits have one dimension; everything else is compared by its squared error.
infer::Loss loss_for(const graph::Dims& outputs) {
  const bool is_list = !outputs.empty() && outputs[0] > 1 && graph::element_count(outputs) == outputs[0];
  return is_list ? infer::Loss::kullback_leibler : infer::Loss::squared_error;
}

refine::Settings settings_of(const Configuration& config) {
  refine::Settings settings;
  settings.epochs = config.refine.epochs;
  settings.seed = static_cast<std::uint64_t>(config.calibration.seed);
  settings.optimizer = config.refine.optimizer;
  settings.mixes = config.refine.mixup;
  if (config.refine.proximal) settings.proximal = *config.refine.proximal;
  return settings;
}

/// The mean loss of a network on images.
double loss_of(const Communicator& comm, const refine::Problem& problem, const refine::Examples& examples) {
  auto tape = collectively(comm, [&] { return refine::tape_of(problem); });
  return refine::Objective(comm, tape, examples).loss();
}

/// The name of a weight within its layer: "lowrank_u.weight" of "conv1/lowrank_u.weight".
std::map<std::string, std::map<std::string, store::RefinedWeight>>
weights_by_layer(const graph::Model& model, const std::vector<std::string>& trained, const SweepResult& result) {
  std::map<std::string, std::map<std::string, store::RefinedWeight>> weights;
  for (const auto& layer : result.layers) {
    if (!layer.is_compressed) continue;
    for (const auto& name : trained) {
      const bool is_own = name.size() > layer.name.size() && name.starts_with(layer.name) &&
                          (name[layer.name.size()] == '/' || name[layer.name.size()] == '.');
      if (!is_own) continue;
      const auto& tensor = model.initializers.at(name);
      const auto values = tensor.floats();
      weights[layer.name][name.substr(layer.name.size() + 1)] = {tensor.dims, {values.begin(), values.end()}};
    }
  }
  return weights;
}

/// What an earlier start had made of the network.
RefineOutcome restore_refined(StateReader& from, const std::vector<std::string>& trained, SweepResult& result) {
  RefineOutcome outcome;
  outcome.trained = trained;
  const auto counts = from.get<std::int64_t>("counts");
  const auto figures = from.get<double>("figures"), fit = from.get<double>("fit"),
             selection = from.get<double>("selection");
  outcome.is_accepted = outcome.result.is_better = counts.at(0) != 0;
  outcome.images = counts.at(1);
  outcome.result.best_epoch = counts.at(2);
  outcome.result.stop_reason = static_cast<refine::StopReason>(counts.at(3));
  outcome.loss_before = figures.at(0);
  outcome.loss_after = figures.at(1);
  outcome.result.selection_loss_before = figures.at(2);
  outcome.result.selection_loss_after = figures.at(3);
  outcome.seconds = figures.at(4);
  for (std::size_t i = 0; i < fit.size(); ++i) outcome.result.epochs.push_back({fit[i], selection.at(i)});
  if (!outcome.is_accepted) return outcome;
  for (std::size_t i = 0; i < trained.size(); ++i) {
    auto& tensor = result.model.initializers.at(trained[i]);
    tensor = graph::Tensor::of_floats(tensor.dims, from.get<float>("weight-" + std::to_string(i)));
  }
  outcome.result.model = result.model;
  outcome.weights = weights_by_layer(result.model, trained, result);
  return outcome;
}

} // namespace

Checkpoints::Kept keep_refined(Checkpoints& checkpoints, const std::optional<RefineOutcome>& outcome) {
  if (!outcome) return {};
  return checkpoints.keep("refined", [&outcome](StateWriter& to) {
    const auto& result = outcome->result;
    std::vector<double> fit, selection;
    for (const auto& epoch : result.epochs) {
      fit.push_back(epoch.fit_loss);
      selection.push_back(epoch.selection_loss);
    }
    to.put_integers("counts", {outcome->is_accepted ? 1 : 0, outcome->images, result.best_epoch,
                               static_cast<std::int64_t>(result.stop_reason)});
    to.put_doubles("figures", {outcome->loss_before, outcome->loss_after, result.selection_loss_before,
                               result.selection_loss_after, outcome->seconds});
    to.put_doubles("fit", fit);
    to.put_doubles("selection", selection);
    for (std::size_t i = 0; outcome->is_accepted && i < outcome->trained.size(); ++i)
      to.put("weight-" + std::to_string(i), result.model.initializers.at(outcome->trained[i]).floats());
  });
}

std::vector<std::string> trained_weights(const graph::Model& model, const std::string& output,
                                         const std::vector<graph::Layer>& layers,
                                         const std::vector<LayerOutcome>& outcomes, bool has_dense) {
  std::set<std::string> nodes, dense;
  for (const auto& outcome : outcomes)
    for (const char* part : parts)
      if (outcome.is_compressed) {
        nodes.insert(outcome.name + part);
        nodes.insert(outcome.name + part + "/bias"); // behind a MatMul
      }
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (has_dense && !outcomes[i].is_compressed) dense.insert(layers[i].weight);
  std::vector<std::string> trained;
  const auto needed = nodes_behind(model, output);
  for (std::size_t n = 0; n < model.nodes.size(); ++n) {
    const auto& node = model.nodes[n];
    const bool is_linear = node.op == "Conv" || node.op == "Gemm" || node.op == "MatMul";
    const bool is_dense = is_linear && node.inputs.size() > 1 && dense.contains(node.inputs[1]);
    if (!needed[n] || !(is_linear || node.op == "Add") || !(nodes.contains(node.name) || is_dense)) continue;
    for (const auto& input : node.inputs) {
      const auto tensor = model.initializers.find(input);
      const bool is_weight = tensor != model.initializers.end() && tensor->second.type == graph::ElementType::float32;
      if (is_weight && std::find(trained.begin(), trained.end(), input) == trained.end()) trained.push_back(input);
    }
  }
  return trained;
}

std::optional<RefineOutcome> refine_network(const Communicator& comm, const Network& network, const ImageFeed& feed,
                                            const Configuration& config, SweepResult& result, Progress& progress,
                                            Checkpoints& checkpoints) {
  const auto start = std::chrono::steady_clock::now();
  const auto trained =
      trained_weights(result.model, network.logits, network.layers, result.layers, config.refine.dense);
  const std::int64_t part = part_of_feed(feed, config.refine.images);
  if (trained.empty() || part < 3) return std::nullopt;
  if (const auto saved = checkpoints.take("refined")) return restore_refined(*saved, trained, result);
  const Checkpoints::Unit unit(checkpoints, "refine");
  progress.stage("original outputs", 0);
  const refine::Reference reference{network.model, network.input, network.logits};
  const auto examples = [&](Role role) {
    return refine::Examples(comm, images_of_role(feed, role, part, config.refine.images), reference,
                            role == Role::fit && config.refine.mixup);
  };
  const auto fit = examples(Role::fit), selection = examples(Role::selection), report = examples(Role::report);
  const auto& shape = network.input_shape;
  const auto problem_of = [&](const graph::Model& model) {
    return refine::Problem{model,          network.input,
                           network.logits, {shape.channels, shape.height, shape.width},
                           trained,        loss_for(fit.target_dims())};
  };
  RefineOutcome outcome;
  outcome.images = fit.images();
  outcome.trained = trained;
  auto settings = settings_of(config);
  settings.checkpoints = &checkpoints;
  const auto problem = problem_of(result.model);
  outcome.loss_before = outcome.loss_after = loss_of(comm, problem, report);
  bool has_begun = false;
  outcome.result = refine::refine(comm, problem, fit, selection, settings, [&](const refine::Progress& now) {
    if (!has_begun) progress.stage("refine", now.epochs * now.batches);
    has_begun = true;
    progress.advance(now.epoch * now.batches + now.batch);
  });
  outcome.is_accepted = outcome.result.is_better;
  if (outcome.is_accepted) {
    outcome.loss_after = loss_of(comm, problem_of(outcome.result.model), report);
    result.model = outcome.result.model;
    outcome.weights = weights_by_layer(result.model, trained, result);
  }
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

nlohmann::ordered_json refine_json(const std::optional<RefineOutcome>& outcome) {
  if (!outcome) return nullptr;
  const auto& result = outcome->result;
  nlohmann::ordered_json json{{"kl_before", outcome->loss_before},
                              {"kl_after", outcome->loss_after},
                              {"epochs", result.epochs.size()},
                              {"best_epoch", result.best_epoch},
                              {"images", outcome->images},
                              {"accepted", outcome->is_accepted},
                              {"stop_reason", refine::to_text(result.stop_reason)},
                              {"selection_before", result.selection_loss_before},
                              {"selection_after", result.selection_loss_after},
                              {"curve", nlohmann::ordered_json::array()},
                              {"seconds", outcome->seconds}};
  for (const auto& epoch : result.epochs)
    json["curve"].push_back({{"fit", epoch.fit_loss}, {"selection", epoch.selection_loss}});
  return json;
}

} // namespace slr::run
