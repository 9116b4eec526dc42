#include "slr/refine/adam.hpp"

#include <cmath>
#include <numbers>

namespace slr::refine {

double OneCycle::rate(std::int64_t step) const {
  constexpr double rising_share = 0.3, first = 1.0 / 25, last = 1.0e-4;
  const double position = steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) : 1.0;
  const auto between = [](double from, double to, double share) {
    return to + (from - to) * (1 + std::cos(std::numbers::pi * share)) / 2;
  };
  return peak * (position < rising_share ? between(first, 1, position / rising_share)
                                         : between(1, last, (position - rising_share) / (1 - rising_share)));
}

void Adam::step(std::span<double> weights, std::span<const double> gradient, double rate) {
  constexpr double decay_first = 0.9, decay_second = 0.999, smallest = 1e-8;
  ++steps_;
  const auto t = static_cast<double>(steps_);
  const double scale = rate / (1 - std::pow(decay_first, t)), correction = 1 - std::pow(decay_second, t);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    first_[i] = decay_first * first_[i] + (1 - decay_first) * gradient[i];
    second_[i] = decay_second * second_[i] + (1 - decay_second) * gradient[i] * gradient[i];
    weights[i] -= scale * scales_[i] * first_[i] / (std::sqrt(second_[i] / correction) + smallest);
  }
}

void Adam::save(StateWriter& to) const {
  to.put_integers("steps", {steps_});
  to.put_doubles("first", first_);
  to.put_doubles("second", second_);
}

void Adam::restore(StateReader& from) {
  steps_ = from.get<std::int64_t>("steps").at(0);
  first_ = from.get<double>("first");
  second_ = from.get<double>("second");
  if (first_.size() != scales_.size() || second_.size() != scales_.size())
    throw Error(ExitCode::bad_data, "the checkpoint is of another refinement; use --fresh to start anew");
}

} // namespace slr::refine
