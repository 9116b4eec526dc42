// A run held against its manifest and its report.
#include "inspect_parts.hpp"
#include "layer_errors.hpp"

#include "slr/base/hash.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/report.hpp"

#include <map>
#include <optional>

namespace slr::run {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

/// The hash that a manifest has for an input: of a file, or of all files of a folder.
std::string input_hash(const fs::path& path) {
  Configuration only;
  only.data.calibration.images = {path.string(), path};
  FileHashes hashes;
  return input_hashes(only, hashes).at(path.string());
}

const json* number_at(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? &*found : nullptr;
}

class RunVerification {
public:
  RunVerification(const Communicator& alone, const fs::path& manifest, const Print& print)
      : alone_(alone), manifest_file_(manifest), files_{fs::absolute(manifest).parent_path()}, print_(print),
        manifest_(read_json(manifest)) {
    if (!is_manifest(manifest_))
      throw Error(ExitCode::bad_data, manifest.string() + " is not a manifest of slr_compress");
    if (fs::is_regular_file(files_.report())) report_ = read_json(files_.report());
  }

  void run() {
    print_("\nSHA-256 against " + manifest_file_.string() + "\n");
    check_hashes("inputs", "input", input_hash);
    check_hashes("shards", "shard", sha256_of_file);
    check_hashes("outputs", "output", sha256_of_file);
    if (report_.is_null()) differs(files_.report().string() + " is missing");
    // Several results: their folders have manifests of their own.
    if (!report_.is_object() || !report_.contains("points")) {
      if (!own_layers()) stage(files_.compressed(), [&] { check_network(); });
      stage(files_.factors(), [&] { check_layers(); });
    }
    if (failures_.empty()) {
      print_("\nverified: everything is as the manifest and the report say\n");
      return;
    }
    const auto more = std::ssize(failures_) - 1;
    throw Error(ExitCode::bad_data,
                failures_.front() +
                    (more > 0 ? " (and " + counted(more, "other difference") + ", listed above)" : std::string()) +
                    ": restore the file, or run slr_compress --fresh");
  }

private:
  void differs(const std::string& sentence) { failures_.push_back(sentence); }

  /// One part of the verification; what is damaged is a difference like others and does not keep the rest from running.
  template <class Check>
  void stage(const fs::path& file, Check&& check) {
    if (!fs::is_regular_file(file)) {
      differs(file.string() + " is missing");
      return;
    }
    try {
      check();
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_data) throw;
      print_("  DIFFERENT  " + printable(error.what()) + "\n");
      differs(error.what());
    }
  }

  template <class Hash>
  void check_hashes(const char* key, const std::string& kind, Hash&& hash) {
    const auto& list = manifest_.at(key);
    if (!list.is_object()) throw Error(ExitCode::bad_data, manifest_file_.string() + ": " + key + " is no object");
    for (const auto& [name, expected] : list.items()) {
      const auto path = files_.folder / name; // the absolute paths of inputs stay as they are
      std::string verdict = "ok";
      if (!fs::is_regular_file(path) && !fs::is_directory(path)) {
        verdict = "missing";
        differs("the " + kind + " " + name + " is missing");
      } else if (json(hash(path)) != expected) {
        verdict = "DIFFERENT";
        differs("the " + kind + " " + name + " is not what " + manifest_file_.string() +
                " was written for: its SHA-256 differs");
      }
      print_("  " + verdict + std::string(11 - verdict.size(), ' ') + kind + " " + printable(name) + "\n");
    }
  }

  /// The compressed network can be read, fits together and has the counts of the report.
  void check_network() {
    const auto model = graph::read_model(files_.compressed());
    (void)graph::infer_shapes(graph::fold(model));
    const auto counts = graph::count(model);
    print_("\ncompressed.onnx against report.json\n");
    const json reported = report_.is_object() ? report_.value("model", json()) : json();
    for (const auto& [key, value] : {std::pair{"parameters_after", counts.parameters},
                                     std::pair{"macs_after", counts.macs}, std::pair{"bytes_after", counts.bytes}}) {
      const auto* expected = number_at(reported, key);
      const bool is_same = expected && *expected == value;
      print_(std::string(is_same ? "  ok         " : "  DIFFERENT  ") + key + " " + std::to_string(value) + "\n");
      if (!is_same)
        differs(files_.compressed().string() + " has " + key + " " + std::to_string(value) + ", report.json says " +
                (expected ? expected->dump() : "nothing"));
    }
  }

  void check_layers() {
    print_("\nlayer errors, computed anew from the shards and the factors\n");
    const store::FactorsReader factors(files_.factors());
    auto reported = reported_layers();
    const auto names = factors.layers();
    std::optional<store::FeatureSet> features;
    if (!names.empty()) features.emplace(open_features());
    TextTable table({"layer", "samples", "train", "stored", "held out", "stored", ""});
    std::optional<Error> damage;
    auto shown = failures_.size();
    try {
      for (const auto& name : names) {
        const auto before = failures_.size();
        const auto layer = factors.read(name);
        const auto errors = layer_errors(*features, layer);
        const auto entry = reported.extract(name);
        const json report = entry.empty() ? json() : entry.mapped();
        const auto train = check_error(layer, report, "error_train", errors.train);
        const auto heldout = check_error(layer, report, "error_heldout", errors.heldout);
        table.add({name, std::to_string(errors.train_samples) + " + " + std::to_string(errors.heldout_samples),
                   figure(errors.train), train, figure(errors.heldout), heldout,
                   failures_.size() == before ? "ok" : "DIFFERENT"});
      }
    } catch (const Error& error) {
      damage = error; // what was compared so far is shown first
    }
    print_(table.text());
    for (; shown < failures_.size(); ++shown) print_("  DIFFERENT  " + printable(failures_[shown]) + "\n");
    if (damage) throw Error(*damage);
    for (const auto& [name, layer] : reported)
      differs("report.json has errors of layer " + name + ", which factors.h5 does not have");
  }

  /// The layers of a configuration that names some instead of a model.
  [[nodiscard]] const json* own_layers() const {
    const auto& configuration = manifest_.at("configuration");
    const auto found = configuration.find("layers");
    return found != configuration.end() && found->is_array() ? &*found : nullptr;
  }

  [[nodiscard]] store::FeatureSet open_features() const {
    const auto* own = own_layers();
    if (!own) return store::FeatureSet::open(alone_, files_.features().string());
    std::vector<fs::path> shards;
    for (const auto& layer : *own) {
      if (!layer.is_object() || !layer.contains("shards") || !layer["shards"].is_string())
        throw Error(ExitCode::bad_data, manifest_file_.string() + ": a layer of its configuration names no shards");
      const auto more = store::shard_files(layer["shards"].get<std::string>());
      shards.insert(shards.end(), more.begin(), more.end());
    }
    return store::FeatureSet::open_files(alone_, std::move(shards));
  }

  /// Compares with both files; returns what factors.h5 says.
  std::string check_error(const store::LayerFactors& layer, const json& report, const char* key, double computed) {
    const auto noted = layer.certificate.find(key);
    const auto* stored = noted == layer.certificate.end() ? nullptr : std::get_if<double>(&noted->second);
    const auto* reported = number_at(report, key);
    const auto compare = [&](const char* file, std::optional<double> value) {
      if (value && is_same_error(*value, computed)) return;
      differs("layer " + layer.name + ": " + key + " is " + figure(computed) + " by the shards and factors, but " +
              file + " says " + (value ? figure(*value) : "nothing"));
    };
    compare("factors.h5", stored ? std::optional(*stored) : std::nullopt);
    compare("report.json", reported ? std::optional(reported->get<double>()) : std::nullopt);
    return stored ? figure(*stored) : "-";
  }

  /// The layers for which the report has errors: those that were compressed.
  [[nodiscard]] std::map<std::string, json> reported_layers() const {
    std::map<std::string, json> layers;
    if (!report_.is_object() || !report_.contains("layers") || !report_["layers"].is_array()) return layers;
    for (const auto& layer : report_["layers"])
      if (number_at(layer, "error_train") && layer.contains("name") && layer["name"].is_string())
        layers[layer["name"].get<std::string>()] = layer;
    return layers;
  }

  const Communicator& alone_;
  fs::path manifest_file_;
  OutputFiles files_;
  const Print& print_;
  json manifest_, report_;
  std::vector<std::string> failures_; ///< sentences without an end
};

} // namespace

void verify_run(const Communicator& alone, const fs::path& manifest, const Print& print) {
  RunVerification(alone, manifest, print).run();
}

} // namespace slr::run
