#include "slr/dist/norms.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <array>
#include <cmath>

namespace slr {

template <class T>
double frobenius_norm(const DistMatrix<T>& matrix) {
  ExactSum sum;
  collectively(matrix.comm(), [&] {
    for (std::int64_t j = 0; j < matrix.local_cols(); ++j) {
      double column = 0;
      for (std::int64_t i = 0; i < matrix.local_rows(); ++i) {
        const double a = matrix.at(LocalRow(i), LocalCol(j));
        column += a * a;
      }
      sum.add(column);
    }
  });
  return std::sqrt(allreduce_exact(matrix.comm(), std::array{sum})[0]);
}

template <class T>
double max_abs(const DistMatrix<T>& matrix) {
  double largest = 0;
  for (const T value : matrix.local()) largest = std::max<double>(largest, std::abs(value));
  return matrix.comm().allreduce_value(largest, Reduction::max);
}

template <class T>
void require_finite(const DistMatrix<T>& matrix, std::string_view what, std::string_view context) {
  // x - x is 0 for a number and NaN otherwise, and a sum keeps a NaN. Independent lanes become vector instructions.
  constexpr std::size_t lanes = 16;
  std::array<T, lanes> sums{};
  const auto values = matrix.local();
  const std::size_t whole = values.size() / lanes * lanes;
  for (std::size_t i = 0; i < whole; i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += values[i + lane] - values[i + lane];
  T poison = 0;
  for (std::size_t i = whole; i < values.size(); ++i) poison += values[i] - values[i];
  for (const T sum : sums) poison += sum;
  const int bad = matrix.comm().allreduce_value(poison == T(0) ? 0 : 1, Reduction::max);
  if (bad == 0) return;
  throw Error(ExitCode::numerical, std::string(what) + (context.empty() ? "" : " of ") + std::string(context) +
                                       " holds a value that is not finite: check the weights and the calibration data");
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template double frobenius_norm(const DistMatrix<T>&);                                                                \
  template double max_abs(const DistMatrix<T>&);                                                                       \
  template void require_finite(const DistMatrix<T>&, std::string_view, std::string_view);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr
