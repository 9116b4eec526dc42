#pragma once
// Work on images that each rank does by itself, batch after batch, and that can be saved and stopped in between.
#include "slr/mpi/agree.hpp"
#include "slr/mpi/checkpoints.hpp"
#include "slr/run/network.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <vector>

namespace slr::run {

/// The images of a share, without those of a list, both increasing. Local.
[[nodiscard]] inline std::vector<std::int64_t> images_left(Share share, const std::vector<std::int64_t>& done) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(share.count)), left;
  std::iota(all.begin(), all.end(), share.first);
  std::set_difference(all.begin(), all.end(), done.begin(), done.end(), std::back_inserter(left));
  return left;
}

/// Calls `action(images)` for this rank's images, `at_once` of them at a time; the ranks poll `checkpoints` together
/// after every round. What the action changed in a round that failed or was stopped stays. Collective; the action
/// itself must not communicate. \throws Error{stopped}, what the action throws
template <class Action>
void in_batches(const Communicator& comm, std::span<const std::int64_t> images, std::int64_t at_once,
                Checkpoints* checkpoints, Action&& action) {
  const auto rounds = comm.allreduce_value((std::ssize(images) + at_once - 1) / at_once, Reduction::max);
  for (std::int64_t round = 0; round < rounds; ++round) {
    const auto first = std::min(round * at_once, std::ssize(images));
    const auto batch = images.subspan(static_cast<std::size_t>(first),
                                      static_cast<std::size_t>(std::min(at_once, std::ssize(images) - first)));
    const auto work = [&] {
      collectively(comm, [&] {
        if (checkpoints) checkpoints->stop_if_asked();
        if (!batch.empty()) action(batch);
      });
    };
    checkpoints ? checkpoints->guard(work) : work();
    poll(checkpoints);
  }
}

} // namespace slr::run
