#pragma once
/// \file
/// Adam (Kingma, Ba: Adam: A Method for Stochastic Optimization, 2015) with a one-cycle rate (Smith, Topin:
/// Super-Convergence, 2018).
#include "slr/mpi/checkpoints.hpp"

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace slr::refine {

/// The rate of a step: half a cosine up from peak / 25 during the first 30 % of the steps, half a cosine down to
/// peak / 10,000 during the others.
struct OneCycle {
  double peak = 0;
  std::int64_t steps = 1;
  /// Local. \pre 0 <= step < steps
  [[nodiscard]] double rate(std::int64_t step) const;
};

/// Moments of the gradient, and the steps that follow from them:
///   m <- .9 m + .1 g,  v <- .999 v + .001 g^2,  w <- w - rate s (m / (1 - .9^t)) / (sqrt(v / (1 - .999^t)) + 1e-8)
/// with a scale s per weight, because the plain step has the same size for weights of every magnitude.
class Adam {
public:
  explicit Adam(std::vector<double> scales)
      : scales_(std::move(scales)), first_(scales_.size(), 0.0), second_(scales_.size(), 0.0) {}
  /// Local. \pre as many weights and entries of the gradient as scales
  void step(std::span<double> weights, std::span<const double> gradient, double rate);
  /// Moments and steps. Collective. \throws Error{bad_data} for another number of weights
  void save(StateWriter& to) const;
  void restore(StateReader& from);

private:
  std::vector<double> scales_, first_, second_;
  std::int64_t steps_ = 0;
};

} // namespace slr::refine
