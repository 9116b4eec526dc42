#pragma once
/// \file
/// What this rank is at, for a thread that watches over it.
#include <cstdint>
#include <string>

namespace slr {

/// A glance at the main thread.
struct Whereabouts {
  std::int64_t collectives = 0; ///< entered so far, of those that all ranks take part in
  bool is_waiting = false;      ///< inside a collective or a message
  double seconds = 0;           ///< since it last entered or left one, or gave another sign of life
  std::string operation;        ///< the last one entered
  std::string step;             ///< what the job is at
};
/// Local, from any thread.
[[nodiscard]] Whereabouts whereabouts();

/// Says what the job is at: a sign of life. Local.
void note_step(const std::string& step);
/// A sign of life. Local, a few nanoseconds.
void note_life();

/// Inside an operation that waits for other ranks, as long as it lives. Local.
class Waiting {
public:
  /// `operation` is a literal. `is_for_all`: every rank of the job takes part, and comes to such operations in the same
  /// order.
  Waiting(const char* operation, bool is_for_all);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
};

} // namespace slr
