#pragma once
// Several compressions in one job.
#include "slr/base/error.hpp"
#include "slr/run/configuration.hpp"
#include "slr/run/network.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace slr::run {

/// The folder of an item below the output folder, from 0: "batch-1". Local.
[[nodiscard]] std::string batch_name(std::size_t index);

/// The configuration of every item: that of the whole with the item's keys in the place of its own, and a folder of its
/// own. A pipelined batch gives what a sequential one does, so each of its items is a sequential job. Local.
/// \throws Error{configuration} naming the item
[[nodiscard]] std::vector<Configuration> batch_items(const Configuration& config);

/// The networks of the items, each file read once. Collective.
[[nodiscard]] std::vector<std::shared_ptr<const Network>> load_networks(const Communicator& comm,
                                                                        const std::vector<Configuration>& items);

/// Does all items, each as if it was a job by itself, and writes a report over all of them: one after the other by
/// `compress_one`, or pipelined. What is finished of an earlier start is not done again. Collective; the exit code that
/// tells of a missed target if any item misses its own.
ExitCode compress_batch(const Communicator& comm, const Configuration& config, bool is_fresh,
                        std::optional<double> max_hours,
                        const std::function<ExitCode(const Configuration&)>& compress_one);

} // namespace slr::run
