// VGG-16's fc6 with 2,000 samples in the implicit form: 4096 x 25088 on 4 ranks in at most 6 GB altogether.
#include "dist/grids.hpp"
#include "slr/layer/structure.hpp"
#include "slr/linalg/blas.hpp"

#include <gtest/gtest.h>
#include <iostream>
#include <sys/resource.h>

namespace {

using namespace slr;
using namespace slr_test;

// At the optimum of a start, with E = Sigma^-1 U^T P C^-1,  E C E^T = I  and  P E^T = U Sigma.
TEST(ImplicitSoak, TheLargestLayerFits) {
  const auto comm = world();
  const std::int64_t n = 4096, k = 25088, samples = 2000, rank = 64;
  LayerProblem problem;
  problem.name = "fc6";
  problem.rows = n;
  problem.cols = k;
  problem.weights = random_matrix<float>(n, k, 7);
  problem.fit.count = samples / comm.size() + (comm.rank() < samples % comm.size() ? 1 : 0);
  problem.fit.x = random_matrix<float>(k, problem.fit.count, 100 + std::uint64_t(comm.rank()));
  for (float& x : problem.fit.x) x = std::round(x * 4096) / 4096; // as round_inputs leaves them
  const auto statistics = measure_in_samples(comm, ProcessGrid::row(comm), problem);
  const double delta = 0.1;
  FixedStructure fixed(comm, problem, statistics, {{}, rank}, delta, Engine::automatic);
  const std::vector<float> target(statistics.in_samples->original.begin(), statistics.in_samples->original.end());
  fixed.start(target);

  const auto map = fixed.map(std::vector<double>(std::size_t(n), 0.0));
  const auto q = map.basis_size;
  std::vector<float> x = problem.fit.x, features(std::size_t(q * problem.fit.count)), metric(std::size_t(q * q)),
                     cross(std::size_t(n * q));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] -= map.input_mean[i % std::size_t(k)];
  const auto m = problem.fit.count;
  blas::gemm(Op::none, Op::none, q, m, k, 1.0F, map.basis.data(), q, x.data(), k, 0.0F, features.data(), q);
  const float per_sample = 1.0F / float(samples), share = float(delta) / float(comm.size());
  blas::gemm(Op::none, Op::transpose, q, q, m, per_sample, features.data(), q, features.data(), q, 0.0F, metric.data(),
             q);
  blas::gemm(Op::none, Op::transpose, q, q, k, share, map.basis.data(), q, map.basis.data(), q, 1.0F, metric.data(), q);
  blas::gemm(Op::none, Op::transpose, n, q, m, per_sample, target.data(), n, features.data(), q, 0.0F, cross.data(), n);
  blas::gemm(Op::none, Op::transpose, n, q, k, share, problem.weights.data(), n, map.basis.data(), q, 1.0F,
             cross.data(), n);
  comm.allreduce(std::span<float>(metric));
  comm.allreduce(std::span<float>(cross));
  // Single precision, sums of k terms that behave like random ones: sqrt(k) eps sqrt(cond C) with ||C|| < 21, relative.
  const double single = 10 * std::sqrt(double(k)) * std::ldexp(1.0, -24) * std::sqrt(21 / delta);
  double off = 0, scale = 0;
  for (std::int64_t i = 0; i < q; ++i)
    for (std::int64_t j = 0; j < q; ++j)
      off = std::max(off, std::abs(double(metric[std::size_t(j * q + i)]) - (i == j ? 1 : 0)));
  EXPECT_LT(off, single);
  off = 0;
  for (std::size_t i = 0; i < map.left.size(); ++i) {
    off = std::max(off, std::abs(double(cross[i]) - double(map.left[i])));
    scale = std::max(scale, std::abs(double(map.left[i])));
  }
  EXPECT_LT(off, single * scale);

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double gigabytes = comm.allreduce_value(double(usage.ru_maxrss) * 1024e-9);
  if (comm.is_root()) std::cout << "peak memory of all ranks: " << gigabytes << " GB\n";
  EXPECT_LT(gigabytes, 6);
}

} // namespace
