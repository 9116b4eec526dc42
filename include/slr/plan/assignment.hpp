#pragma once
/// \file
/// Who does what, and when: work of predicted length dealt to groups of ranks. Pure numbers.
#include <cstddef>
#include <vector>

namespace slr {

/// One piece of work on one group.
struct Turn {
  std::size_t job = 0;
  int group = 0;
  double begin_seconds = 0, end_seconds = 0;
};

/// Seconds of every job on every group: seconds[job][group].
using JobTimes = std::vector<std::vector<double>>;

/// Deals jobs to groups, the largest first, each to the group that is done with it first: what happens when a group
/// that is done takes the next. Decided beforehand from counts, not by clocks, as what a group of another size computes
/// may differ in its last bits. Jobs of no length are dealt to nobody. Ties go to the smaller number. In the order in
/// which they are dealt. Local.
[[nodiscard]] std::vector<Turn> deal_largest_first(const JobTimes& seconds);

/// When the last one is done. Local.
[[nodiscard]] double end_of(const std::vector<Turn>& turns);

/// Cuts a sequence of jobs into as many consecutive stages as there are groups, stage g on group g, so that the longest
/// takes the least time; stages may be empty, the last ones first. Returns the first job of each stage and, at the end,
/// the number of jobs. Local, O(groups jobs^2).
[[nodiscard]] std::vector<std::size_t> cut_into_stages(const JobTimes& seconds, std::size_t groups);

} // namespace slr
