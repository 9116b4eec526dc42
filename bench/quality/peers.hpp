#pragma once
// Other ways to replace a layer by one with fewer numbers, on the same samples.
#include "slr/layer/constrained.hpp"

#include <functional>

namespace slr_bench {

/// A layer's problem with its statistics, and what it may cost.
struct PeerTask {
  const slr::Communicator& comm;
  const slr::LayerProblem& problem;
  const slr::InputScale& scale;
  const slr::LayerStatistics& statistics;
  std::int64_t target_rank = 0; ///< the largest rank without kept channels that fits
  std::int64_t groups = 0;      ///< the largest number of kept channels without a low-rank part that fits
  slr::ConstrainedOptions options;
};

struct Peer {
  const char* name;
  std::function<slr::LayerFactors(const PeerTask&)> solve; ///< collective, the same result on every rank
};

/// - svd: the truncated singular value decomposition of W.
/// - whitened_svd: the rank-r W' with the smallest ||(W' - W) X||, in closed form, the bias corrected for the mean.
/// - lasso_channels: He, Zhang, Sun, Channel pruning for accelerating very deep neural networks, ICCV 2017: channels by
///   the LASSO min ||Z - sum_c beta_c W_c X_c||^2 + lambda ||beta||_1, lambda raised until few enough are left, then
///   the weights on them by least squares towards Z, the outputs of the original layer before its activation.
/// - low_rank_activation: Zhang, Zou, He, Sun, Accelerating very deep convolutional networks, 2016: low rank with the
///   ReLU in the objective and inputs of the compressed network; solved by this program without kept groups.
[[nodiscard]] const std::vector<Peer>& peers();

} // namespace slr_bench
