#pragma once
// What the opening of a set of shards needs to know of each file. Private to the module.
#include "slr/mpi/communicator.hpp"
#include "slr/store/feature_shards.hpp"

namespace slr::store {

struct ShardSummary {
  struct Layer {
    ShardReader::Layer found;
    std::vector<std::int64_t> samples; ///< empty if the file does not number them
  };
  std::int32_t file = 0; ///< position in the list
  std::optional<ShardHeader> header;
  std::vector<Layer> layers;
};

/// Looks at the files in turns, each by one rank: all summaries on every rank, in the order of the files. Collective.
/// \throws Error on every rank if a file cannot be used.
[[nodiscard]] std::vector<ShardSummary> summarize(const Communicator& comm,
                                                  const std::vector<std::filesystem::path>& files);

} // namespace slr::store
