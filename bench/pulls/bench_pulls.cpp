// Several strengths of the pull towards the original weights for one layer: a Cholesky factor per strength against one
// spectrum for all. For P (n x k) and C (k x k), both yield W = P (C + delta I)^-1 for every delta:
//
//   factors    per delta  k^3 / 3 + 2 n k^2                                              potrf, two trsm
//   spectrum   C = V diag(l) V^T once, P V once, and per delta 2 n k^2                   syevr, gemm
//
// A line per shape: median processor times over the runs (another job may share the machine), the spread of the sums,
// and the number of strengths from which the spectrum is the quicker one. One process, one BLAS thread.
#include "slr/linalg/lapack.hpp"
#include "support/bench_main.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <random>
#include <vector>

namespace {

using namespace slr;

constexpr int runs = 5;

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Times {
  std::vector<double> values;
  template <class Work>
  void add(Work&& work) {
    const double start = processor_seconds();
    work();
    values.push_back(processor_seconds() - start);
  }
  [[nodiscard]] double median() {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  [[nodiscard]] double spread() { return (values.back() - values.front()) / median(); }
};

std::vector<double> random_values(std::int64_t count, std::mt19937_64& engine) {
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& v : values) v = normal(engine);
  return values;
}

void run_shape(std::int64_t n, std::int64_t k) {
  std::mt19937_64 engine(1);
  const auto samples = 2 * k;
  const auto x = random_values(k * samples, engine), p = random_values(n * k, engine);
  std::vector<double> c(static_cast<std::size_t>(k * k));
  blas::syrk(Uplo::lower, Op::none, k, samples, 1.0 / static_cast<double>(samples), x.data(), k, 0.0, c.data(), k);
  Times factor, solve, spectrum, product;
  double difference = 0;
  for (int run = 0; run <= runs; ++run) {
    auto l = c, vectors = c, reduced = c, by_factor = p, rotated = p, by_spectrum = p;
    const double delta = 0.01;
    for (std::int64_t j = 0; j < k; ++j) l[static_cast<std::size_t>(j * (k + 1))] += delta;
    factor.add([&] { require(lapack::potrf<double>(Uplo::lower, k, l.data(), k) == 0, "C + delta I is definite"); });
    solve.add([&] {
      blas::trsm<double>(Side::right, Uplo::lower, Op::transpose, n, k, 1, l.data(), k, by_factor.data(), n);
      blas::trsm<double>(Side::right, Uplo::lower, Op::none, n, k, 1, l.data(), k, by_factor.data(), n);
    });
    std::vector<double> values;
    spectrum.add([&] {
      values = lapack::syevr<double>(k, reduced.data(), k, vectors.data(), k);
      blas::gemm(Op::none, Op::none, n, k, k, 1.0, p.data(), n, vectors.data(), k, 0.0, rotated.data(), n);
    });
    product.add([&] {
      for (std::int64_t j = 0; j < k; ++j)
        for (std::int64_t i = 0; i < n; ++i)
          rotated[static_cast<std::size_t>(j * n + i)] /= values[static_cast<std::size_t>(j)] + delta;
      blas::gemm(Op::none, Op::transpose, n, k, k, 1.0, rotated.data(), n, vectors.data(), k, 0.0, by_spectrum.data(),
                 n);
    });
    for (std::size_t i = 0; i < p.size(); ++i)
      difference = std::max(difference, std::abs(by_spectrum[i] - by_factor[i]) / (1 + std::abs(by_factor[i])));
    if (run == 0) // warm-up
      for (auto* times : {&factor, &solve, &spectrum, &product}) times->values.clear();
  }
  require(difference < 1e-8, "both ways have the same solutions");
  const double once = spectrum.median(), each = product.median(), by_factor = factor.median() + solve.median();
  std::printf("n %4d  k %4d  factor %7.2f ms  solve %7.2f ms  spectrum %8.2f ms  product %7.2f ms  spread %2.0f %%  ",
              int(n), int(k), 1e3 * factor.median(), 1e3 * solve.median(), 1e3 * once, 1e3 * each,
              100 * std::max(factor.spread(), spectrum.spread()));
  if (by_factor > each)
    std::printf("spectrum pays from %.0f strengths on\n", std::ceil(once / (by_factor - each)));
  else
    std::printf("spectrum never pays\n");
}

} // namespace

int main(int argc, char** argv) {
  return slr_bench::bench_main(argc, argv, "bench_pulls", MPI_COMM_WORLD, [](const Communicator& comm) {
    require(comm.size() == 1, "bench_pulls runs in one process");
    for (const auto& [n, k] : {std::pair{64, 288}, {64, 576}, {128, 576}, {128, 1152}, {256, 1152}, {512, 1792}})
      run_shape(n, k);
  });
}
