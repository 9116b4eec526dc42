#include "slr/mpi/watchdog.hpp"

#include "slr/base/error.hpp"
#include "slr/base/text.hpp"
#include "slr/mpi/whereabouts.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace slr {

/// Plain bytes: a reader may see half of a new one, which does no harm (the next look is whole).
struct Watchdog::Place {
  std::int64_t beat = 0, collectives = 0, is_waiting = 0;
  double seconds = 0;
  std::array<char, 224> step{};
};

std::string Alarm::sentence() const {
  std::string ranks, steps;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    ranks += (i == 0 ? "" : ", ") + std::to_string(missing[i]);
    if (i == 0 && !missing_steps[i].empty())
      steps = "; rank " + std::to_string(missing[i]) + " was last at " + missing_steps[i];
  }
  return "waited " + words_for_seconds(seconds) + " in " + operation + " at " + (step.empty() ? "its start" : step) +
         " for " + (missing.size() == 1 ? "rank " : "ranks ") + ranks + ", which did not arrive" + steps +
         "; look at the nodes and file systems of these ranks, then run the same command again";
}

Watchdog::Watchdog(int rank, int ranks, std::filesystem::path file, double seconds, Listener alarm)
    : rank_(rank), ranks_(ranks), file_(std::move(file)), limit_seconds_(seconds), alarm_(std::move(alarm)),
      sightings_(static_cast<std::size_t>(ranks)) {
  descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw Error(ExitCode::io, "cannot open " + file_.string() + ": " + std::strerror(errno));
  note_life();
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(guard_);
    is_over_ = true;
  }
  wake_.notify_all();
  thread_.join();
  ::close(descriptor_);
}

double Watchdog::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Watchdog::watch() {
  constexpr double looks_per_limit = 10, longest_pause_seconds = 60;
  const std::chrono::duration<double> pause(std::min(limit_seconds_ / looks_per_limit, longest_pause_seconds));
  std::unique_lock lock(guard_);
  while (!wake_.wait_for(lock, pause, [this] { return is_over_; })) {
    write_place();
    Alarm alarm;
    if (!is_alarming(alarm)) continue;
    alarm_(alarm);
    return;
  }
}

void Watchdog::write_place() {
  const auto here = whereabouts();
  Place place;
  place.beat = ++beat_;
  place.collectives = here.collectives;
  place.is_waiting = here.is_waiting ? 1 : 0;
  place.seconds = here.seconds;
  std::copy_n(here.step.begin(), std::min(here.step.size(), place.step.size() - 1), place.step.begin());
  // A full disk only makes this rank look lifeless to others that wait for it.
  [[maybe_unused]] const auto written =
      ::pwrite(descriptor_, &place, sizeof(place), static_cast<off_t>(sizeof(place)) * rank_);
}

bool Watchdog::is_alarming(Alarm& alarm) {
  const auto here = whereabouts();
  if (!here.is_waiting || here.seconds < limit_seconds_ / 2) {
    std::fill(sightings_.begin(), sightings_.end(), Sighting{});
    return false;
  }
  constexpr double silence = 0.35; // several beats
  int first_here = rank_;          // of those that wait as this one does
  bool is_anybody_alive = false;
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == rank_) continue;
    Place place;
    const auto length = ::pread(descriptor_, &place, sizeof(place), static_cast<off_t>(sizeof(place)) * rank);
    if (length != static_cast<ssize_t>(sizeof(place))) place = {};
    auto& sighting = sightings_[static_cast<std::size_t>(rank)];
    if (sighting.beat != place.beat) sighting = {place.beat, now()};
    const double unchanged = now() - sighting.since;
    const bool is_silent = unchanged > silence * limit_seconds_; // not even its watchdog runs
    const bool is_ahead = place.collectives > here.collectives;
    if (is_ahead || (place.is_waiting != 0 && !is_silent)) { // it waits for the same ranks, here or at an earlier place
      if (place.collectives >= here.collectives) first_here = std::min(first_here, rank);
      continue;
    }
    is_anybody_alive = is_anybody_alive || place.seconds + unchanged < limit_seconds_;
    place.step.back() = '\0';
    alarm.missing.push_back(rank);
    alarm.missing_steps.emplace_back(place.step.data());
  }
  alarm.step = here.step;
  alarm.operation = here.operation;
  alarm.seconds = here.seconds;
  // The others leave it to the smallest rank, unless that does not speak up either.
  const double limit = (first_here == rank_ ? 1 : 2) * limit_seconds_;
  return !alarm.missing.empty() && !is_anybody_alive && here.seconds >= limit;
}

} // namespace slr
