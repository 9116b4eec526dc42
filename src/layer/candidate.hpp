#pragma once
// One way to compress a layer on its way through the iteration, and what a stopped solve remembers of all of them.
#include "slr/layer/constrained.hpp"
#include "slr/layer/factored_splitting.hpp"

#include <limits>
#include <map>
#include <memory>
#include <optional>

namespace slr {

/// What is left of a candidate that was given up. When a stopped solve is gone through again, its place is taken by
/// these numbers.
struct GivenUp {
  double gain = 0, best_error = std::numeric_limits<double>::infinity();
  std::int64_t target_rank = 0;
};

/// The choices that a solve has made so far, in their order. A stopped solve takes the same way again: candidates get
/// the same numbers, those that were given up are not computed again, and kept groups are not chosen again.
class Choices {
public:
  explicit Choices(Checkpoints* checkpoints);
  [[nodiscard]] Checkpoints* checkpoints() const { return checkpoints_; }
  [[nodiscard]] std::int64_t next_candidate() { return candidates_++; }
  [[nodiscard]] std::optional<GivenUp> given_up(std::int64_t number) const;
  void give_up(std::int64_t number, const GivenUp& rest) { given_up_[number] = rest; }
  /// The next list of kept groups: that of an earlier start, else computed. Collective.
  template <class Compute>
  std::vector<std::int64_t> groups(Compute&& compute) {
    if (asked_ == groups_.size()) {
      groups_.push_back(compute());
      ++asked_;
      poll(checkpoints_);
      return groups_.back();
    }
    return groups_[asked_++];
  }

private:
  void save(StateWriter& to) const;
  void restore(StateReader& from);

  Checkpoints* checkpoints_;
  std::int64_t candidates_ = 0;
  std::size_t asked_ = 0;
  std::map<std::int64_t, GivenUp> given_up_;
  std::vector<std::vector<std::int64_t>> groups_;
  Checkpoints::Kept kept_;
};

/// What every solver of a layer refers to.
struct SolverLayer {
  SolverLayer(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
              const LayerStatistics& statistics, const ConstrainedOptions& options, const ProgressCallback& progress);
  const Communicator& comm;
  const LayerProblem& problem;
  const InputScale& scale;
  const LayerStatistics& statistics;
  const ConstrainedOptions& options;
  const ProgressCallback& progress;
  double rho;                ///< curvature of what replaces the loss
  DistMatrix<double> cross;  ///< P of the original values before the activation
  std::vector<float> target; ///< in the implicit form these values themselves, centred, n x (samples of this rank)
  std::vector<double> target_mean;
  double output_squared = 0, output_variation = 0; ///< ||Y||_F^2, ||Y - mean Y||_F^2
  bool has_selection = false;
  std::unique_ptr<Choices> choices;

  [[nodiscard]] double delta(double pull) const { return pull * statistics.mean_diagonal / rho; }
};

/// The iteration for one structure and pull; can be continued.
class Candidate {
public:
  /// Collective. It starts anew, or from where an earlier start of the same job was. `same_metric`: one of equal kept
  /// columns and pull, whose factors it shares unless that was given up.
  Candidate(const SolverLayer& layer, const Structure& structure, double pull, const Candidate* same_metric = nullptr);
  Candidate(const Candidate&) = delete;
  Candidate& operator=(const Candidate&) = delete;
  ~Candidate();

  /// Up to `limit` iterations in all. Collective.
  void run(std::int64_t limit);
  /// Goes on with a smaller rank, up to so many iterations; what was best before does not count any more. Collective.
  void run_with_rank(std::int64_t rank, std::int64_t iterations);
  /// The best iterate, and where the descent from it ends; the iteration's values per sample are given back.
  /// Collective. \pre not given up
  [[nodiscard]] ConstrainedResult finish();

  [[nodiscard]] const LayerFactors& best() const { return best_; }
  [[nodiscard]] double gain() const { return fixed_ ? fixed_->gain() : given_up_.gain; }
  [[nodiscard]] std::int64_t target_rank() const {
    return fixed_ ? fixed_->structure().target_rank : given_up_.target_rank;
  }
  [[nodiscard]] double best_error() const { return fixed_ ? best_error_ : given_up_.best_error; }
  /// The error with which the rank of `run_with_rank` began. \pre not given up
  [[nodiscard]] double error_before() const { return error_before_; }
  /// \pre not given up
  [[nodiscard]] const FixedStructure& fixed() const;

private:
  void judge();
  [[nodiscard]] const FactoredMap& map();
  void save(StateWriter& to) const;
  void restore(StateReader& from);

  const SolverLayer& layer_;
  std::int64_t number_;
  double pull_;
  std::unique_ptr<FixedStructure> fixed_; ///< none if it was given up at an earlier start
  GivenUp given_up_;
  std::optional<FactoredSplitting> splitting_;
  RememberedFeatures judged_features_; ///< of the samples that judge
  std::optional<FactoredMap> map_;     ///< unless the weights have moved since
  std::vector<double> target_mean_;
  LayerFactors best_;
  double best_error_ = std::numeric_limits<double>::infinity(), error_before_ = 0;
  SolveReport report_;
  std::int64_t row_rank_ = -1, row_begin_ = 0; ///< the rank that it was lowered to, and the iterations before
  Checkpoints::Kept kept_;
};

} // namespace slr
