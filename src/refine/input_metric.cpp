#include "slr/refine/input_metric.hpp"

#include "slr/graph/layers.hpp"
#include "slr/infer/capture.hpp"
#include "slr/infer/executor.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slr::refine {
namespace {

constexpr double damping = 1e-3, power = -0.25; // measured: bench/refine

/// A weight that gets a metric: which layers read by it, and how C acts.
struct Target {
  std::size_t offset = 0;
  std::int64_t outer = 0, size = 0, inner = 0;
  std::vector<graph::Layer> uses;
  /// Columns of a patch are size x per_patch, channel-major.
  [[nodiscard]] std::int64_t per_patch() const { return uses.front().cols / size; }
};

bool is_stored_transposed(const graph::Node& node) {
  return node.op == "MatMul" || (node.op == "Gemm" && node.int_or("transB", 0) == 0);
}

std::vector<Target> targets_in(const graph::Model& model, const std::vector<infer::TrainedTensor>& trained) {
  std::vector<Target> targets;
  for (const auto& layer : graph::find_layers(model)) {
    const auto tensor =
        std::find_if(trained.begin(), trained.end(), [&](const auto& t) { return t.name == layer.weight; });
    const auto channels = layer.cols / layer.window_area();
    if (tensor == trained.end() || layer.groups > 1 || channels > InputMetric::most_columns) continue;
    Target target{static_cast<std::size_t>(tensor->offset), layer.rows, layer.cols, 1, {}};
    if (is_stored_transposed(model.nodes[layer.node])) {
      target.outer = 1;
      target.inner = layer.rows;
    } else if (layer.cols > InputMetric::most_columns) {
      target.size = channels;
      target.inner = layer.window_area();
    }
    for (const auto* use : layer.uses()) target.uses.push_back(*use);
    targets.push_back(std::move(target));
  }
  return targets;
}

/// X X^T of patches (count x cols, row-major), of which the columns are size x per_patch.
void add_products(const Target& target, const std::vector<float>& rows, std::vector<float>& products) {
  const std::int64_t m = target.size, per_patch = target.per_patch();
  const auto count = std::ssize(rows) / (m * per_patch);
  if (per_patch == 1) {
    blas::gemm(Op::none, Op::transpose, m, m, count, 1.0F, rows.data(), m, rows.data(), m, 1.0F, products.data(), m);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const float* patch = rows.data() + i * m * per_patch;
    blas::gemm(Op::transpose, Op::none, m, m, per_patch, 1.0F, patch, per_patch, patch, per_patch, 1.0F,
               products.data(), m);
  }
}

/// C of all targets, up to a factor each.
class Moments {
public:
  Moments(const graph::Model& model, std::string input, const std::vector<Target>& targets, const Examples& fit)
      : input_(std::move(input)), targets_(targets), fit_(fit), executor_(model, {images_per_block, 1}) {
    for (const auto& target : targets)
      for (const auto& use : target.uses) values_.push_back(use.input);
  }
  /// Of one block of images, in single precision, by calls of fixed shapes.
  [[nodiscard]] std::vector<std::vector<float>> of_block(std::int64_t block) {
    std::vector<std::vector<float>> products;
    for (const auto& target : targets_)
      products.emplace_back(static_cast<std::size_t>(target.size * target.size), 0.0F);
    const auto images = fit_.block(block).images;
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(images->images()));
    std::iota(numbers.begin(), numbers.end(), block * images_per_block);
    executor_.show({{input_, *images}}, values_, [&](const auto& value, const infer::StridedView& view, auto) {
      for (std::size_t t = 0; t < targets_.size(); ++t)
        for (const auto& use : targets_[t].uses)
          if (use.input == value) {
            const auto table = infer::sample_batch({.seed = 1, .positions = InputMetric::positions}, numbers, use.name,
                                                   infer::output_map(use, view.dims));
            add_products(targets_[t], infer::patches(view, use, table), products[t]);
          }
    });
    return products;
  }

private:
  std::string input_;
  const std::vector<Target>& targets_;
  const Examples& fit_;
  infer::Executor executor_;
  std::vector<std::string> values_;
};

} // namespace

InputMetric::InputMetric(const Communicator& comm, const graph::Model& model, const std::string& input,
                         const std::vector<infer::TrainedTensor>& trained, const Examples& fit) {
  const auto targets = targets_in(model, trained);
  if (targets.empty()) return;
  const auto blocks = std::min(fit.blocks(), most_images / images_per_block);
  // Grids that reach far beyond the first block, which every rank computes.
  constexpr double headroom = 256;
  constexpr int bits = 40;
  std::vector<std::vector<double>> sums;
  collectively(comm, [&] {
    Moments moments(model, input, targets, fit);
    std::vector<FixedPoint> grids;
    const auto first = moments.of_block(0);
    for (const auto& products : first) {
      float largest = 0;
      for (const float value : products) largest = std::max(largest, std::abs(value));
      grids.push_back(FixedPoint::covering(headroom * static_cast<double>(largest), bits));
      sums.emplace_back(products.size(), 0.0);
    }
    for (std::int64_t b = comm.rank(); b < blocks; b += comm.size()) {
      const auto products = b == 0 ? first : moments.of_block(b);
      for (std::size_t t = 0; t < sums.size(); ++t)
        for (std::size_t i = 0; i < sums[t].size(); ++i)
          sums[t][i] += grids[t].round(static_cast<double>(products[t][i]));
    }
  });
  for (auto& sum : sums) comm.allreduce(std::span<double>(sum));
  collectively(comm, [&] {
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const auto& target = targets[t];
      auto& part = parts_.emplace_back(Part{target.offset, target.outer, target.size, target.inner, {}, {}});
      const auto elements = static_cast<std::size_t>(target.size * target.size);
      part.root.resize(elements);
      part.inverse.resize(elements);
      if (static_cast<int>(t % static_cast<std::size_t>(comm.size())) != comm.rank()) continue;
      find_roots(sums[t], part);
    }
  });
  for (std::size_t t = 0; t < parts_.size(); ++t) {
    const int owner = static_cast<int>(t % static_cast<std::size_t>(comm.size()));
    comm.broadcast(std::span<float>(parts_[t].root), owner);
    comm.broadcast(std::span<float>(parts_[t].inverse), owner);
  }
}

/// S and S^-1 from a multiple of C.
void InputMetric::find_roots(std::vector<double>& moments, Part& part) {
  const auto m = part.size;
  double trace = 0;
  for (std::int64_t i = 0; i < m; ++i) trace += moments[static_cast<std::size_t>(i * m + i)];
  const double mean = trace > 0 ? trace / static_cast<double>(m) : 1;
  std::vector<double> vectors(moments.size());
  const auto values = lapack::syevr<double>(m, moments.data(), m, vectors.data(), m, "the inputs of a refined layer");
  const auto form = [&](double exponent, std::vector<float>& into) {
    auto scaled = vectors;
    for (std::int64_t j = 0; j < m; ++j) {
      const double factor = std::pow(std::max(values[static_cast<std::size_t>(j)] / mean, 0.0) + damping, exponent);
      for (std::int64_t i = 0; i < m; ++i) scaled[static_cast<std::size_t>(j * m + i)] *= factor;
    }
    std::vector<double> product(vectors.size());
    blas::gemm(Op::none, Op::transpose, m, m, m, 1.0, scaled.data(), m, vectors.data(), m, 0.0, product.data(), m);
    into.assign(product.begin(), product.end());
  };
  form(power, part.root);
  form(-power, part.inverse);
}

void InputMetric::apply(const Part& part, const std::vector<float>& matrix, std::span<double> weights) {
  const auto all = weights.subspan(part.offset, static_cast<std::size_t>(part.outer * part.size * part.inner));
  const std::vector<float> from(all.begin(), all.end());
  std::vector<float> to(from.size());
  const std::int64_t m = part.size, inner = part.inner;
  if (inner == 1) {
    blas::gemm(Op::none, Op::none, m, part.outer, m, 1.0F, matrix.data(), m, from.data(), m, 0.0F, to.data(), m);
  } else {
    for (std::int64_t o = 0; o < part.outer; ++o)
      blas::gemm(Op::none, Op::none, inner, m, m, 1.0F, from.data() + o * m * inner, inner, matrix.data(), m, 0.0F,
                 to.data() + o * m * inner, inner);
  }
  std::copy(to.begin(), to.end(), all.begin());
}

void InputMetric::multiply(std::span<double> weights) const {
  for (const auto& part : parts_) apply(part, part.root, weights);
}

void InputMetric::divide(std::span<double> weights) const {
  for (const auto& part : parts_) apply(part, part.inverse, weights);
}

} // namespace slr::refine
