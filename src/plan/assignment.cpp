#include "slr/plan/assignment.hpp"

#include <algorithm>
#include <limits>

namespace slr {

std::vector<Turn> deal_largest_first(const JobTimes& seconds) {
  std::vector<std::size_t> order;
  for (std::size_t j = 0; j < seconds.size(); ++j)
    if (std::any_of(seconds[j].begin(), seconds[j].end(), [](double s) { return s > 0; })) order.push_back(j);
  const auto length = [&](std::size_t j) { return *std::max_element(seconds[j].begin(), seconds[j].end()); };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return length(a) > length(b); });
  std::vector<Turn> turns;
  std::vector<double> free_at;
  for (const auto job : order) {
    free_at.resize(seconds[job].size(), 0.0);
    std::size_t best = 0;
    for (std::size_t g = 1; g < free_at.size(); ++g)
      if (free_at[g] + seconds[job][g] < free_at[best] + seconds[job][best]) best = g;
    const double begin = free_at[best];
    free_at[best] += seconds[job][best];
    turns.push_back({job, static_cast<int>(best), begin, free_at[best]});
  }
  return turns;
}

double end_of(const std::vector<Turn>& turns) {
  double end = 0;
  for (const auto& turn : turns) end = std::max(end, turn.end_seconds);
  return end;
}

std::vector<std::size_t> cut_into_stages(const JobTimes& seconds, std::size_t groups) {
  const auto jobs = seconds.size();
  const double infinity = std::numeric_limits<double>::infinity();
  // least[g][j]: the longest of the stages 0 .. g when these take the jobs before j
  std::vector<std::vector<double>> least(groups, std::vector<double>(jobs + 1, infinity));
  std::vector<std::vector<std::size_t>> begin(groups, std::vector<std::size_t>(jobs + 1, 0));
  for (std::size_t g = 0; g < groups; ++g)
    for (std::size_t j = 0; j <= jobs; ++j) {
      double stage = 0;
      for (std::size_t i = j + 1; i-- > 0;) { // the stage takes the jobs i .. j - 1
        if (i < j) stage += seconds[i][g];
        const double before = g == 0 ? (i == 0 ? 0.0 : infinity) : least[g - 1][i];
        if (std::max(before, stage) < least[g][j]) {
          least[g][j] = std::max(before, stage);
          begin[g][j] = i;
        }
      }
    }
  std::vector<std::size_t> first(groups + 1, jobs);
  for (std::size_t g = groups; g-- > 0;) first[g] = begin[g][first[g + 1]];
  return first;
}

} // namespace slr
