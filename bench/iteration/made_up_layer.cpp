#include "made_up_layer.hpp"

#include "slr/base/file.hpp"
#include "slr/linalg/blas.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace slr_bench {
namespace {

using slr::Op;

/// Sums of four uniform numbers, scaled to variance one: near enough to normal, and the same everywhere.
class Noise {
public:
  explicit Noise(std::uint64_t seed) : engine_(seed) {}
  float operator()() {
    const std::uint64_t bits = engine_();
    double sum = -2;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>((bits >> (16 * i)) & 0xFFFFU) * 0x1p-16;
    return static_cast<float>(sum * std::sqrt(3.0));
  }
  std::vector<float> many(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& v : values) v = (*this)();
    return values;
  }

private:
  std::mt19937_64 engine_;
};

/// m x n of rank l with factors whose l-th terms decay as (l + 1)^-power, column-major.
std::vector<float> decaying(Noise& noise, std::int64_t m, std::int64_t n, std::int64_t l, double power) {
  auto left = noise.many(m * l);
  const auto right = noise.many(l * n);
  for (std::int64_t i = 0; i < m * l; ++i)
    left[static_cast<std::size_t>(i)] *= static_cast<float>(std::pow(1.0 + static_cast<double>(i / m), -power));
  std::vector<float> product(static_cast<std::size_t>(m * n));
  slr::blas::gemm(Op::none, Op::none, m, n, l, 1.0F, left.data(), m, right.data(), l, 0.0F, product.data(), m);
  return product;
}

template <class T>
void write(const std::filesystem::path& file, const std::vector<T>& values) {
  slr::write_file_atomically(file, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
}

} // namespace

slr::LayerProblem made_up_layer(const LayerSize& size, std::uint64_t seed) {
  constexpr std::int64_t latent = 512, block = 128;
  const auto [n, k, group, count] = size;
  Noise noise(seed);
  slr::LayerProblem problem;
  problem.name = "made up";
  problem.rows = n;
  problem.cols = k;
  problem.group_columns = group;
  problem.activation.type = slr::ActivationType::relu;

  auto& fit = problem.fit;
  fit.count = count;
  fit.x = decaying(noise, k, count, latent, 0.5);
  for (float& x : fit.x) x = std::max(x + 0.3F * noise(), 0.0F);
  for (std::int64_t end = block; end < count; end += block) fit.block_ends.push_back(end);

  auto weights = decaying(noise, n, k, n, 0.7);
  for (std::int64_t j = 0; j < k; ++j) {
    const float factor = (j / group) % 10 == 3 ? 3.0F : 1.0F;
    for (std::int64_t i = 0; i < n; ++i) weights[static_cast<std::size_t>(j * n + i)] *= factor;
  }
  problem.weights = weights;
  std::vector<double> mean(static_cast<std::size_t>(k), 0.0);
  for (std::size_t i = 0; i < fit.x.size(); ++i) mean[i % mean.size()] += fit.x[i] / static_cast<double>(count);
  problem.bias.assign(static_cast<std::size_t>(n), 0.0);
  const std::vector<double> wide(weights.begin(), weights.end());
  slr::blas::gemm(Op::none, Op::none, n, 1, k, -1.0, wide.data(), n, mean.data(), k, 0.0, problem.bias.data(),
                  n); // half of the values before the activation are negative

  fit.linear.resize(static_cast<std::size_t>(n * count));
  for (std::int64_t s = 0; s < count; ++s)
    std::copy(problem.bias.begin(), problem.bias.end(), fit.linear.begin() + s * n);
  slr::blas::gemm(Op::none, Op::none, n, count, k, 1.0F, weights.data(), n, fit.x.data(), k, 1.0F, fit.linear.data(),
                  n);
  fit.y.resize(fit.linear.size());
  problem.activation.apply(fit.linear, fit.y);
  return problem;
}

std::vector<std::int64_t> heaviest_groups(const slr::LayerProblem& problem, std::int64_t count) {
  const auto n = static_cast<std::size_t>(problem.rows), k = static_cast<std::size_t>(problem.cols);
  std::vector<double> power(k, 0.0), energy(static_cast<std::size_t>(problem.groups()), 0.0);
  for (std::size_t i = 0; i < problem.fit.x.size(); ++i) power[i % k] += double(problem.fit.x[i]) * problem.fit.x[i];
  for (std::size_t j = 0; j < k; ++j)
    for (std::size_t i = 0; i < n; ++i)
      energy[j / static_cast<std::size_t>(problem.group_columns)] +=
          problem.weights[j * n + i] * problem.weights[j * n + i] * power[j];
  std::vector<std::int64_t> groups(energy.size());
  std::iota(groups.begin(), groups.end(), std::int64_t{0});
  std::stable_sort(groups.begin(), groups.end(), [&](auto a, auto b) { return energy[size_t(a)] > energy[size_t(b)]; });
  groups.resize(static_cast<std::size_t>(std::min<std::int64_t>(count, std::ssize(groups))));
  std::sort(groups.begin(), groups.end());
  return groups;
}

void write_raw(const slr::LayerProblem& problem, const std::vector<std::int64_t>& kept_groups,
               const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::vector<float> weight;
  for (std::int64_t i = 0; i < problem.rows; ++i)
    for (std::int64_t j = 0; j < problem.cols; ++j)
      weight.push_back(static_cast<float>(problem.weights[static_cast<std::size_t>(j * problem.rows + i)]));
  write(folder / "x.f32", problem.fit.x);
  write(folder / "y.f32", problem.fit.y);
  write(folder / "weight.f32", weight);
  write(folder / "bias.f32", std::vector<float>(problem.bias.begin(), problem.bias.end()));
  write(folder / "kept.i64", kept_groups);
}

} // namespace slr_bench
