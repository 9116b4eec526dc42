// VGG-16's fc6 with 2,000 samples through the implicit inverse: 4096 x 25088 on 4 ranks in at most 6 GB altogether.
#include "dist/grids.hpp"
#include "slr/linalg/damped_inverse.hpp"

#include <gtest/gtest.h>
#include <iostream>
#include <sys/resource.h>

namespace {

using namespace slr;
using namespace slr_test;

TEST(ImplicitInverseSoak, TheLargestLayerFits) {
  const auto comm = world();
  const std::int64_t m = 4096, k = 25088, n = 2000;
  const std::int64_t mine = n / comm.size() + (comm.rank() < n % comm.size() ? 1 : 0);
  const double delta = 0.1;
  const auto x = random_matrix<float>(k, mine, 100 + std::uint64_t(comm.rank()));
  const ImplicitInverse inverse(comm, x, std::vector<double>(static_cast<std::size_t>(k), 0.0), delta, "fc6");
  // B's first n rows of the test are samples: x^T (X X^T / N + delta)^-1 X = K (K / N + delta)^-1 in sample space;
  // enough here: one row is a sample of rank 0, checked by applying C + delta I to the solution.
  DistMatrix<double> b(ProcessGrid::row(comm), m, k, m, 72);
  std::vector<float> sample(x.begin(), x.begin() + k);
  comm.broadcast(std::span<float>(sample));
  b.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
    value = i.value() == m - 1 ? double(sample[static_cast<std::size_t>(j.value())])
                               : double((i.value() + j.value()) % 7) - 3;
  });
  inverse.solve(b);

  std::vector<double> row(static_cast<std::size_t>(k), 0.0);
  for (LocalCol j(0); j.value() < b.local_cols(); ++j)
    row[static_cast<std::size_t>(b.global_col(j).value())] = b.at(LocalRow(m - 1), j);
  comm.allreduce(std::span<double>(row));
  std::vector<double> back(row.size(), 0.0);
  for (std::int64_t s = 0; s < mine; ++s) {
    double inner = 0;
    for (std::int64_t i = 0; i < k; ++i) inner += row[std::size_t(i)] * double(x[std::size_t(i + s * k)]);
    for (std::int64_t i = 0; i < k; ++i) back[std::size_t(i)] += inner * double(x[std::size_t(i + s * k)]) / double(n);
  }
  comm.allreduce(std::span<double>(back));
  double worst = 0;
  for (std::int64_t i = 0; i < k; ++i)
    worst =
        std::max(worst, std::abs(back[std::size_t(i)] + delta * row[std::size_t(i)] - double(sample[std::size_t(i)])));
  EXPECT_LT(worst, 1e-9); // k eps cond, cond < 200, entries of size 5

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double gigabytes = comm.allreduce_value(double(usage.ru_maxrss) * 1024e-9);
  if (comm.is_root()) std::cout << "peak memory of all ranks: " << gigabytes << " GB\n";
  EXPECT_LT(gigabytes, 6);
}

} // namespace
