#pragma once
/// \file
/// `slr_compress --plan`: what a job would do, without doing it.
#include "slr/run/budget.hpp"
#include "slr/run/output_folder.hpp"

#include <string>

namespace slr::run {

/// The plan as text. Where an earlier start of the same configuration left its curves in the output folder, the
/// structure of every layer per point of the budget and the predicted KL divergence; else the costs alone, for an even
/// split, which it says. Beside it the time and memory per rank of each layer on `ranks` ranks: counted operations over
/// rates of this machine's matrix products, which are measured now and good for the forecast only. Reads, writes
/// nothing. Local, on one rank. \throws Error as `allot`.
[[nodiscard]] std::string plan_text(const Network& network, const std::vector<std::string>& dense_reasons,
                                    const std::vector<BudgetPoint>& points, const Configuration& config,
                                    std::int64_t ranks);

} // namespace slr::run
