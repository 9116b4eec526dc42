#pragma once
/// \file
/// Seeded matrices with a known singular value decomposition, and neighbours of them.
#include "slr/dist/dist_matrix.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace slr_bench {

/// Singular values of a trained layer as seen during the iteration: 68 from 1 to .2 and a noise tail from .02 to 0; or
/// a slow decay 1 / (1 + i / 20) without any gap.
enum class Spectrum { gap, slow };
[[nodiscard]] std::string spectrum_name(Spectrum spectrum);
[[nodiscard]] std::vector<double> singular_values(Spectrum spectrum, std::int64_t count);

/// U diag(s) V^T with seeded random orthonormal factors, in double; on rank 0 only (empty elsewhere).
struct TestMatrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<double> s;
  std::vector<double> u; ///< rows x q
  std::vector<double> v; ///< cols x q
  std::vector<double> z; ///< rows x cols
};
[[nodiscard]] TestMatrix make_test_matrix(std::int64_t rows, std::int64_t cols, Spectrum spectrum);

/// Z + E with a seeded Gaussian E of ||E||_F = relative ||Z||_F.
[[nodiscard]] std::vector<double> perturbed(const TestMatrix& matrix, double relative);

/// ||U' diag(s') V'^T - X||_F / ||X||_F, X the singular value thresholding of the test matrix in closed form. vt is
/// r x cols, column-major.
[[nodiscard]] double relative_error(const TestMatrix& matrix, double tau, const std::vector<double>& u,
                                    const std::vector<double>& s, const std::vector<double>& vt);
/// ||X||_F of the closed form.
[[nodiscard]] double norm_of_threshold(const TestMatrix& matrix, double tau);

} // namespace slr_bench
