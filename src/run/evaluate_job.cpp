#include "first_stages.hpp"

#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/job.hpp"
#include "slr/run/json_text.hpp"

#include <iostream>

namespace slr::run {

ExitCode run_evaluate(const Communicator& comm, const EvaluateOptions& options) {
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_evaluate);
  const auto progress = make_progress(comm);
  const auto path = [&](const std::string& given) {
    return given.empty() ? config.model.absolute : std::filesystem::absolute(given);
  };
  const auto candidate = load_network(comm, path(options.model));
  std::optional<Network> reference;
  if (!options.reference.empty()) reference = load_network(comm, path(options.reference));
  const auto feed = open_feed(comm, image_source(config.data.validation), config, candidate);

  std::vector<float> inputs, logits;
  EvaluationSink sink;
  if (!options.dump_inputs.empty() || !options.dump_logits.empty())
    sink = [&](const infer::Array& in, const infer::Array& out) {
      inputs.insert(inputs.end(), in.data.begin(), in.data.end());
      logits.insert(logits.end(), out.data.begin(), out.data.end());
    };
  const auto accuracy =
      evaluate(comm, candidate, reference ? &*reference : nullptr, feed, feed.size(), {}, *progress, sink);
  const auto dump = [&](const std::string& file, const std::vector<float>& mine) {
    if (file.empty()) return;
    const auto all = comm.gather(std::span<const float>(mine));
    on_root(comm, [&] {
      write_file_atomically(file, {reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float)});
    });
  };
  dump(options.dump_inputs, inputs);
  dump(options.dump_logits, logits);
  const auto json = plain_json(accuracy);
  if (!options.json.empty()) on_root(comm, [&] { write_file_atomically(options.json, json_text(json)); });
  if (comm.is_root()) std::cout << json_text(json) << std::flush;
  return ExitCode::done;
}

} // namespace slr::run
