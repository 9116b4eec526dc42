#pragma once
/// \file
/// A compressed layer as it is applied to samples: never the dense sum of its parts.
#include "slr/layer/exact_products.hpp"
#include "slr/layer/problem.hpp"

namespace slr {

/// z = mean + left Phi_{1..m} + dense (x_S - mean x_S)  with  Phi = E (x - mean x)  clamped to |Phi| <=
/// 2^feature_exponent.
///
/// The rows of E (q >= r of them; either the first m = r are used and the others are guards for the next iteration, or
/// `left` takes m = q of them and has rank r) live on all columns: in the metric of the inputs' second moments they are
/// orthonormal and orthogonal to the kept columns S. So `dense` is the plain regression on x_S, and the low-rank part
/// of the other columns is left E_R. Single precision: what a
/// network computes in; inputs are centred first, because where they vary little about a large mean, the products of
/// the means would drown those of the variations.
struct FactoredMap {
  std::int64_t rows = 0, cols = 0;
  std::int64_t basis_size = 0;            ///< q
  std::int64_t numerical_rank = 0;        ///< r <= q
  std::int64_t left_columns = 0;          ///< m: r or q
  std::vector<std::int64_t> kept_columns; ///< S, increasing
  std::vector<float> basis;               ///< E, q x cols, column-major
  std::vector<float> left;                ///< rows x m
  std::vector<float> dense;               ///< rows x |S|
  std::vector<float> input_mean;          ///< cols
  std::vector<float> mean;                ///< of z over the samples, rows
  int feature_exponent = 0;
};

/// Intermediate values of one block of samples, kept from call to call.
struct FactoredValues {
  std::vector<float> x;        ///< x - mean x, cols x count
  std::vector<float> features; ///< Phi, q x count
  std::vector<float> kept;     ///< x_S - mean x_S, |S| x count
  std::vector<float> z;        ///< rows x count
};

/// Applies the map to `count` neighbouring samples x (cols x count). Local, 2 count (q cols + m rows + |S| rows) flops.
void apply(const FactoredMap& map, const float* x, std::int64_t count, FactoredValues& values);
/// The same where these samples' features (q x count) are at hand: only `kept` and `z` are filled. Local, 2 count (m +
/// |S|) rows flops.
void apply_to_features(const FactoredMap& map, const float* x, std::int64_t count, const float* features,
                       FactoredValues& values);

/// The features of samples in the basis of the map that they last went through; they serve again while it stays.
class RememberedFeatures {
public:
  /// For so many samples (in all) and this map from now on. Local.
  void begin(const FactoredMap& map, std::int64_t samples);
  /// `apply` to the samples [first, first + count), x those alone; their features, q x count. Local. @pre begun
  const float* apply(const FactoredMap& map, const float* x, std::int64_t first, std::int64_t count,
                     FactoredValues& values);
  /// They are computed again next time, with the same bits.
  void forget() { basis_.clear(); }

private:
  std::vector<float> basis_, features_; ///< E; q x samples
  bool are_known_ = false;
};

/// Calls use(first sample, count) for each fixed block of these samples, in order. Local.
template <class Use>
void for_each_sample_block(const Samples& samples, Use&& use) {
  std::int64_t first = 0;
  for (const auto end : samples.block_ends) {
    if (end > first) use(first, end - first);
    first = end;
  }
  if (samples.count > first) use(first, samples.count - first);
}

/// ||Y - r(map(X))||_F^2 / ||Y||_F^2 over the samples of all ranks; 0 for no samples. Collective; the same bits for
/// every number of ranks. `features`: of these samples, from the last time.
[[nodiscard]] double relative_error(const Communicator& comm, const LayerProblem& problem, const Samples& samples,
                                    const FactoredMap& map, RememberedFeatures& features);
/// The same for a result, in double precision: 2 N (r (n + k) + n |S|) flops over all ranks.
[[nodiscard]] double relative_error(const Communicator& comm, const LayerProblem& problem, const Samples& samples,
                                    const LayerFactors& factors);

} // namespace slr
