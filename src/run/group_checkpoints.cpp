#include "group_checkpoints.hpp"

#include "layer_state.hpp"
#include "slr/base/file.hpp"
#include "slr/mpi/packed_state.hpp"

namespace slr::run {

std::string packed_outcome(const LayerOutcome& outcome) {
  PackedState state;
  save_outcome(state, "layer", outcome);
  return state.bytes();
}

LayerOutcome unpacked_outcome(const std::string& bytes, const Network& network, std::size_t index) {
  UnpackedState state(bytes);
  const auto& layer = network.layers.at(index);
  auto outcome = restore_outcome(state, "layer", layer);
  outcome.name = layer.name;
  return outcome;
}

std::filesystem::path LayerFiles::file(std::size_t index) const {
  return folder_ / (kind_ + "-" + std::to_string(index) + ".state");
}

void LayerFiles::save(std::size_t index, const std::string& bytes) const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) throw Error(ExitCode::io, "cannot create " + folder_.string() + ": " + error.message());
  write_file_atomically(file(index), bytes);
}

void LayerFiles::remove(std::size_t index) const {
  std::filesystem::remove(file(index));
}

std::string LayerFiles::load(const Communicator& comm, std::size_t index) const {
  std::string bytes;
  on_root(comm, [&] {
    if (std::filesystem::exists(file(index))) bytes = read_file(file(index));
  });
  return comm.broadcast_text(bytes);
}

void OutcomeFiles::save(std::size_t index, const LayerOutcome& outcome) const {
  files_.save(index, packed_outcome(outcome));
}

std::vector<std::optional<LayerOutcome>> OutcomeFiles::load(const Communicator& comm, const Network& network) const {
  std::vector<std::optional<LayerOutcome>> outcomes(network.layers.size());
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const auto bytes = files_.load(comm, i);
    if (bytes.empty()) continue;
    try {
      outcomes[i] = unpacked_outcome(bytes, network, i);
    } catch (const Error&) { // damaged: it is solved again
    }
  }
  return outcomes;
}

void share_outcomes(const NodeGroups& groups, const Network& network, const std::vector<Turn>& turns,
                    std::vector<std::optional<LayerOutcome>>& outcomes) {
  for (const auto& turn : turns) {
    std::string bytes;
    if (turn.group == groups.mine() && outcomes[turn.job]) bytes = packed_outcome(*outcomes[turn.job]);
    bytes = groups.world().broadcast_text(bytes, groups.members(turn.group).front());
    outcomes[turn.job] = unpacked_outcome(bytes, network, turn.job); // the same floats where it was solved
  }
}

} // namespace slr::run
