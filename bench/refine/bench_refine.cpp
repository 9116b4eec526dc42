// The refinement's optimisers on equal passes, from one compressed network: loss on the selection images, accuracy and
// KL on data.validation, time; and what a pass costs. Alone or under mpirun:
//   bench_refine configs/fashion_mnist.yaml --model run/fashion_mnist/compressed.onnx --epochs 10 --optimizer adam lmvm
#include "slr/graph/count.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/session.hpp"
#include "slr/run/evaluate.hpp"
#include "slr/run/refine_stage.hpp"

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

struct Options {
  std::string config, model;
  std::int64_t images = 0;
  std::vector<std::int64_t> epochs;
  std::vector<std::string> optimizers;
  std::vector<double> rates, proximals;
  std::vector<std::int64_t> batches;
  bool dense = false;
};

void run_one(const Communicator& comm, const run::Configuration& config, const run::Network& original,
             const run::Network& compressed, const run::ImageFeed& feed, const run::ImageFeed& validation,
             const std::vector<run::LayerOutcome>& outcomes) {
  const auto progress = run::make_visible_progress({[](std::string_view) {}, false, {}, {}, 5, 5});
  run::SweepResult result{compressed.model, outcomes, false};
  const double start = cpu_seconds();
  const auto refined = run::refine_network(comm, original, feed, config, result, *progress);
  const double cpu = cpu_seconds() - start;
  auto network = compressed;
  network.model = result.model;
  const auto accuracy = run::evaluate(comm, network, &original, validation, validation.size(), {}, *progress);
  if (!comm.is_root() || !refined) return;
  std::printf("%s\n", nlohmann::ordered_json{{"epochs", config.refine.epochs},
                                             {"proximal", config.refine.proximal.value_or(-1)},
                                             {"images", refined->images},
                                             {"selection_before", refined->result.selection_loss_before},
                                             {"selection_after", refined->result.selection_loss_after},
                                             {"best_epoch", refined->result.best_epoch},
                                             {"kl_before", refined->loss_before},
                                             {"kl_after", refined->loss_after},
                                             {"top1", accuracy.top1.value_or(0)},
                                             {"top1_original", accuracy.reference_top1.value_or(0)},
                                             {"kl", accuracy.kl.value_or(0)},
                                             {"ranks", comm.size()},
                                             {"seconds", refined->seconds},
                                             {"cpu_seconds_rank_0", cpu}}
                          .dump()
                          .c_str());
  if (std::getenv("CURVE"))
    for (auto& e : refined->result.epochs) std::printf("  %.5f %.5f\n", e.fit_loss, e.selection_loss);
  std::fflush(stdout);
}

} // namespace

int main(int argc, char** argv) {
  const MpiSession session(argc, argv);
  const Communicator comm(MPI_COMM_WORLD);
  std::string config_file, model;
  std::vector<std::string> overrides;
  po::options_description words("Options");
  words.add_options()("config", po::value(&config_file)->required(), "configuration of the run")(
      "model", po::value(&model)->required(), "its compressed.onnx")("set", po::value(&overrides)->composing(),
                                                                     "key=value, as slr_compress");
  po::positional_options_description positions;
  positions.add("config", 1);
  po::variables_map values;
  try {
    po::store(po::command_line_parser(argc, argv).options(words).positional(positions).run(), values);
    po::notify(values);
    const auto config = run::load_configuration(comm, config_file, overrides, run::required_by_compress);
    const auto original = run::load_network(comm, config.model.absolute);
    const auto compressed = run::load_network(comm, model);
    const run::ImageFeed feed(run::image_source(config.data.calibration), config.data.preprocess, original);
    const run::ImageFeed validation(run::image_source(config.data.validation), config.data.preprocess, original);
    run_one(comm, config, original, compressed, feed, validation, outcomes_of(original, compressed));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
