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

Objective::Objective(const Communicator& comm, infer::Tape& tape, const Examples& examples)
    : comm_(comm), tape_(tape), examples_(examples), bits_(grid_bits(std::max<std::int64_t>(examples.blocks(), 1))),
      block_gradient_(static_cast<std::size_t>(tape.size())) {
  require(tape.block() == images_per_block, "a tape for another size of blocks");
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

void Objective::add_block(std::int64_t index, std::span<double> sums, ExactSum& loss) {
  const auto block = examples_.block(index);
  for (const double l : tape_.losses(*block.images, block.targets, block_gradient_)) loss.add(l);
  for (std::size_t t = 0; t < grids_.size(); ++t) {
    const auto& tensor = tape_.trained()[t];
    const FixedPoint grid = grids_[t];
    const auto begin = static_cast<std::size_t>(tensor.offset), end = begin + static_cast<std::size_t>(tensor.size);
    for (std::size_t i = begin; i < end; ++i) sums[i] += grid.round(static_cast<double>(block_gradient_[i]));
  }
}

Objective::Value Objective::gradient(std::span<const std::int64_t> blocks) {
  if (grids_.empty()) find_first_grids(blocks);
  // One message: the gradient, the loss, and whether a rank failed.
  const auto n = static_cast<std::size_t>(tape_.size());
  constexpr auto digits = static_cast<std::size_t>(ExactSum::digits);
  std::vector<double> sums(n + digits + 1, 0.0);
  ExactSum loss;
  std::optional<Error> error;
  std::int64_t images = 0;
  for (const std::int64_t block : blocks) images += examples_.images_of(block);
  try {
    for (std::size_t p = static_cast<std::size_t>(comm_.rank()); p < blocks.size();
         p += static_cast<std::size_t>(comm_.size()))
      add_block(blocks[p], sums, loss);
    loss.pack(std::span(sums).subspan(n, digits));
  } catch (...) {
    error = current_error();
    sums.back() = 1;
  }
  comm_.allreduce(std::span<double>(sums));
  if (sums.back() > 0) agree(comm_, error);
  Value value{ExactSum::unpack(std::span<const double>(sums).subspan(n, digits)).value(), std::move(sums)};
  value.gradient.resize(n);
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
