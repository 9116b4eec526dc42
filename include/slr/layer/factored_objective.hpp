#pragma once
/// \file
/// The true objective of the constrained problem as a smooth function of a layer's factors.
#include "slr/layer/structure.hpp"

#include <memory>

namespace slr {

/// f(U, V, B, b) = ( 1/2 ||Y - r(W X + b)||_F^2 + (N mu d / 2) ||W - W0||_F^2 ) / ||Y||_F^2,  W = U V on the columns R
/// and B on the kept ones S, around a start (U0, V0, B0, b0), with its gradient.
///
/// Coordinates, all zero at the start, are such that the second derivatives for the identity and f ||Y||^2 / N are
/// about the identity matrix, so that a quasi-Newton method needs few steps. With C + delta I = L L^T in the order [S,
/// R] (FixedStructure), E0 = [-V0 C_RS C_SS^-1, V0] and s_l = ||column l of U0||,
///
///   U = U0 + dU,   E = E0 + [0, diag(1/s) dT] L^-1,   D = D0 + dD L_SS^-1,   m = m0 + dm,
///
/// W x = U E x + D x_S and m the mean of the values before the activation. The gradient takes two products with the
/// samples: of R = (r(Z) - Y) r'(Z) with the features E x and with x_S, and of U^T R with x. In the implicit form,
/// which has no L, E stays as it is: the coordinates are dU and dm, and the pull is a quadratic form that is measured
/// once.
///
/// Values and products are in single precision per fixed block of samples and summed exactly over the blocks: the same
/// bits for every number of ranks, where FixedStructure's are.
class FactoredObjective {
public:
  /// Everything referred to must outlive it; `fixed` is of the start's structure. Collective, 2 r k^2 flops.
  FactoredObjective(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                    const LayerStatistics& statistics, const FixedStructure& fixed, const LayerFactors& start,
                    double pull, double output_squared);
  ~FactoredObjective();
  FactoredObjective(const FactoredObjective&) = delete;
  FactoredObjective& operator=(const FactoredObjective&) = delete;

  [[nodiscard]] std::int64_t size() const; ///< Number of coordinates. Local.
  /// f and its gradient at x (equal on every rank). Collective: 2 N (2 r (2 n + k) + 2 n |S|) / P flops, 6 n k r for
  /// the pull and 2 r k^2 for triangular solves on the root. \throws Error{numerical} on every rank if a value is not
  /// finite.
  double evaluate(std::span<const double> x, std::span<double> gradient) const;
  /// The weights at x, as they are applied and as a result. Collective, r k^2 flops.
  [[nodiscard]] FactoredMap map(std::span<const double> x) const;
  [[nodiscard]] LayerFactors factors(std::span<const double> x) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slr
