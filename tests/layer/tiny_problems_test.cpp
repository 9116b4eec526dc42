// Every structure of tiny problems against alternating least squares, and the choice among all of them.
#include "slr/layer/constrained.hpp"

#include "layer/problems.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/splitting.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace slr {
namespace {

using namespace test;

/// X with A X = B for a positive semidefinite A (m x m), by Gaussian elimination with pivots; column-major.
std::vector<double> solved(std::size_t m, std::vector<double> a, std::vector<double> b) {
  const auto columns = m == 0 ? 0 : b.size() / m;
  for (std::size_t p = 0; p < m; ++p) {
    std::size_t pivot = p;
    for (std::size_t i = p; i < m; ++i)
      if (std::abs(a[p * m + i]) > std::abs(a[p * m + pivot])) pivot = i;
    for (std::size_t j = 0; j < m; ++j) std::swap(a[j * m + p], a[j * m + pivot]);
    for (std::size_t j = 0; j < columns; ++j) std::swap(b[j * m + p], b[j * m + pivot]);
    for (std::size_t i = 0; i < m; ++i) {
      if (i == p) continue;
      const double factor = a[p * m + i] / a[p * m + p];
      for (std::size_t j = p; j < m; ++j) a[j * m + i] -= factor * a[j * m + p];
      for (std::size_t j = 0; j < columns; ++j) b[j * m + i] -= factor * b[j * m + p];
    }
  }
  for (std::size_t j = 0; j < columns; ++j)
    for (std::size_t i = 0; i < m; ++i) b[j * m + i] /= a[i * m + i];
  return b;
}

/// The problem as matrices: minimise tr(W C W^T) - 2 tr(W P^T).
struct Matrices {
  std::size_t n, k;
  std::vector<double> c, p;
  [[nodiscard]] double value(const std::vector<double>& w) const {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < k; ++j) {
        double wc = 0;
        for (std::size_t l = 0; l < k; ++l) wc += w[l * n + i] * c[j * k + l];
        sum += w[j * n + i] * (wc - 2 * p[j * n + i]);
      }
    return sum;
  }
  /// The best W = L R with L (n x m) or R (m x k) given: R from L over the rows of all unknowns.
  [[nodiscard]] std::vector<double> best_left(const std::vector<double>& r, std::size_t m) const {
    // L (R C R^T) = P R^T
    std::vector<double> a(m * m, 0.0), b(m * n, 0.0);
    for (std::size_t x = 0; x < m; ++x) {
      for (std::size_t y = 0; y < m; ++y)
        for (std::size_t i = 0; i < k; ++i)
          for (std::size_t j = 0; j < k; ++j) a[y * m + x] += r[i * m + x] * c[j * k + i] * r[j * m + y];
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < k; ++j) b[i * m + x] += p[j * n + i] * r[j * m + x];
    }
    const auto transposed = solved(m, a, b);
    std::vector<double> left(n * m);
    for (std::size_t x = 0; x < m; ++x)
      for (std::size_t i = 0; i < n; ++i) left[x * n + i] = transposed[i * m + x];
    return left;
  }
};

Matrices matrices_of(const Prepared& s, const DistMatrix<double>& cross, double delta) {
  Matrices m{std::size_t(s.problem.rows), std::size_t(s.problem.cols), gather_everywhere(s.statistics.gram),
             gather_everywhere(cross)};
  for (std::size_t j = 0; j < m.k; ++j) m.c[j * m.k + j] += delta;
  for (std::size_t i = 0; i < m.p.size(); ++i) m.p[i] += delta * double(s.problem.weights[i]);
  return m;
}

/// The smallest value with the columns S free and the others of rank r, by alternating least squares from several
/// random starts: given the rows of V, all of [W_S, U] at once; given U, V by the normal equations.
double brute_force(const Matrices& m, const std::vector<bool>& is_kept, std::size_t r, unsigned seed) {
  std::vector<std::size_t> kept, rest;
  for (std::size_t j = 0; j < m.k; ++j) (is_kept[j] ? kept : rest).push_back(j);
  r = std::min(r, rest.size());
  double best = std::numeric_limits<double>::infinity();
  for (unsigned start = 0; start < 3; ++start) {
    auto v = random_matrix(std::int64_t(r), std::int64_t(rest.size()), seed * 10 + start);
    double value = 0, before = std::numeric_limits<double>::infinity();
    for (int step = 0; step < 2000; ++step) {
      const auto size = kept.size() + r;
      std::vector<double> right(size * m.k, 0.0); // [I_S; V]
      for (std::size_t i = 0; i < kept.size(); ++i) right[kept[i] * size + i] = 1;
      for (std::size_t j = 0; j < rest.size(); ++j)
        for (std::size_t l = 0; l < r; ++l) right[rest[j] * size + kept.size() + l] = v[j * r + l];
      const auto left = m.best_left(right, size);
      std::vector<double> w(m.n * m.k, 0.0);
      for (std::size_t j = 0; j < m.k; ++j)
        for (std::size_t x = 0; x < size; ++x)
          for (std::size_t i = 0; i < m.n; ++i) w[j * m.n + i] += left[x * m.n + i] * right[j * size + x];
      value = m.value(w);
      if (r == 0 || rest.empty() || before - value < 1e-13 * std::abs(value)) break;
      before = value;
      // U^T U V C_RR = U^T (P - W_S C_S.)_R
      const double* const u = left.data() + kept.size() * m.n;
      const auto unknowns = r * rest.size();
      std::vector<double> a(unknowns * unknowns), b(unknowns, 0.0);
      for (std::size_t j = 0; j < rest.size(); ++j)
        for (std::size_t l = 0; l < r; ++l) {
          for (std::size_t i = 0; i < m.n; ++i) {
            double target = m.p[rest[j] * m.n + i];
            for (std::size_t x = 0; x < kept.size(); ++x) target -= left[x * m.n + i] * m.c[rest[j] * m.k + kept[x]];
            b[j * r + l] += u[l * m.n + i] * target;
          }
          for (std::size_t y = 0; y < rest.size(); ++y)
            for (std::size_t q = 0; q < r; ++q) {
              double product = 0;
              for (std::size_t i = 0; i < m.n; ++i) product += u[l * m.n + i] * u[q * m.n + i];
              a[(y * r + q) * unknowns + j * r + l] = product * m.c[rest[j] * m.k + rest[y]];
            }
        }
      v = solved(unknowns, a, b);
    }
    best = std::min(best, value);
  }
  return best;
}

TEST(TinyProblems, EveryStructureHasTheWeightsOfBruteForce) {
  const Communicator alone(MPI_COMM_SELF);
  const Prepared s(alone, {.rows = 4, .groups = 4, .group_columns = 2, .samples = 200});
  const auto cross = ActivationSplitting(alone, s.problem, s.scale, s.statistics).cross();
  const double pull = 1e-2, delta = pull * s.statistics.mean_diagonal;
  const auto m = matrices_of(s, cross.p, delta);
  for (std::int64_t mask = 0; mask < 16; ++mask)
    for (std::int64_t r = 0; r <= 3; ++r) {
      Structure structure{{}, r};
      std::vector<bool> is_kept(8, false);
      for (std::int64_t g = 0; g < 4; ++g)
        if ((mask >> g) % 2 == 1) {
          structure.kept_groups.push_back(g);
          is_kept[std::size_t(2 * g)] = is_kept[std::size_t(2 * g + 1)] = true;
        }
      const auto result =
          solve_structure(alone, s.problem, s.scale, s.statistics, structure, {.pulls = {pull}}); // linear
      const auto w = assemble_weights(result.factors, 4, 8, 2);
      const double all = m.value(m.best_left(
          [] {
            std::vector<double> identity(64, 0.0);
            for (std::size_t i = 0; i < 8; ++i) identity[i * 9] = 1;
            return identity;
          }(),
          8));
      const double value = m.value(w), best = brute_force(m, is_kept, std::size_t(r), unsigned(mask * 4 + r + 1));
      // The floor of 1e-9 d beside delta, and alternations that stop at a step of 1e-13.
      EXPECT_NEAR(value, best, 1e-6 * std::abs(all)) << "groups " << mask << ", rank " << r;
    }
}

/// In how many of 100 seeds the kept groups that are chosen leave at most 1.1 times the error of the best ones.
int close_choices(const Recipe& shape, Grouping grouping, const Split& split) {
  const Communicator alone(MPI_COMM_SELF);
  int close = 0;
  for (unsigned seed = 1; seed <= 100; ++seed) {
    auto recipe = shape;
    recipe.seed = seed;
    Prepared s(alone, recipe);
    s.problem.grouping = grouping;
    const double pull = 1e-3;
    const auto cross = ActivationSplitting(alone, s.problem, s.scale, s.statistics).cross().p;
    const auto gain_of = [&](const Structure& structure) {
      FixedStructure fixed(alone, s.problem, s.statistics, structure, pull * s.statistics.mean_diagonal,
                           Engine::automatic);
      fixed.start(cross);
      return fixed.gain();
    };
    const std::vector<Split> only{split};
    const auto chosen = solve_splits(alone, s.problem, s.scale, s.statistics, only, {.pulls = {pull}}).structure;
    Structure everything;
    for (std::int64_t g = 0; g < s.problem.groups(); ++g) everything.kept_groups.push_back(g);
    std::vector<bool> mask(everything.kept_groups.size(), false);
    std::fill_n(mask.begin(), split.groups, true);
    double best = 0;
    do {
      Structure structure{{}, split.rank};
      for (std::size_t g = 0; g < mask.size(); ++g)
        if (mask[g]) structure.kept_groups.push_back(std::int64_t(g));
      best = std::max(best, gain_of(structure));
    } while (std::prev_permutation(mask.begin(), mask.end()));
    const double all = gain_of(everything); // errors: what that explains and a structure does not
    if (all - gain_of(chosen) <= 1.1 * (all - best)) ++close;
  }
  return close;
}

TEST(TinyProblems, TheChosenChannelsAreCloseToTheBest) {
  EXPECT_GE(close_choices({.rows = 6, .groups = 6, .group_columns = 2, .samples = 240}, Grouping::channel, {2, 1}), 95);
}

TEST(TinyProblems, TheChosenColumnsAreCloseToTheBest) {
  EXPECT_GE(close_choices({.rows = 5, .groups = 7, .group_columns = 1, .samples = 240}, Grouping::column, {2, 1}), 95);
}

TEST(TinyProblems, TheChosenRowsAreCloseToTheBest) {
  EXPECT_GE(close_choices({.rows = 7, .groups = 4, .group_columns = 3, .samples = 240}, Grouping::filter, {2, 2}), 95);
}

} // namespace
} // namespace slr
