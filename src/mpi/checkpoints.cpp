#include "slr/mpi/checkpoints.hpp"

#include <algorithm>

namespace slr {

Checkpoints::Kept& Checkpoints::Kept::operator=(Kept&& other) noexcept {
  if (this != &other) {
    release();
    owner_ = std::exchange(other.owner_, nullptr);
    name_ = std::move(other.name_);
  }
  return *this;
}

void Checkpoints::Kept::release() {
  if (owner_) owner_->parts_.erase(name_);
  owner_ = nullptr;
}

Checkpoints::Unit::Unit(Checkpoints& owner, const std::string& name) : owner_(owner), outer_(owner.prefix_) {
  owner_.prefix_ += name + "/";
}

Checkpoints::Unit::~Unit() {
  std::erase_if(owner_.offered_, [&](const auto& name) { return name.starts_with(owner_.prefix_); });
  owner_.prefix_ = outer_;
}

Checkpoints::Kept Checkpoints::keep(const std::string& name, Save save) {
  const auto whole = prefix_ + name;
  require(parts_.emplace(whole, std::move(save)).second, "two parts of a checkpoint are called " + whole);
  return {*this, whole};
}

std::unique_ptr<StateReader> Checkpoints::take(const std::string& name) {
  const auto found = std::find(offered_.begin(), offered_.end(), prefix_ + name);
  if (found == offered_.end()) return nullptr;
  auto reader = open(*found);
  offered_.erase(found);
  return reader;
}

void Checkpoints::poll() {
  const auto agreed = static_cast<Wish>(comm_.allreduce_value(static_cast<int>(wish()), Reduction::max));
  if (agreed == Wish::go_on) return;
  if (agreed == Wish::save) {
    try {
      if (offered_.empty()) write(parts_);
    } catch (const Error& error) {
      if (error.code() != ExitCode::io) throw;
      tell_failure(error);
    }
    return;
  }
  save_before_stop();
  throw Error(ExitCode::stopped, stop_sentence(agreed));
}

void Checkpoints::stop_if_asked() const {
  const auto mine = wish();
  if (mine >= Wish::stop_by_time) throw Error(ExitCode::stopped, stop_sentence(mine));
}

void Checkpoints::offer(std::vector<std::string> names) {
  offered_ = std::move(names);
}

void Checkpoints::save_before_stop() {
  if (offered_.empty()) write(parts_);
}

} // namespace slr
