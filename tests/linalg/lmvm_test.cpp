#include "slr/linalg/lmvm.hpp"

#include "slr/base/error.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace slr {
namespace {

/// Rosenbrock's valley; its minimum is 0 at (1, 1).
double rosenbrock(std::span<const double> x, std::span<double> gradient) {
  const double a = x[1] - x[0] * x[0], b = 1 - x[0];
  gradient[0] = -400 * a * x[0] - 2 * b;
  gradient[1] = 200 * a;
  return 100 * a * a + b * b;
}

TEST(Lmvm, FindsTheMinimumAgainAndAgain) {
  for (int time = 0; time < 2; ++time) {
    std::vector<double> x{-1.2, 1};
    double last = 1e300;
    minimize_lmvm(rosenbrock, x, 500, [&](std::span<const double>, double value) {
      EXPECT_LE(value, last);
      last = value;
      return value > 1e-20;
    });
    EXPECT_NEAR(x[0], 1, 1e-8);
    EXPECT_NEAR(x[1], 1, 1e-8);
  }
}

TEST(Lmvm, StopsWhenTold) {
  std::vector<double> x{-1.2, 1};
  int iterations = 0;
  minimize_lmvm(rosenbrock, x, 500, [&](std::span<const double>, double) { return ++iterations < 3; });
  EXPECT_EQ(iterations, 3);
}

TEST(Lmvm, RespectsTheLimit) {
  std::vector<double> x{-1.2, 1};
  int evaluations = 0;
  const auto counted = [&](std::span<const double> at, std::span<double> gradient) {
    ++evaluations;
    return rosenbrock(at, gradient);
  };
  minimize_lmvm(counted, x, 7, [](std::span<const double>, double) { return true; });
  EXPECT_GE(evaluations, 7);
  EXPECT_LE(evaluations, 7 + 30) << "a line search is finished";
}

TEST(Lmvm, TakesTheOptionsOfACallAlone) {
  const auto steps = [](const std::string& options) {
    std::vector<double> x{-1.2, 1};
    std::vector<double> values;
    minimize_lmvm(
        rosenbrock, x, 12,
        [&](std::span<const double>, double value) {
          values.push_back(value);
          return true;
        },
        options);
    return values;
  };
  const auto before = steps("");
  EXPECT_NE(steps("-tao_type cg"), before);
  EXPECT_NE(steps("-tao_ls_type armijo"), before);
  EXPECT_EQ(steps(""), before);
}

TEST(Lmvm, RefusesOptionsThatAreNone) {
  EXPECT_NO_THROW(check_tao_options("-tao_type cg -tao_ls_type armijo"));
  EXPECT_NO_THROW(check_tao_options("-tao_ls_ftol 1e-3"));
  for (const char* options : {"-tao_typ cg", "-tao_type nonsense", "-tao_ls_type", "cg", "-log_view", "-tao_monitor",
                              "-tao_type cg extra", "-tao_view ascii:/tmp/x", "-tao_ls_ftol -tao_"}) {
    try {
      check_tao_options(options);
      ADD_FAILURE() << options;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::configuration) << options << ": " << error.what();
    }
  }
  EXPECT_NO_THROW(check_tao_options("-tao_type cg")) << "nothing stays behind";
}

TEST(Lmvm, LetsExceptionsThrough) {
  std::vector<double> x{-1.2, 1};
  const auto failing = [](std::span<const double>, std::span<double>) -> double {
    throw Error(ExitCode::numerical, "not finite");
  };
  EXPECT_THROW(minimize_lmvm(failing, x, 7, [](std::span<const double>, double) { return true; }), Error);
}

} // namespace
} // namespace slr
