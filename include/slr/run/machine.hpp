#pragma once
/// \file
/// What a job's layers take, in counted work and in seconds of the machine that it runs on.
#include "slr/plan/assignment.hpp"
#include "slr/plan/forecast.hpp"
#include "slr/run/layer_work.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/sweep.hpp"

namespace slr::run {

/// The rates of this machine with all ranks at work: products of a basis with samples from memory and of 512 x 512
/// matrices, sums in double precision of values from memory, sums of 1 MB over all ranks; of several times the one in
/// the middle. Collective, some tenths of a second.
[[nodiscard]] MachineRates measure_machine(const Communicator& comm);
/// Those kept in the output folder, else measured now and kept there; for forecasts alone. Collective.
[[nodiscard]] MachineRates open_machine(const Communicator& comm, const OutputFiles& files);
/// Those of the folder, if there are any. Local. \throws Error{bad_data}
[[nodiscard]] std::optional<MachineRates> read_machine(const OutputFiles& files);

/// The split of layer i as far as it is known: where it is open, low rank alone of the size that is allotted.
[[nodiscard]] Split split_of(const Network& network, const Allotment& allotment, std::size_t i);
/// Seconds of every layer on groups of these sizes, none for layers that stay dense. Local.
[[nodiscard]] JobTimes layer_times(const Network& network, const std::vector<std::string>& dense_reasons,
                                   const Allotment& allotment, const Configuration& config, Solution solution,
                                   const std::vector<int>& ranks_of_group, const MachineRates& machine);

} // namespace slr::run
