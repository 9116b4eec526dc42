#include "slr/run/configuration.hpp"

#include "schema.hpp"
#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"

#include <algorithm>

namespace slr::run {
namespace {

[[noreturn]] void refuse_at(const Configuration& config, const std::string& key, const std::string& sentence) {
  throw Error(ExitCode::configuration, config.where(key) + ": " + sentence);
}

/// One `--set key=value` put into the tree.
void set_override(Tree& root, const std::string& text, const std::filesystem::path& current) {
  const auto equals = text.find('=');
  const auto key = text.substr(0, equals);
  if (equals == std::string::npos || key.empty() || key.front() == '.' || key.back() == '.' ||
      key.find("..") != std::string::npos)
    throw Error(ExitCode::usage,
                "--set " + printable(text, 80) + ": expected KEY=VALUE, as in --set budget.parameters=4.9");
  const auto source = std::make_shared<const Source>(Source{"--set " + printable(text, 80), current, false});
  set_at(root, key, parse_yaml(text.substr(equals + 1), source));
}

/// What no single value shows.
void check_whole(const Configuration& config) {
  if (!config.model.empty() && !config.layers.empty())
    refuse_at(config, "layers", "both model and layers are given, expected one of them");
  for (const auto* name : {"calibration", "validation"}) {
    const auto key = std::string("data.") + name;
    const auto& source = *name == 'c' ? config.data.calibration : config.data.validation;
    if (!source.labels.empty() && !source.list.empty())
      refuse_at(config, key + ".list", "both " + key + ".labels and .list are given, expected one of them");
    if (source.crop && source.resize && *source.crop > *source.resize)
      refuse_at(config, key + ".crop",
                key + ".crop is " + std::to_string(*source.crop) + ", expected at most " + key + ".resize, which is " +
                    std::to_string(*source.resize));
  }
  const auto& preprocess = config.data.preprocess;
  if (config.refine.mixup && config.refine.optimizer == refine::Optimizer::lmvm)
    refuse_at(config, "refine.mixup", "mixtures go with mini-batches (refine.optimizer: adam or white_adam), not lmvm");
  if (preprocess.mean.size() != preprocess.deviation.size() && preprocess.mean.size() > 1 &&
      preprocess.deviation.size() > 1)
    refuse_at(config, "data.preprocess.std", "data.preprocess.mean and .std have different numbers of channels");
  const auto count = config.data.calibration.count;
  if (count && *count < config.calibration.images)
    refuse_at(config, "calibration.images",
              "calibration.images is " + std::to_string(config.calibration.images) +
                  ", but data.calibration.count gives only " + std::to_string(*count));
}

void check_required(const Configuration& config, const Tree& tree, Require require) {
  const auto miss = [&](const std::string& key, const std::string& expected) {
    throw Error(ExitCode::configuration, config.source_name + ": " + key + " is missing, expected " + expected);
  };
  const bool has_own_layers = !config.layers.empty();
  if (requires_any(require, Require::model) && config.model.empty()) miss("model", "the path of an ONNX file");
  if (requires_any(require, Require::model_or_layers) && config.model.empty() && !has_own_layers)
    miss("model", "the path of an ONNX file");
  if (requires_any(require, Require::calibration) && !has_own_layers && !config.data.calibration.is_given())
    miss("data.calibration", "the images to calibrate on, a path or {images: PATH, ...}");
  if (requires_any(require, Require::validation) && !config.data.validation.is_given())
    miss("data.validation", "labelled images, a path or {images: PATH, ...}");
  if (requires_any(require, Require::preprocess) && !has_own_layers) {
    const auto* data = tree.find("data");
    const auto* preprocess = data ? data->find("preprocess") : nullptr;
    if (!preprocess || preprocess->kind == Tree::Kind::null)
      miss("data.preprocess", "{scale: S, mean: M, std: D} as the network was trained");
  }
  if (requires_any(require, Require::output) && config.output.empty()) miss("output", "the folder of the results");
}

/// Parts of an image source without images would be read by nobody.
void check_sources(const Configuration& config) {
  for (const auto& [key, place] : config.origins) {
    const bool is_calibration = key.starts_with("data.calibration.");
    if (!is_calibration && !key.starts_with("data.validation.")) continue;
    const auto& source = is_calibration ? config.data.calibration : config.data.validation;
    if (!source.is_given())
      throw Error(ExitCode::configuration, place + ": " + key + " is given without " + key.substr(0, key.rfind('.')) +
                                               ".images, expected the images too");
  }
}

} // namespace

std::string Configuration::where(const std::string& key) const {
  const auto at = origins.find(key);
  return at == origins.end() ? source_name : at->second;
}

Configuration parse_configuration(const std::string& text, const std::string& name, const std::filesystem::path& folder,
                                  std::span<const std::string> overrides, const std::filesystem::path& current,
                                  Require require) {
  const auto shown = printable(name, 200);
  auto tree = parse_yaml(text, std::make_shared<const Source>(Source{shown, folder, true}));
  if (tree.kind != Tree::Kind::mapping && tree.kind != Tree::Kind::null)
    refuse(tree.place, "this is " + words_for(tree) + ", expected a mapping of keys");
  for (const auto& each : overrides) set_override(tree, each, current);

  Configuration config;
  config.source_name = shown;
  const auto place_of = [&](const std::string& key) {
    const Tree* node = &tree;
    for (std::size_t begin = 0; node->kind == Tree::Kind::mapping;) {
      const auto dot = key.find('.', begin);
      const auto* child = node->find(key.substr(begin, dot - begin));
      if (!child) break;
      node = child;
      if (dot == std::string::npos) break;
      begin = dot + 1;
    }
    return node->place.words();
  };
  for (const auto* given : apply(tree, config)) config.origins[given->key] = place_of(given->key);
  check_sources(config);
  check_required(config, tree, require);
  check_whole(config);
  return config;
}

Configuration load_configuration(const Communicator& comm, const std::filesystem::path& file,
                                 std::span<const std::string> overrides, Require require) {
  std::string text, folder, current;
  on_root(comm, [&] {
    std::error_code error;
    const auto here = std::filesystem::current_path(error);
    if (error) throw Error(ExitCode::io, "the current folder cannot be read: " + error.message());
    current = here.string();
    folder = (here / file).lexically_normal().parent_path().string();
    try {
      text = read_file(file, yaml_bytes_limit);
    } catch (const Error& problem) {
      throw problem.code() == ExitCode::bad_data ? Error(ExitCode::configuration, problem.what()) : problem;
    }
  });
  text = comm.broadcast_text(text);
  folder = comm.broadcast_text(folder);
  current = comm.broadcast_text(current);
  return collectively(comm,
                      [&] { return parse_configuration(text, file.string(), folder, overrides, current, require); });
}

} // namespace slr::run
