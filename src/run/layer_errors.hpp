#pragma once
// The errors of a layer, from what is on the disk alone.
#include "slr/base/grouping.hpp"
#include "slr/prox/activation.hpp"
#include "slr/store/factors.hpp"
#include "slr/store/feature_set.hpp"

namespace slr::run {

/// What the certificate of a layer's factors says about its form.
struct FactorShape {
  std::int64_t rows = 0, cols = 0;
  std::int64_t group_columns = 1; ///< neighbouring columns that are kept together
  Grouping grouping = Grouping::channel;
  slr::Activation activation;
};

/// Reads `rows`, `cols`, `group_columns`, `grouping` and `activation` and holds the matrices, the bias and the kept
/// groups against them. Local. \throws Error{bad_data} naming the layer.
[[nodiscard]] FactorShape checked_shape(const store::LayerFactors& factors);

enum class Judged { both, heldout };

struct LayerErrors {
  double train = 0, heldout = 0; ///< 0 without samples
  std::int64_t train_samples = 0, heldout_samples = 0;
};

/// ||Y - r(U (V X_R) + B X_S + b)||_F^2 / ||Y||_F^2 over the samples of the fitted images and of the report images
/// (role_of_image), X being the inputs that were fitted, else the original ones. Plain double precision on the numbers
/// as stored, sharing no code with the solver. Local. Memory: about 30 MB beside the factors.
/// \throws Error{bad_data} if factors and shards do not fit together or a shard is damaged, Error{io}.
[[nodiscard]] LayerErrors layer_errors(const store::FeatureSet& features, const store::LayerFactors& factors,
                                       Judged judged = Judged::both);

/// Whether a stored error is the recomputed one: |a - b| <= max(1e-3 max(a, b), 1e-7).
///
/// The program computes errors with inputs rounded to 17 bits of their largest value and weights to 23 bits or more,
/// before the factors are rounded to single precision (24 bits). Every activation has slopes of at most 1, so with e
/// the error and d = ||delta Z||_F / ||Y||_F the errors differ by at most 2 sqrt(e) d + d^2, where
/// d <= 2^-17 sqrt(k) times the ratio of largest to typical input: below 1e-4 for real layers, hence d^2 below 1e-8.
/// The first term is that bound only if the roundings line up with the residual in every sample; they are independent
/// of it, so of N n terms about sqrt(N n) remain: 1e-3 e covers it from a hundred samples on. Local.
[[nodiscard]] bool is_same_error(double a, double b);

} // namespace slr::run
