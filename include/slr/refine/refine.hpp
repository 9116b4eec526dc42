#pragma once
/// \file
/// All weights of a compressed network together: its output is pulled back towards the original's, without labels.
#include "slr/infer/tape.hpp"
#include "slr/mpi/checkpoints.hpp"
#include "slr/refine/examples.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace slr::refine {

/// What is refined.
struct Problem {
  const graph::Model& model; ///< the compressed network
  std::string input, output; ///< images go in, what is compared comes out
  graph::Dims image;         ///< dimensions of one image
  std::vector<std::string> trained;
  infer::Loss loss = infer::Loss::kullback_leibler;
};

/// The problem's network, ready for forward and backward passes over blocks of 8 images. Local. \throws as infer::Tape
[[nodiscard]] infer::Tape tape_of(const Problem& problem);

/// `white_adam` is Adam in the coordinates of InputMetric. `automatic` is Adam, which bench/refine found better than
/// LMVM; of the other one it found that it gains where the loss is large, and nothing where it is small.
enum class Optimizer { automatic, adam, white_adam, lmvm };

struct Settings {
  std::int64_t epochs = 10;
  Optimizer optimizer = Optimizer::automatic;
  std::uint64_t seed = 1;         ///< of the order of the blocks
  double peak_rate = 5e-3;        ///< of Adam, relative to the root mean square of each tensor
  std::int64_t batch_blocks = 12; ///< of 8 images each, in a mini-batch
  /// Mini-batches of mixtures (Examples::mixed), other ones in every pass; fit losses are theirs. Not of LMVM.
  bool mixes = false;
  /// Weight of the pull towards the start: proximal / 2 sum over tensors of ||W - W_start||^2 / ||W_start||^2.
  double proximal = 0;
  /// Passes in a row that each leave a larger loss on the selection images than the one before, before it stops. (While
  /// the rate is high the loss may well lie above its best: it falls with the rate.)
  std::int64_t patience = 3;
  Checkpoints* checkpoints = nullptr; ///< where mini-batches and evaluations may be stopped and go on; not kept
};

/// After a pass.
struct Epoch {
  double fit_loss = 0;       ///< mean over the pass, while the weights moved
  double selection_loss = 0; ///< behind the pass
};

enum class StopReason { epoch_limit, no_improvement, diverged };
[[nodiscard]] const char* to_text(StopReason reason);

struct Result {
  graph::Model model; ///< the best one on the selection images: the start where nothing was better
  bool is_better = false;
  double selection_loss_before = 0, selection_loss_after = 0;
  std::vector<Epoch> epochs;
  std::int64_t best_epoch = 0; ///< counted from 1; 0: the start
  StopReason stop_reason = StopReason::epoch_limit;
};

/// Tells where it is: passes done of all, this pass' mini-batches done of all, the last loss on the selection images.
struct Progress {
  std::int64_t epoch = 0, epochs = 0, batch = 0, batches = 0;
  double selection_loss = 0;
};
using Listener = std::function<void(const Progress&)>;

/// Minimises the mean loss over the fit images. Adam: mini-batches of blocks of 8 images in an order drawn anew for
/// every pass. LMVM: quasi-Newton steps on all images, each evaluation a pass. Gradients are summed exactly over all
/// ranks, the step is computed by every rank. After every pass (of LMVM: step) the loss on the selection images decides
/// which iterate is kept. The result has the same bits for every number of ranks. Collective.
///
/// Cost of a pass: forward and backward of all fit images, shared by the ranks, and one allreduce of the trained
/// weights as doubles per mini-batch; of mixtures a forward pass of the reference besides.
/// \pre some fit and selection images, epochs >= 1; fit constructed for mixtures if there shall be some
/// \throws Error{bad_data} for what cannot be differentiated, Error as the readers.
[[nodiscard]] Result refine(const Communicator& comm, const Problem& problem, const Examples& fit,
                            const Examples& selection, const Settings& settings, const Listener& listener = {});

} // namespace slr::refine
