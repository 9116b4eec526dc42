// The refinement's optimisers on equal passes, from one compressed network: a JSON line for each with the loss on the
// selection and report images, accuracy and KL on data.validation, and time. Alone or under mpirun:
//   bench_refine configs/fashion_mnist.yaml --model run/fashion_mnist/compressed.onnx --optimizer white_adam adam lmvm
//                --set refine.epochs=10
#include "slr/run/evaluate.hpp"
#include "slr/run/refine_stage.hpp"
#include "support/bench_main.hpp"

#include <boost/program_options.hpp>

#include <cstdio>
#include <ctime>
#include <iostream>

namespace {

using namespace slr;
namespace po = boost::program_options;

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// The layers of the original as a finished run knows them: compressed if their node is no longer there as it was.
std::vector<run::LayerOutcome> outcomes_of(const run::Network& original, const run::Network& compressed) {
  std::vector<run::LayerOutcome> outcomes;
  for (const auto& layer : original.layers) {
    run::LayerOutcome outcome;
    outcome.name = layer.name;
    outcome.is_compressed = !compressed.model.initializers.contains(layer.weight);
    outcomes.push_back(outcome);
  }
  return outcomes;
}

void run_one(const Communicator& comm, const std::string& name, const run::Configuration& config,
             const run::Network& original, const run::Network& compressed, const run::ImageFeed& feed,
             const run::ImageFeed& validation, const std::vector<run::LayerOutcome>& outcomes) {
  const auto progress = run::make_visible_progress({[](std::string_view) {}, false, {}, {}, 5, 5});
  run::SweepResult result{compressed.model, outcomes, false};
  const double start = cpu_seconds();
  Checkpoints none(comm);
  const auto refined = run::refine_network(comm, original, feed, config, result, *progress, none);
  const double cpu = cpu_seconds() - start;
  auto network = compressed;
  network.model = result.model;
  const auto accuracy = run::evaluate(comm, network, &original, validation, validation.size(), {}, *progress);
  if (!comm.is_root() || !refined) return;
  nlohmann::ordered_json line{{"optimizer", name},
                              {"epochs", config.refine.epochs},
                              {"top1", accuracy.top1.value_or(0)},
                              {"top1_original", accuracy.reference_top1.value_or(0)},
                              {"kl", accuracy.kl.value_or(0)},
                              {"ranks", comm.size()},
                              {"cpu_seconds_rank_0", cpu},
                              {"refine", run::refine_json(refined)}};
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

} // namespace

int main(int argc, char** argv) {
  std::string config_file, model;
  std::vector<std::string> overrides, optimizers{"white_adam", "adam", "lmvm"};
  po::options_description words("Options");
  words.add_options()("config", po::value(&config_file)->required(), "configuration of the run");
  words.add_options()("model", po::value(&model)->required(), "its compressed.onnx");
  words.add_options()("optimizer", po::value(&optimizers)->multitoken(), "white_adam, adam, lmvm: one after the other");
  words.add_options()("set", po::value(&overrides)->composing(), "key=value, as slr_compress");
  po::positional_options_description positions;
  positions.add("config", 1);
  return slr_bench::bench_main(argc, argv, "bench_refine", MPI_COMM_WORLD, [&](const Communicator& comm) {
    po::variables_map values;
    po::store(po::command_line_parser(argc, argv).options(words).positional(positions).run(), values);
    po::notify(values);
    const auto config = run::load_configuration(comm, config_file, overrides, run::required_by_compress);
    const auto original = run::load_network(comm, config.model.absolute);
    const auto compressed = run::load_network(comm, model);
    const run::ImageFeed feed(run::image_source(config.data.calibration), config.data.preprocess, original);
    const run::ImageFeed validation(run::image_source(config.data.validation), config.data.preprocess, original);
    for (const std::string& name : optimizers) {
      auto settings = overrides;
      settings.push_back("refine.optimizer=" + name);
      const auto chosen = run::load_configuration(comm, config_file, settings, run::required_by_compress);
      run_one(comm, name, chosen, original, compressed, feed, validation, outcomes_of(original, compressed));
    }
  });
}
