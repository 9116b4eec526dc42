#pragma once
/// \file
/// The mean loss over images spread over ranks, and its gradient, with the same bits for every number of ranks.
#include "slr/infer/tape.hpp"
#include "slr/mpi/checkpoints.hpp"
#include "slr/mpi/exact_sum.hpp"
#include "slr/mpi/pending_sums.hpp"
#include "slr/refine/examples.hpp"

#include <optional>
#include <span>

namespace slr::refine {

/// Sums what the blocks of images contribute. What a block contributes depends on the block and the weights only; these
/// contributions are summed exactly: losses in `ExactSum`, the gradient's entries after rounding to a grid per weight
/// tensor. A grid reaches `headroom` times the largest entry that the last sum had, which every rank knows; what is
/// beyond its end goes to the end (a gradient that suddenly grows a hundredfold is cut, on every number of ranks
/// alike). Its step is at most 2^-28 of that entry for up to a hundred thousand blocks.
class Objective {
public:
  /// Doubles below which a message waits for more: latency decides.
  static constexpr std::size_t least_message = 8'192;
  /// All outlive the objective. Local. \pre tape.block() == images_per_block
  Objective(const Communicator& comm, infer::Tape& tape, const Examples& examples,
            std::size_t least_doubles = least_message);

  struct Value {
    double loss = 0;              ///< mean over the images
    std::vector<double> gradient; ///< of that mean
  };
  /// At the tape's weights, over these blocks, which are dealt to the ranks in turn. Collective: allreduces of
  /// tape.size() + 73 doubles in all, begun for the tensors that the backward pass of this rank's last block is done
  /// with while it goes on (the first call: one more, and some blocks twice). Cost: forward and backward pass of
  /// ceil(blocks / ranks) blocks. `mixture`: of the blocks' mixtures with that seed (Examples::mixed) instead.
  /// \pre some blocks, the same ones on every rank
  /// \throws Error{numerical} if an output or a gradient is not finite; the same on every rank.
  [[nodiscard]] Value gradient(std::span<const std::int64_t> blocks, std::optional<std::uint64_t> mixture = {});
  /// The mean loss over all images. Collective. \pre some images
  [[nodiscard]] double loss();

  /// The grids. Collective.
  void save(StateWriter& to) const;
  void restore(StateReader& from);

private:
  void find_first_grids(std::span<const std::int64_t> blocks);
  void fit_grids(std::span<const double> gradient);
  void set_grids(std::span<const double> largest);
  void plan_messages(std::size_t least_doubles);
  void add_tensor(std::size_t tensor, std::span<double> sums) const;
  void add_block(const Examples::Block& block, std::span<double> sums, ExactSum& loss,
                 const infer::Tape::Listener& added);

  static constexpr double headroom = 256;
  const Communicator& comm_;
  infer::Tape& tape_;
  const Examples& examples_;
  int bits_;
  /// A part of the flat gradient that is sent as a whole, and after how many tensors of the tape's order it is
  /// finished.
  struct Message {
    std::size_t first = 0, size = 0, tensors = 0;
  };
  std::vector<Message> messages_; ///< in the order in which they are sent
  std::vector<FixedPoint> grids_; ///< per trained tensor; empty before the first gradient
  std::vector<float> block_gradient_;
};

} // namespace slr::refine
