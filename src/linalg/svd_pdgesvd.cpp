#include "slr/dist/redistribute.hpp"
#include "slr/linalg/scalapack.hpp"
#include "svd_core.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace slr::detail {
namespace {

/// Block size of p?gesvd; it wants rows and columns cut alike.
constexpr std::int64_t svd_block = 64;

/// The most square grid of which every process holds a part; one process for tiny matrices. Collective.
Grid fitting_grid(const Communicator& comm, std::int64_t rows, std::int64_t cols) {
  const Grid square = ProcessGrid::square(comm);
  const auto at_most = [](std::int64_t extent, int parts) {
    return static_cast<int>(std::min<std::int64_t>((extent + svd_block - 1) / svd_block, parts));
  };
  // The larger side of the grid goes to the larger side of the matrix.
  const int p = cols < 3 ? 1 : at_most(rows, square->cols());
  const int q = cols < 3 ? 1 : at_most(cols, square->rows());
  return ProcessGrid::create(comm, p, q);
}

/// The panel's transpose, block rows: the tall orientation, in which p?gesvd is several times faster.
template <class T>
DistMatrix<T> tall(const Panel<T>& panel, const Grid& grid) {
  DistMatrix<T> wide(ProcessGrid::row(*panel.comm), panel.rows, panel.cols, std::max<std::int64_t>(1, panel.rows),
                     panel.col_block);
  std::copy_n(panel.data, panel.rows * panel.local_cols, wide.local().begin());
  const auto standing = transposed(wide, ProcessGrid::column(*panel.comm));
  DistMatrix<T> a(grid, panel.cols, panel.rows, svd_block, svd_block);
  redistribute(*panel.comm, standing, a);
  return a;
}

} // namespace

template <class T>
Factors<T> pdgesvd_engine(const Panel<T>& panel, const Request& request) {
  const Communicator& comm = *panel.comm;
  const std::int64_t m = panel.rows;
  const Grid grid = fitting_grid(comm, panel.cols, m);
  auto a = tall(panel, grid);
  DistMatrix<T> u(grid, panel.cols, m, svd_block, svd_block);
  DistMatrix<T> vt(grid, m, m, svd_block, svd_block);
  const auto s = scalapack::gesvd(a, u, vt, request.context);

  // Z = (u s vt)^T: the short side's vectors are the rows of vt, the long side's the columns of u.
  Factors<T> factors;
  const double eps = std::numeric_limits<T>::epsilon() / 2.0;
  double square = 0;
  std::int64_t rank = 0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    square += double(s[i]) * double(s[i]);
    const double lower = request.is_threshold ? request.tau : 0;
    const bool within = request.is_threshold || std::int64_t(i) < request.target_rank;
    if (within && s[i] > lower && s[i] > eps * double(s[0])) ++rank;
  }
  factors.sigma.assign(s.begin(), s.begin() + rank);
  const auto whole_vt = gather_everywhere(vt);
  const std::int64_t with_guards = std::min(m, rank + guards(rank));
  factors.vectors.resize(static_cast<std::size_t>(with_guards * m));
  for (std::int64_t j = 0; j < with_guards; ++j)
    for (std::int64_t i = 0; i < m; ++i)
      factors.vectors[static_cast<std::size_t>(i + j * m)] = double(whole_vt[static_cast<std::size_t>(j + i * m)]);
  for (std::int64_t j = 0; j < with_guards; ++j)
    factors.values.push_back(double(s[static_cast<std::size_t>(j)]) * double(s[static_cast<std::size_t>(j)]));
  factors.left.assign(factors.vectors.begin(), factors.vectors.begin() + rank * m);

  // The kept columns of u, back in the panel's layout.
  DistMatrix<T> standing(ProcessGrid::column(comm), panel.cols, rank, panel.col_block, std::max<std::int64_t>(1, rank));
  redistribute<T>(comm, std::as_const(u).view(GlobalRow(0), GlobalCol(0), panel.cols, rank), View<T>(standing));
  const auto lying = transposed(standing, ProcessGrid::row(comm));
  factors.right.assign(lying.local().begin(), lying.local().end());

  // Backward stability: the factors are exact for a Z within p(m, l) eps ||Z||, p a modest polynomial; 4 sqrt(m) + 40
  // covers what is seen, with a wide margin.
  factors.error_bound = (4 * std::sqrt(double(m)) + 40) * eps * std::sqrt(square);
  factors.accepted = true;
  return factors;
}

template Factors<float> pdgesvd_engine(const Panel<float>&, const Request&);
template Factors<double> pdgesvd_engine(const Panel<double>&, const Request&);

} // namespace slr::detail
