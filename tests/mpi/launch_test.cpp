// How the job was started, from the environment and from the kernel.
#include "slr/mpi/launch.hpp"

#include <cstdlib>
#include <gtest/gtest.h>
#include <optional>
#include <unistd.h>

namespace slr {
namespace {

/// The launchers' variables as given, whatever the test itself was started with.
class LaunchTest : public testing::Test {
protected:
  LaunchTest() {
    for (const auto* name : names) {
      const char* value = std::getenv(name);
      before_.push_back(value ? std::optional<std::string>(value) : std::nullopt);
      ::unsetenv(name);
    }
  }
  ~LaunchTest() override {
    for (std::size_t i = 0; i < before_.size(); ++i)
      before_[i] ? ::setenv(names[i], before_[i]->c_str(), 1) : ::unsetenv(names[i]);
  }
  static constexpr const char* names[] = {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE",  "PMI_RANK",
                                          "SLURM_STEP_NUM_TASKS", "SLURM_PROCID",         "PMIX_RANK", "SLURM_NTASKS"};

private:
  std::vector<std::optional<std::string>> before_;
};

TEST_F(LaunchTest, SingletonsThatWereMeantToBeOneJobAreRefused) {
  EXPECT_NO_THROW(check_launch(1));
  EXPECT_NO_THROW(check_launcher());
  ::setenv("SLURM_STEP_NUM_TASKS", "4", 1);
  ::setenv("SLURM_PROCID", "2", 1);
  EXPECT_EQ(launched_rank(), 2);
  EXPECT_NO_THROW(check_launch(4));
  EXPECT_NO_THROW(check_launch(2)) << "a mpirun of its own inside the step";
  try {
    check_launch(1);
    FAIL() << "four jobs of one rank";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("started 4 processes"), std::string::npos);
  }
  EXPECT_THROW(check_launcher(), Error) << "nothing by which the ranks could find each other";
  ::setenv("PMIX_RANK", "2", 1);
  EXPECT_NO_THROW(check_launcher());
  // mpirun -n 1 inside a step of several tasks: the mpirun is right.
  ::setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  EXPECT_NO_THROW(check_launch(1));
}

TEST_F(LaunchTest, AProgramAloneInABatchScriptIsNoMistake) {
  ::setenv("SLURM_NTASKS", "4", 1);
  ::setenv("SLURM_PROCID", "0", 1);
  EXPECT_NO_THROW(check_launch(1));
  EXPECT_EQ(launched_rank(), 0);
}

TEST_F(LaunchTest, NonsenseInTheEnvironmentCountsAsNothing) {
  for (const auto* text : {"", "four", "-3", "99999999999999999999", "4x"}) {
    ::setenv("PMI_SIZE", text, 1);
    ::setenv("PMI_RANK", text, 1);
    EXPECT_NO_THROW(check_launch(1)) << text;
  }
}

TEST(Launch, CoresAreListedAsRanges) {
  EXPECT_EQ(core_list({}), "");
  EXPECT_EQ(core_list({5}), "5");
  EXPECT_EQ(core_list({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(Launch, MoreThreadsThanCoresAreNamed) {
  EXPECT_EQ(words_on_threads({}), "");
  EXPECT_EQ(words_on_threads({{"a", {0, 1}, 1, 1}, {"a", {0, 1}, 1, 1}, {"a", {0, 1}, 1, 1}}), "")
      << "three ranks on two cores yield to each other";
  EXPECT_EQ(words_on_threads({{"a", {0, 1}, 2, 1}, {"b", {0, 1}, 1, 2}}), "") << "each node has enough";
  const auto words = words_on_threads({{"a", {0, 1}, 1, 1}, {"b", {0}, 2, 1}, {"b", {1}, 1, 2}});
  EXPECT_NE(words.find("4 BLAS or OpenMP threads of 2 ranks share 2 cores of b"), std::string::npos) << words;
}

TEST(Launch, TheSurveyFindsEveryRank) {
  const Communicator world(MPI_COMM_WORLD);
  const auto& places = survey_places(world);
  ASSERT_EQ(std::ssize(places), world.is_root() ? world.size() : 0);
  for (const auto& place : places) {
    EXPECT_FALSE(place.host.empty());
    EXPECT_FALSE(place.cores.empty());
    EXPECT_GE(place.blas_threads, 1);
  }
  EXPECT_EQ(&surveyed_places(), &places);
}

} // namespace
} // namespace slr
