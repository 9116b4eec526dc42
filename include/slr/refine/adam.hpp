#pragma once
/// \file
/// Adam (Kingma, Ba: Adam: A Method for Stochastic Optimization, 2015) with a one-cycle rate (Smith, Topin:
/// Super-Convergence, 2018).
#include <cstdint>
#include <span>
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
///   m <- .9 m + .1 g,  v <- .999 v + .001 g^2,  w <- w - rate (m / (1 - .9^t)) / (sqrt(v / (1 - .999^t)) + 1e-8).
class Adam {
public:
  explicit Adam(std::size_t size) : first_(size, 0.0), second_(size, 0.0) {}
  /// Local. \pre weights and gradient of the size
  void step(std::span<double> weights, std::span<const double> gradient, double rate);

private:
  std::vector<double> first_, second_;
  std::int64_t steps_ = 0;
};

} // namespace slr::refine
