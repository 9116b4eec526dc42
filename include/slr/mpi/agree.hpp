#pragma once
/// \file
/// A failure on one rank becomes the same failure on all.
#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"

#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace slr {

/// Collective. If any rank brings an error, every rank throws the error of the smallest such rank, so that all unwind
/// together and one sentence is printed once. One allreduce of an integer when nobody failed.
void agree(const Communicator& comm, const std::optional<Error>& mine);

/// The exception in flight as an Error (anything that is not one becomes a bug, std::bad_alloc a numerical failure with
/// words on memory). Local; to be called inside a catch block.
[[nodiscard]] Error current_error();

/// Runs a local action on every rank and agrees on its outcome: collective, returns what the action returned, or throws
/// the same Error on every rank. The action must not communicate.
template <class Action>
auto collectively(const Communicator& comm, Action&& action) -> std::invoke_result_t<Action> {
  using Result = std::invoke_result_t<Action>;
  std::optional<Error> error;
  if constexpr (std::is_void_v<Result>) {
    try {
      std::forward<Action>(action)();
    } catch (...) {
      error = current_error();
    }
    agree(comm, error);
  } else {
    std::optional<Result> result;
    try {
      result.emplace(std::forward<Action>(action)());
    } catch (...) {
      error = current_error();
    }
    agree(comm, error);
    return std::move(*result);
  }
}

/// Runs a local action on the root only, agrees on its outcome. Collective.
template <class Action>
void on_root(const Communicator& comm, Action&& action) {
  collectively(comm, [&] {
    if (comm.is_root()) std::forward<Action>(action)();
  });
}

/// The same for what is timed: the other ranks sleep meanwhile instead of asking again and again. Collective.
template <class Action>
void on_root_undisturbed(const Communicator& comm, Action&& action) {
  std::optional<Error> error;
  comm.barrier(); // what they have to do is done
  try {
    if (comm.is_root()) std::forward<Action>(action)();
  } catch (...) {
    error = current_error();
  }
  comm.idle_barrier();
  agree(comm, error);
}

} // namespace slr
