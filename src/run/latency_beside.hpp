#pragma once
// What a network takes beside its compressed layers.
#include "slr/run/curves.hpp"

namespace slr::run {

/// A layer timed alone finds its weights in the cache and pays for a call of its own: the layers' times and the
/// network's do not add up, and what is beside the layers shrinks with them. So networks with the structures that
/// `allot` chooses are timed as a whole, in turns with the original: what one takes beside its layers is what the next
/// choice reckons with, until the limit is met. Sets `curves.latency_beside` for every budget point. Collective.
/// \throws Error as `allot` where a limit cannot be met
void measure_latency_beside(const Communicator& comm, const Network& network,
                            const std::vector<std::string>& dense_reasons, const Configuration& config, Curves& curves);

} // namespace slr::run
