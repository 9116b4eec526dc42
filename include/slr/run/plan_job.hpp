#pragma once
/// \file
/// `slr_compress --plan`: what a job would do, without doing it.
#include "slr/run/budget.hpp"
#include "slr/run/machine.hpp"
#include "slr/run/output_folder.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slr::run {

/// One compression of a job.
struct PlanItem {
  std::string name; ///< of a batch's item, else empty
  const Network& network;
  std::vector<std::string> dense_reasons;
  std::vector<BudgetPoint> points;
  const Configuration& config;
};

/// The plan as text. Where an earlier start of the same configuration left its curves in the output folder, the
/// structure of every layer per point of the budget and the predicted KL divergence; else the costs alone, for an even
/// split, which it says. Beside it the time and memory per rank of each layer, and which group does it when, on ranks
/// that share nodes as given: counted operations over rates of a machine, those of the output folder or else those
/// measured now. Reads, writes nothing. Local, on one rank. \throws Error as `allot` and `choose_groups`.
[[nodiscard]] std::string plan_text(const std::vector<PlanItem>& items, const Configuration& config,
                                    const std::vector<int>& node_of_rank, const std::optional<MachineRates>& machine,
                                    const MachineRates& measured);

} // namespace slr::run
