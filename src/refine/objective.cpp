#include "slr/refine/objective.hpp"

#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace slr::refine {

namespace {

/// Bits of a grid on which sums of so many numbers are exact in double. Rounding itself needs two bits of a double.
int grid_bits(std::int64_t terms) {
  constexpr int double_bits = 53, most = 51;
  return std::min(most, double_bits - static_cast<int>(std::bit_width(static_cast<std::uint64_t>(terms))));
}

double largest_of(std::span<const double> values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

} // namespace

Objective::Objective(const Communicator& comm, infer::Tape& tape, const Examples& examples, std::size_t least_doubles)
    : comm_(comm), tape_(tape), examples_(examples), bits_(grid_bits(std::max<std::int64_t>(examples.blocks(), 1))),
      block_gradient_(static_cast<std::size_t>(tape.size())) {
  require(tape.block() == images_per_block, "a tape for another size of blocks");
  plan_messages(least_doubles);
}

void Objective::set_grids(std::span<const double> largest) {
  grids_.resize(largest.size());
  for (std::size_t i = 0; i < largest.size(); ++i)
    if (largest[i] > 0 || grids_[i].exponent() == 0) grids_[i] = FixedPoint::covering(headroom * largest[i], bits_);
}

void Objective::fit_grids(std::span<const double> gradient) {
  std::vector<double> largest;
  for (const auto& tensor : tape_.trained())
    largest.push_back(
        largest_of(gradient.subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.size))));
  set_grids(largest);
}

/// From the gradients of a few blocks.
void Objective::find_first_grids(std::span<const std::int64_t> blocks) {
  constexpr std::size_t enough = 16;
  const auto few = blocks.first(std::min(blocks.size(), enough));
  std::vector<double> largest(tape_.trained().size(), 0.0);
  collectively(comm_, [&] {
    for (std::size_t p = static_cast<std::size_t>(comm_.rank()); p < few.size();
         p += static_cast<std::size_t>(comm_.size())) {
      const auto block = examples_.block(few[p]);
      (void)tape_.losses(*block.images, block.targets, block_gradient_);
      for (std::size_t t = 0; t < largest.size(); ++t) {
        const auto& tensor = tape_.trained()[t];
        for (std::int64_t i = 0; i < tensor.size; ++i) {
          const double entry =
              std::abs(static_cast<double>(block_gradient_[static_cast<std::size_t>(tensor.offset + i)]));
          if (!std::isfinite(entry)) throw Error(ExitCode::numerical, "a gradient of the network is not finite");
          largest[t] = std::max(largest[t], entry);
        }
      }
    }
  });
  comm_.allreduce(std::span<double>(largest), Reduction::max);
  set_grids(largest);
}

/// The gradient from its end on, in parts that are worth a message. What stands before the gradient goes with the last
/// part.
void Objective::plan_messages(std::size_t least_doubles) {
  const auto& order = tape_.gradient_order();
  std::vector<bool> is_finished(order.size());
  auto begun = static_cast<std::size_t>(tape_.size()); // of the flat gradient, what lies before is still to be sent
  auto finished = is_finished.size(), front = begun;   // all tensors from here on are finished; where they begin
  for (std::size_t done = 1; done <= order.size(); ++done) {
    is_finished[order[done - 1]] = true;
    for (; finished > 0 && is_finished[finished - 1]; --finished)
      front = static_cast<std::size_t>(tape_.trained()[finished - 1].offset);
    if (done < order.size() && begun - front < least_doubles) continue;
    messages_.push_back({front, begun - front, done});
    begun = front;
  }
}

void Objective::add_tensor(std::size_t tensor, std::span<double> sums) const {
  const auto& part = tape_.trained()[tensor];
  const FixedPoint grid = grids_[tensor];
  const auto begin = static_cast<std::size_t>(part.offset), end = begin + static_cast<std::size_t>(part.size);
  for (std::size_t i = begin; i < end; ++i) sums[i] += grid.round(static_cast<double>(block_gradient_[i]));
}

/// `added` hears of every tensor whose gradient was added.
void Objective::add_block(const Examples::Block& block, std::span<double> sums, ExactSum& loss,
                          const infer::Tape::Listener& added) {
  const auto losses = tape_.losses(*block.images, block.targets, block_gradient_, [&](std::size_t tensor) {
    add_tensor(tensor, sums);
    added(tensor);
  });
  for (const double l : losses) loss.add(l);
}

Objective::Value Objective::gradient(std::span<const std::int64_t> blocks, std::optional<std::uint64_t> mixture) {
  if (grids_.empty()) find_first_grids(blocks);
  // Whether a rank failed, the loss, and the gradient, which is sent from its end on: the first two go last.
  const auto n = static_cast<std::size_t>(tape_.size());
  constexpr auto digits = static_cast<std::size_t>(ExactSum::digits), before = digits + 1;
  std::vector<double> all(before + n, 0.0);
  const std::span<double> sums = std::span(all).subspan(before);
  PendingSums pending(comm_);
  std::size_t sent = 0;
  const auto send = [&] { // all but the last message
    const auto& message = messages_[sent++];
    pending.begin(sums.subspan(message.first, message.size));
  };
  ExactSum loss;
  std::optional<Error> error;
  std::int64_t images = 0;
  for (const std::int64_t block : blocks) images += examples_.images_of(block);
  try {
    const auto ranks = static_cast<std::size_t>(comm_.size());
    for (auto p = static_cast<std::size_t>(comm_.rank()); p < blocks.size(); p += ranks) {
      const bool is_last = p + ranks >= blocks.size();
      std::size_t tensors = 0;
      const auto block = mixture ? examples_.mixed(blocks[p], *mixture) : examples_.block(blocks[p]);
      add_block(block, sums, loss, [&](std::size_t) {
        ++tensors;
        while (is_last && sent + 1 < messages_.size() && tensors >= messages_[sent].tensors) send();
        pending.progress();
      });
    }
    loss.pack(std::span(all).subspan(1, digits));
  } catch (...) {
    error = current_error();
    all[0] = 1;
  }
  while (sent + 1 < messages_.size()) send();
  pending.begin(std::span(all).first(before + messages_.back().size));
  pending.finish();
  if (all[0] > 0) agree(comm_, error);
  Value value{ExactSum::unpack(std::span<const double>(all).subspan(1, digits)).value(), {sums.begin(), sums.end()}};
  if (!std::all_of(value.gradient.begin(), value.gradient.end(), [](double g) { return std::isfinite(g); }))
    throw Error(ExitCode::numerical, "a gradient of the network is not finite");
  fit_grids(value.gradient);
  const auto count = static_cast<double>(images);
  value.loss /= count;
  for (double& entry : value.gradient) entry /= count;
  return value;
}

double Objective::loss() {
  ExactSum sum;
  collectively(comm_, [&] {
    for (std::int64_t b = comm_.rank(); b < examples_.blocks(); b += comm_.size()) {
      const auto block = examples_.block(b);
      for (const double l : tape_.losses(*block.images, block.targets)) sum.add(l);
    }
  });
  return allreduce_exact(comm_, std::span<const ExactSum>(&sum, 1))[0] / static_cast<double>(examples_.images());
}

void Objective::save(StateWriter& to) const {
  std::vector<std::int64_t> exponents;
  for (const auto& grid : grids_) exponents.push_back(grid.exponent());
  to.put_integers("grids", exponents);
}

void Objective::restore(StateReader& from) {
  grids_.clear();
  for (const auto exponent : from.get<std::int64_t>("grids")) grids_.emplace_back(static_cast<int>(exponent), bits_);
}

} // namespace slr::refine
