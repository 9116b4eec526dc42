// What the configuration language has and this version does not do yet: the only such list. An entry goes when its
// feature comes. And what contradicts itself across keys.
#include "slr/run/configuration.hpp"

#include <algorithm>
#include <array>

namespace slr::run {
namespace {

/// A combination that is refused.
struct Refused {
  const char* key;
  bool (*is_asked_for)(const Configuration&);
  const char* instead;
};

bool is_relaxed(const Configuration& c) {
  return c.method.kind == MethodKind::relaxed;
}

bool is_own(const Configuration& c) {
  return !c.layers.empty();
}

constexpr std::array missing{
    Refused{"budget.macs", [](const Configuration& c) { return is_own(c) && !c.budget.macs.empty(); },
            "use budget.parameters with layers"},
    Refused{"budget.bytes", [](const Configuration& c) { return is_own(c) && !c.budget.bytes.empty(); },
            "use budget.parameters with layers"},
    Refused{"budget.layers", [](const Configuration& c) { return is_own(c) && !c.budget.layers.empty(); },
            "use budget.parameters with layers"},
    Refused{"budget.parameters", [](const Configuration& c) { return is_own(c) && c.budget.parameters.size() > 1; },
            "give one value with layers and run once per value"},
    Refused{"budget.macs", [](const Configuration& c) { return is_relaxed(c) && !c.budget.macs.empty(); },
            "use method.kind: constrained"},
    Refused{"budget.bytes", [](const Configuration& c) { return is_relaxed(c) && !c.budget.bytes.empty(); },
            "use method.kind: constrained"},
    Refused{"budget.layers", [](const Configuration& c) { return is_relaxed(c) && !c.budget.layers.empty(); },
            "use method.kind: constrained"},
    Refused{"budget.spread",
            [](const Configuration& c) {
              return c.budget.spread == Spread::uniform &&
                     (is_relaxed(c) || c.budget.parameters.empty() || !c.budget.macs.empty() ||
                      !c.budget.bytes.empty() || !c.budget.layers.empty());
            },
            "use network, or method.kind: constrained with budget.parameters alone"},
    Refused{"method.grouping",
            [](const Configuration& c) { return is_relaxed(c) && c.method.grouping == Grouping::filter; },
            "use method.kind: constrained"},
    Refused{"budget.latency", [](const Configuration& c) { return is_relaxed(c) && !c.budget.latency.empty(); },
            "use method.kind: constrained"},
    Refused{"pipeline.schedule",
            [](const Configuration& c) { return c.pipeline.schedule != Schedule::sequential && is_own(c); },
            "use sequential with layers"},
    Refused{"batch", [](const Configuration& c) { return !c.batch.empty() && is_own(c); },
            "run once per item with layers"},
    Refused{"calibration.files", [](const Configuration& c) { return c.calibration.files == ShardsPer::node; },
            "use rank"},
};

constexpr std::array contradictory{
    Refused{"method.least_squares",
            [](const Configuration& c) {
              return is_relaxed(c) && c.method.least_squares != LeastSquares::automatic &&
                     c.method.least_squares != LeastSquares::gram;
            },
            "the relaxed problem needs second moments, use auto or gram"},
    Refused{"pipeline.groups",
            [](const Configuration& c) {
              return c.pipeline.schedule == Schedule::sequential && c.pipeline.groups.value_or(1) > 1;
            },
            "use auto, or another pipeline.schedule: a sequential one has one group"},
    Refused{"pipeline.schedule",
            [](const Configuration& c) { return c.pipeline.schedule == Schedule::pipelined && c.batch.empty(); },
            "give a batch with it, or use sequential or parallel"},
};

template <class List>
void refuse_first(const List& list, const Configuration& config, const char* why) {
  const auto* const first =
      std::find_if(list.begin(), list.end(), [&](const Refused& each) { return each.is_asked_for(config); });
  if (first != list.end())
    throw Error(ExitCode::configuration,
                config.where(first->key) + ": this value of " + first->key + " " + why + "; " + first->instead);
}

} // namespace

void check_supported(const Configuration& config) {
  refuse_first(missing, config, "is not available in this version");
  refuse_first(contradictory, config, "does not go with the rest of the configuration");
}

} // namespace slr::run
