#pragma once
/// \file
/// No wait is for ever: a thread that ends a job in which ranks wait for others that do nothing any more.
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace slr {

/// What a watchdog can say.
struct Alarm {
  std::string step, operation;            ///< where this rank waits
  double seconds = 0;                     ///< how long
  std::vector<int> missing;               ///< ranks that have not arrived
  std::vector<std::string> missing_steps; ///< what those were last at
  /// One sentence for people. Local.
  [[nodiscard]] std::string sentence() const;
};

/// A thread of this rank. It writes what the rank is at into the rank's place of a file that all ranks share, ten times
/// per limit, and reads the others' places when this rank waits. When it has waited longer than the limit in one
/// operation (slr/mpi/whereabouts.hpp), and those that have not arrived there have given no sign of life for as long,
/// `alarm` is called, once and on the smallest rank that waits. A rank whose process is stopped or gone shows no life,
/// one that works for hours and says so does. It needs no help of the ranks it waits for, nor of MPI.
class Watchdog {
public:
  using Listener = std::function<void(const Alarm&)>;
  /// Local; every rank has one. `file` lies where all ranks see it. \pre seconds > 0 \throws Error{io}
  Watchdog(int rank, int ranks, std::filesystem::path file, double seconds, Listener alarm);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

private:
  struct Place;   // of one rank in the file
  struct Sighting // of another rank: its last beat, and when that was first seen
  {
    std::int64_t beat = -1;
    double since = 0;
  };
  void watch();
  void write_place();
  [[nodiscard]] bool is_alarming(Alarm& alarm);
  [[nodiscard]] double now() const;

  int rank_, ranks_;
  std::filesystem::path file_;
  double limit_seconds_;
  Listener alarm_;
  int descriptor_ = -1;
  std::int64_t beat_ = 0;
  std::vector<Sighting> sightings_;
  std::mutex guard_;
  std::condition_variable wake_;
  bool is_over_ = false;
  std::thread thread_;
};

} // namespace slr
