#pragma once
// Budget moved between layers once all of them are compressed: by what each really does to the network's output.
#include "output_probe.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/sweep.hpp"

#include <functional>

namespace slr::run {

/// Another sweep, and what became of it.
struct CorrectionRound {
  double kl_before = 0, kl_expected = 0, kl_after = 0; ///< on the selection images
  std::int64_t layers = 0;                             ///< whose structure was another one
  bool is_accepted = false;
};

/// Whether a configuration has rounds: constrained, by the network's loss, and not in the schedule whose groups solve
/// all layers at once. Local.
[[nodiscard]] bool can_be_corrected(const Configuration& config);

/// What the rounds need of the job.
struct CorrectionJob {
  const Communicator& comm;
  const Grid& row_grid;
  const Network& network;
  const std::vector<std::string>& dense_reasons;
  const Curves& curves;
  const store::FeatureSet& features;
  const ImageFeed& feed;
  const Configuration& config;
  const BudgetPoint& point;
  const OutputFiles& files;
  Progress& progress;
  Checkpoints& checkpoints;
};

/// Measures on the selection images by how much the KL divergence of the compressed network falls with each layer alone
/// as it was. Where that is more or less than the layer's curve said, the curve is multiplied by the ratio; the budget
/// is allotted anew on these curves, and if that promises to gain, the layers from the first other one on are solved
/// again, within the same limits. The new network takes the old one's place if its divergence is smaller; so on, at
/// most budget.corrections times, as long as it gains. Cost of a round: a run over the selection images per layer, and
/// at most a sweep. Stopped, a job goes on within the round. Collective; the same bits for every number of ranks as far
/// as a sweep has them.
class Correction {
public:
  /// `allotment` and `result` are those of the first sweep; `result` becomes that of the best one. All outlive the
  /// object, which keeps its state in checkpoints as long as it lives. Local but for checkpoints.
  Correction(const CorrectionJob& job, const Allotment& allotment, SweepResult& result);
  void run();
  /// Of the result.
  [[nodiscard]] const Allotment& allotment() const { return corrected_ ? *corrected_ : first_; }
  [[nodiscard]] nlohmann::ordered_json json() const; ///< one object per round
  [[nodiscard]] const std::vector<CorrectionRound>& rounds() const { return rounds_; }

private:
  [[nodiscard]] OutputProbe probe() const;
  [[nodiscard]] Curves corrected_curves(const OutputProbe& probe, double kl) const;
  [[nodiscard]] double harm_on(const Curves& curves, const Allotment& allotment) const;
  bool run_round(); ///< whether another one may follow
  [[nodiscard]] SweepResult solve(const Allotment& other, std::int64_t& changed);
  void adopt_inputs(bool is_accepted) const;
  void save(StateWriter& to) const;
  void restore(StateReader& from);

  const CorrectionJob& job_;
  const Allotment& first_;
  std::optional<Allotment> corrected_;
  SweepResult& result_;
  std::vector<CorrectionRound> rounds_;
  bool is_over_ = false;
  Checkpoints::Kept kept_;
};

} // namespace slr::run
