#include "slr/linalg/remembered_function.hpp"

#include "slr/base/error.hpp"

#include <algorithm>

namespace slr {

RememberedFunction::RememberedFunction(SmoothFunction function, Checkpoints* checkpoints, Part part)
    : function_(std::move(function)), checkpoints_(checkpoints) {
  if (const auto saved = take(checkpoints, part.name)) {
    losses_ = saved->get<double>("losses");
    gradients_ = saved->get<double>("gradients");
    if (part.restore) part.restore(*saved);
  }
  kept_ = keep(checkpoints, part.name, [this, save = std::move(part.save)](StateWriter& to) {
    to.put_doubles("losses", losses_);
    to.put_doubles("gradients", gradients_);
    if (save) save(to);
  });
}

double RememberedFunction::operator()(std::span<const double> x, std::span<double> gradient) {
  const auto size = std::ssize(x);
  if (evaluation_ == std::ssize(losses_)) {
    poll(checkpoints_);
    const double loss = function_(x, gradient);
    gradients_.insert(gradients_.end(), gradient.begin(), gradient.end());
    losses_.push_back(loss);
  }
  if (std::ssize(gradients_) < (evaluation_ + 1) * size)
    throw Error(ExitCode::bad_data, "the checkpoint's gradients are of another problem; use --fresh to start anew");
  std::copy_n(gradients_.begin() + evaluation_ * size, size, gradient.begin());
  return losses_[static_cast<std::size_t>(evaluation_++)];
}

} // namespace slr
