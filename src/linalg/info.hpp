#pragma once
/// \file
/// INFO values as sentences.
#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"

#include <string>
#include <string_view>

namespace slr::detail {

/// The sentence for INFO != 0. `arguments` are the routine's argument names, separated by blanks; a negative INFO -i
/// names the i-th, and -(100 i + j) the j-th entry of it (a descriptor). `meaning` says what a positive INFO stands
/// for.
[[nodiscard]] Error info_error(std::string_view routine, std::string_view arguments, int info, std::string_view meaning,
                               std::string_view context);

/// Local routines: throws unless info is 0.
inline void check_info(std::string_view routine, std::string_view arguments, int info, std::string_view meaning,
                       std::string_view context) {
  if (info != 0) throw info_error(routine, arguments, info, meaning, context);
}

/// Distributed routines: the INFO that all ranks act on, the most negative if any is negative, else the largest.
/// Collective.
[[nodiscard]] int reduced_info(const Communicator& comm, int info);

/// reduced_info, then throws the same sentence on every rank unless it is 0. Collective.
void check_info(const Communicator& comm, std::string_view routine, std::string_view arguments, int info,
                std::string_view meaning, std::string_view context);

} // namespace slr::detail
