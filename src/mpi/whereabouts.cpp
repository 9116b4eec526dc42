#include "slr/mpi/whereabouts.hpp"

#include <atomic>
#include <chrono>
#include <mutex>

namespace slr {
namespace {

std::atomic<std::int64_t> collectives{0};
std::atomic<int> waiting{0}; // operations may call each other
std::atomic<const char*> last_operation{""};
std::atomic<std::int64_t> last_life{0};
std::mutex step_guard;
std::string last_step; // guarded

std::int64_t now_nanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

} // namespace

Whereabouts whereabouts() {
  constexpr double nanosecond = 1e-9;
  Whereabouts here;
  here.collectives = collectives;
  here.is_waiting = waiting > 0;
  here.seconds = nanosecond * static_cast<double>(now_nanoseconds() - last_life);
  here.operation = last_operation.load();
  const std::lock_guard lock(step_guard);
  here.step = last_step;
  return here;
}

void note_step(const std::string& step) {
  note_life();
  const std::lock_guard lock(step_guard);
  last_step = step;
}

void note_life() {
  last_life = now_nanoseconds();
}

Waiting::Waiting(const char* operation, bool is_for_all) {
  note_life();
  last_operation = operation;
  if (is_for_all) ++collectives;
  ++waiting;
}

Waiting::~Waiting() {
  --waiting;
  note_life();
}

} // namespace slr
