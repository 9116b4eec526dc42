#include "info.hpp"

#include <array>
#include <sstream>

namespace slr::detail {
namespace {

std::string nth_word(std::string_view words, int n) {
  std::istringstream stream{std::string(words)};
  std::string word;
  for (int i = 0; i < n; ++i)
    if (!(stream >> word)) return "?";
  return word;
}

} // namespace

Error info_error(std::string_view routine, std::string_view arguments, int info, std::string_view meaning,
                 std::string_view context) {
  std::string sentence = context.empty() ? "" : std::string(context) + ": ";
  sentence += routine;
  if (info > 0) {
    sentence += " failed (info " + std::to_string(info) + "): " + std::string(meaning);
    return {ExitCode::numerical, sentence};
  }
  const int position = -info < 100 ? -info : -info / 100;
  sentence += " refused argument " + std::to_string(position) + " (" + nth_word(arguments, position) + ")";
  if (-info >= 100) sentence += ", entry " + std::to_string(-info % 100);
  return {ExitCode::bug, sentence + ": a defect of this program, please report it"};
}

int reduced_info(const Communicator& comm, int info) {
  std::array<int, 2> both{-info, info};
  comm.allreduce(std::span<int>(both), Reduction::max);
  return both[0] > 0 ? -both[0] : both[1];
}

void check_info(const Communicator& comm, std::string_view routine, std::string_view arguments, int info,
                std::string_view meaning, std::string_view context) {
  const int all = reduced_info(comm, info);
  if (all != 0) throw info_error(routine, arguments, all, meaning, context);
}

} // namespace slr::detail
