// Dealing work to groups: by hand, against bounds that every assignment keeps, and against all possible cuts.
#include "slr/plan/assignment.hpp"
#include "slr/plan/forecast.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace slr {
namespace {

JobTimes on_equal_groups(const std::vector<double>& seconds, std::size_t groups) {
  JobTimes result;
  for (const double s : seconds) result.emplace_back(groups, s);
  return result;
}

TEST(Deal, TakesTheLargestFirst) {
  const auto turns = deal_largest_first(on_equal_groups({2, 5, 0, 3, 4}, 2));
  ASSERT_EQ(turns.size(), 4U); // nobody gets the job of no length
  const std::vector<std::size_t> jobs{1, 4, 3, 0};
  const std::vector<int> groups{0, 1, 1, 0};
  for (std::size_t i = 0; i < turns.size(); ++i) {
    EXPECT_EQ(turns[i].job, jobs[i]);
    EXPECT_EQ(turns[i].group, groups[i]);
  }
  EXPECT_EQ(end_of(turns), 7);
  EXPECT_TRUE(deal_largest_first({}).empty());
}

TEST(Deal, GoesToTheGroupThatIsDoneFirst) {
  const auto turns = deal_largest_first({{6, 2}, {3, 1}, {3, 1}}); // the second group is three times as quick
  EXPECT_EQ(turns[0].group, 1);
  EXPECT_EQ(turns[1].group, 0); // both would be done at 3
  EXPECT_EQ(turns[2].group, 1);
}

TEST(Deal, IsWithinTheBoundOfListScheduling) {
  std::mt19937 engine(1);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<double> seconds(1 + engine() % 20);
    for (auto& s : seconds) s = 1 + static_cast<double>(engine() % 100);
    const std::size_t groups = 1 + engine() % 5;
    const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0), m = static_cast<double>(groups);
    const double best = std::max(sum / m, *std::max_element(seconds.begin(), seconds.end())); // a bound from below
    // Graham: a group is never free while jobs wait, so the last job begins before the mean of the others.
    EXPECT_LE(end_of(deal_largest_first(on_equal_groups(seconds, groups))), sum / m + best * (1 - 1 / m) + 1e-9);
  }
}

double longest(const JobTimes& seconds, const std::vector<std::size_t>& first) {
  double result = 0;
  for (std::size_t g = 0; g + 1 < first.size(); ++g) {
    double sum = 0;
    for (auto j = first[g]; j < first[g + 1]; ++j) sum += seconds[j][g];
    result = std::max(result, sum);
  }
  return result;
}

TEST(Cut, IsTheBestOfAll) {
  std::mt19937 engine(2);
  for (int trial = 0; trial < 40; ++trial) {
    JobTimes seconds(1 + engine() % 8, std::vector<double>(3));
    for (auto& job : seconds)
      for (auto& s : job) s = static_cast<double>(engine() % 50);
    const auto cut = cut_into_stages(seconds, 3);
    ASSERT_EQ(cut.size(), 4U);
    EXPECT_EQ(cut.front(), 0U);
    EXPECT_EQ(cut.back(), seconds.size());
    EXPECT_TRUE(std::is_sorted(cut.begin(), cut.end()));
    double best = 1e300;
    for (std::size_t a = 0; a <= seconds.size(); ++a)
      for (std::size_t b = a; b <= seconds.size(); ++b)
        best = std::min(best, longest(seconds, {0, a, b, seconds.size()}));
    EXPECT_EQ(longest(seconds, cut), best);
  }
}

TEST(Cut, MayLeaveGroupsWithoutWork) {
  EXPECT_EQ(cut_into_stages(on_equal_groups({1, 1}, 4), 4).back(), 2U);
  EXPECT_EQ(cut_into_stages({}, 2), (std::vector<std::size_t>{0, 0, 0}));
}

TEST(Seconds, FallWithRanksUntilMessagesCount) {
  const LayerWork work{128, 1152, 20000, 30, 90, 60, 3};
  double before = predict_seconds(work, 1, nominal_machine);
  const auto flops = count_flops(work);
  // Beside the counted flops the factors and the elimination once more.
  const double k = 1152, factoring = 3 * k * k * k / 3 + k * k * (5 * k / 3 + 2 * 128);
  EXPECT_DOUBLE_EQ(before, flops.single_precision / nominal_machine.single_precision +
                               (flops.double_precision + factoring) / nominal_machine.double_precision +
                               flops.elements / nominal_machine.elements);
  for (const int ranks : {2, 4, 8}) {
    const double now = predict_seconds(work, ranks, nominal_machine);
    EXPECT_LT(now, before);
    EXPECT_GT(now * ranks, before); // no more than in proportion
    before = now;
  }
  const LayerWork small{10, 10, 100, 2, 0, 60, 3};
  EXPECT_GT(predict_seconds(small, 1024, nominal_machine), predict_seconds(small, 1, nominal_machine));
}

} // namespace
} // namespace slr
