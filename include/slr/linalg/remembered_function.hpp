#pragma once
/// \file
/// A function whose evaluations outlive a stopped job.
#include "slr/linalg/lmvm.hpp"
#include "slr/mpi/checkpoints.hpp"

namespace slr {

/// An optimiser's own history is PETSc's and cannot be saved. So values and gradients of all evaluations are: the
/// optimiser is gone through again on these, takes the same steps, and only what comes behind is computed. Every rank
/// calls it alike. Memory and checkpoint: one gradient per evaluation.
class RememberedFunction {
public:
  /// The part's name, and what else belongs to it: saved with it, and told what was saved when there is something.
  struct Part {
    std::string name;
    std::function<void(StateWriter&)> save = nullptr;
    std::function<void(StateReader&)> restore = nullptr;
  };
  /// `checkpoints` may be null. Collective.
  RememberedFunction(SmoothFunction function, Checkpoints* checkpoints, Part part);
  RememberedFunction(const RememberedFunction&) = delete;
  RememberedFunction& operator=(const RememberedFunction&) = delete;

  /// The next evaluation: that of an earlier start, else computed, behind a place to stop at. As the function.
  double operator()(std::span<const double> x, std::span<double> gradient);
  [[nodiscard]] std::int64_t evaluations() const { return evaluation_; } ///< So far. Local.

private:
  SmoothFunction function_;
  Checkpoints* checkpoints_;
  std::vector<double> losses_, gradients_; ///< of all evaluations
  std::int64_t evaluation_ = 0;
  Checkpoints::Kept kept_;
};

} // namespace slr
