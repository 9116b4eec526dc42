#include "slr/linalg/scalapack.hpp"

#include "info.hpp"
#include "slr/dist/detail/scalapack_prototypes.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/whereabouts.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace slr::scalapack {
namespace {

using detail::check_info;
using detail::ScaLapack;

template <class T>
std::string name(std::string_view routine) {
  return (std::is_same_v<T, float> ? "ps" : "pd") + std::string(routine);
}

/// A view as the five arguments that every routine takes.
template <class T>
struct Argument {
  explicit Argument(const View<T>& view)
      : data(view.matrix->local().data()), row(static_cast<int>(view.row.value()) + 1),
        col(static_cast<int>(view.col.value()) + 1), descriptor(view.matrix->descriptor()) {}
  T* data;
  int row;
  int col;
  std::array<int, 9> descriptor;
};

template <class T>
const ProcessGrid& grid_of(const View<T>& view) {
  return *view.matrix->grid();
}

bool is_one_process(const ProcessGrid& grid) {
  return grid.rows() * grid.cols() == 1;
}

/// First local element of a view on a grid of one process.
template <class T>
T* local(const View<T>& view) {
  return view.matrix->local().data() + view.row.value() + view.col.value() * view.matrix->lld();
}

int size32(std::int64_t n) {
  return narrow<int>(n, "an extent of a matrix");
}

/// LWORK from a query. A float cannot hold every integer that a query should report, and psgesvd's is one short for
/// 4096 x 25088: round up generously; beyond 32 bits is an error.
template <class T>
int work_size(T queried) {
  const double generous = std::ceil(std::abs(static_cast<double>(queried)) * (1 + 1e-5)) + 64;
  return narrow<int>(static_cast<std::int64_t>(generous), "a workspace");
}

/// Calls a routine twice, to ask for its workspace and to work: call(work, lwork, iwork, liwork). The allocation, the
/// largest of a decomposition, fails on all ranks or on none. Collective over `comm`; only members of the grid call.
template <class T, class Call>
void run_with_workspace(const Communicator& comm, bool takes_part, int& info, Call&& call) {
  std::array<T, 8> query{};
  std::array<int, 8> integer_query{};
  if (takes_part) call(query.data(), -1, integer_query.data(), -1);
  std::vector<T> work;
  std::vector<int> iwork;
  collectively(comm, [&] {
    if (!takes_part || info != 0) return;
    work.resize(static_cast<std::size_t>(work_size(query[0])));
    iwork.resize(static_cast<std::size_t>(integer_query[0] + 8));
  });
  const Waiting waiting("a decomposition of ScaLAPACK", false);
  if (takes_part && info == 0)
    call(work.data(), static_cast<int>(work.size()), iwork.data(), static_cast<int>(iwork.size()));
}

template <class T>
void require_square_blocks(const DistMatrix<T>& a) {
  require(a.rows() == a.cols() && a.distribution().rows.block() == a.distribution().cols.block(),
          "a square matrix with square blocks is needed");
}

} // namespace

template <class T>
void gemm(Op op_a, Op op_b, T alpha, In<T> a, In<T> b, std::type_identity_t<T> beta, Out<T> c) {
  const std::int64_t inner = op_a == Op::none ? a.cols : a.rows;
  require((op_a == Op::none ? a.rows : a.cols) == c.rows && (op_b == Op::none ? b.cols : b.rows) == c.cols &&
              (op_b == Op::none ? b.rows : b.cols) == inner,
          "the shapes of a product do not fit");
  if (c.rows == 0 || c.cols == 0 || !grid_of(a).contains_me()) return;
  if (is_one_process(grid_of(a)))
    return blas::gemm<T>(op_a, op_b, c.rows, c.cols, inner, alpha, local(a), a.matrix->lld(), local(b), b.matrix->lld(),
                         beta, local(c), c.matrix->lld());
  const char ta = static_cast<char>(op_a), tb = static_cast<char>(op_b);
  const int m = size32(c.rows), n = size32(c.cols), k = size32(inner);
  const Argument aa(a), bb(b);
  const Argument cc(c);
  const Waiting waiting("p?gemm", false);
  ScaLapack<T>::gemm(&ta, &tb, &m, &n, &k, &alpha, aa.data, &aa.row, &aa.col, aa.descriptor.data(), bb.data, &bb.row,
                     &bb.col, bb.descriptor.data(), &beta, cc.data, &cc.row, &cc.col, cc.descriptor.data());
}

template <class T>
void syrk(Uplo uplo, Op op, T alpha, In<T> a, std::type_identity_t<T> beta, Out<T> c) {
  const std::int64_t n64 = op == Op::none ? a.rows : a.cols;
  const std::int64_t k64 = op == Op::none ? a.cols : a.rows;
  require(c.rows == n64 && c.cols == n64, "the shapes of a product do not fit");
  if (n64 == 0 || !grid_of(a).contains_me()) return;
  if (is_one_process(grid_of(a)))
    return blas::syrk<T>(uplo, op, n64, k64, alpha, local(a), a.matrix->lld(), beta, local(c), c.matrix->lld());
  const char ul = static_cast<char>(uplo), t = static_cast<char>(op);
  const int n = size32(n64), k = size32(k64);
  const Argument aa(a);
  const Argument cc(c);
  const Waiting waiting("p?syrk", false);
  ScaLapack<T>::syrk(&ul, &t, &n, &k, &alpha, aa.data, &aa.row, &aa.col, aa.descriptor.data(), &beta, cc.data, &cc.row,
                     &cc.col, cc.descriptor.data());
}

template <class T>
void trsm(Side side, Uplo uplo, Op op, T alpha, In<T> a, Out<T> b) {
  require(a.rows == a.cols && a.rows == (side == Side::left ? b.rows : b.cols), "the shapes of a solve do not fit");
  if (b.rows == 0 || b.cols == 0 || !grid_of(a).contains_me()) return;
  if (is_one_process(grid_of(a)))
    return blas::trsm<T>(side, uplo, op, b.rows, b.cols, alpha, local(a), a.matrix->lld(), local(b), b.matrix->lld());
  const char s = static_cast<char>(side), ul = static_cast<char>(uplo), t = static_cast<char>(op), diag = 'N';
  const int m = size32(b.rows), n = size32(b.cols);
  const Argument aa(a);
  const Argument bb(b);
  const Waiting waiting("p?trsm", false);
  ScaLapack<T>::trsm(&s, &ul, &t, &diag, &m, &n, &alpha, aa.data, &aa.row, &aa.col, aa.descriptor.data(), bb.data,
                     &bb.row, &bb.col, bb.descriptor.data());
}

template <class T>
std::int64_t potrf(Uplo uplo, DistMatrix<T>& a, std::string_view context) {
  require_square_blocks(a);
  if (a.rows() == 0) return 0;
  int info = 0;
  if (a.grid()->contains_me()) {
    const char ul = static_cast<char>(uplo);
    const int n = size32(a.rows());
    const Argument aa{View<T>(a)};
    const Waiting waiting("p?potrf", false);
    ScaLapack<T>::potrf(&ul, &n, aa.data, &aa.row, &aa.col, aa.descriptor.data(), &info);
  }
  info = detail::reduced_info(a.comm(), info);
  if (info < 0) throw detail::info_error(name<T>("potrf"), "uplo n a ia ja desca", info, "", context);
  return info;
}

template <class T>
void potri(Uplo uplo, DistMatrix<T>& a, std::string_view context) {
  require_square_blocks(a);
  if (a.rows() == 0) return;
  int info = 0;
  if (a.grid()->contains_me()) {
    const char ul = static_cast<char>(uplo);
    const int n = size32(a.rows());
    const Argument aa{View<T>(a)};
    const Waiting waiting("p?potri", false);
    ScaLapack<T>::potri(&ul, &n, aa.data, &aa.row, &aa.col, aa.descriptor.data(), &info);
  }
  check_info(a.comm(), name<T>("potri"), "uplo n a ia ja desca", info, "the factor has a zero on its diagonal",
             context);
}

template <class T>
void potrs(Uplo uplo, const DistMatrix<T>& a, DistMatrix<T>& b, std::string_view context) {
  require_square_blocks(a);
  if (a.rows() == 0 || b.cols() == 0) return;
  int info = 0;
  if (a.grid()->contains_me()) {
    const char ul = static_cast<char>(uplo);
    const int n = size32(a.rows()), columns = size32(b.cols());
    const Argument aa{View<const T>(a)};
    const Argument bb{View<T>(b)};
    const Waiting waiting("p?potrs", false);
    ScaLapack<T>::potrs(&ul, &n, &columns, aa.data, &aa.row, &aa.col, aa.descriptor.data(), bb.data, &bb.row, &bb.col,
                        bb.descriptor.data(), &info);
  }
  check_info(a.comm(), name<T>("potrs"), "uplo n nrhs a ia ja desca b ib jb descb", info, "", context);
}

namespace {

template <class T>
std::vector<T> syevr(char range, T lower, T upper, std::int64_t first, DistMatrix<T>& a, DistMatrix<T>& z,
                     std::string_view context) {
  require_square_blocks(a);
  require(a.distribution() == z.distribution() && a.grid() == z.grid(), "eigenvectors need the matrix' own layout");
  const auto n64 = a.rows();
  std::vector<T> w(static_cast<std::size_t>(n64));
  if (n64 == 0) return w;
  int found = 0, info = 0;
  const char jobz = 'V', ul = 'L';
  const int n = size32(n64), il = size32(first), iu = n;
  const Argument aa{View<T>(a)}, zz{View<T>(z)};
  int vectors = 0;
  run_with_workspace<T>(a.comm(), a.grid()->contains_me(), info, [&](T* work, int lwork, int* iwork, int liwork) {
    ScaLapack<T>::syevr(&jobz, &range, &ul, &n, aa.data, &aa.row, &aa.col, aa.descriptor.data(), &lower, &upper, &il,
                        &iu, &found, &vectors, w.data(), zz.data, &zz.row, &zz.col, zz.descriptor.data(), work, &lwork,
                        iwork, &liwork, &info);
  });
  check_info(a.comm(), name<T>("syevr"),
             "jobz range uplo n a ia ja desca vl vu il iu m nz w z iz jz descz work lwork iwork liwork", info,
             "eigenvalues did not converge", context);
  found = a.comm().broadcast_value(found);
  w.resize(static_cast<std::size_t>(found));
  a.comm().broadcast(std::span<T>(w));
  return w;
}

} // namespace

template <class T>
std::vector<T> syevr_between(DistMatrix<T>& a, std::type_identity_t<T> lower, std::type_identity_t<T> upper,
                             DistMatrix<T>& z, std::string_view context) {
  return syevr<T>('V', lower, upper, 1, a, z, context);
}

template <class T>
std::vector<T> syevr_largest(DistMatrix<T>& a, std::int64_t count, DistMatrix<T>& z, std::string_view context) {
  require(count >= 0 && count <= a.rows(), "more eigenvalues were asked for than there are");
  if (count == 0) return {};
  // Asked for less than about one block of vectors per process column, p?syevr hands p?ormtr too little workspace
  // (whatever LWORK says), which then does nothing, and p?syevr does not notice.
  count = std::min(a.rows(), std::max(count, 2 * a.distribution().cols.block() * a.grid()->cols()));
  return syevr<T>(count == a.rows() ? 'A' : 'I', 0, 0, a.rows() - count + 1, a, z, context);
}

template <class T>
std::vector<T> syevd(DistMatrix<T>& a, DistMatrix<T>& z, std::string_view context) {
  require_square_blocks(a);
  require(a.distribution() == z.distribution() && a.grid() == z.grid(), "eigenvectors need the matrix' own layout");
  std::vector<T> w(static_cast<std::size_t>(a.rows()));
  if (a.rows() == 0) return w;
  int info = 0;
  const char jobz = 'V', ul = 'L';
  const int n = size32(a.rows());
  const Argument aa{View<T>(a)}, zz{View<T>(z)};
  run_with_workspace<T>(a.comm(), a.grid()->contains_me(), info, [&](T* work, int lwork, int* iwork, int liwork) {
    ScaLapack<T>::syevd(&jobz, &ul, &n, aa.data, &aa.row, &aa.col, aa.descriptor.data(), w.data(), zz.data, &zz.row,
                        &zz.col, zz.descriptor.data(), work, &lwork, iwork, &liwork, &info);
  });
  check_info(a.comm(), name<T>("syevd"), "jobz uplo n a ia ja desca w z iz jz descz work lwork iwork liwork", info,
             "eigenvalues did not converge", context);
  a.comm().broadcast(std::span<T>(w));
  return w;
}

template <class T>
std::vector<T> gesvd(DistMatrix<T>& a, DistMatrix<T>& u, DistMatrix<T>& vt, std::string_view context) {
  const std::int64_t q = std::min(a.rows(), a.cols());
  require(u.rows() == a.rows() && u.cols() == q && vt.rows() == q && vt.cols() == a.cols(),
          "the factors of a singular value decomposition have other shapes");
  const auto& blocks = a.distribution();
  require(blocks.rows.block() == blocks.cols.block(), "p?gesvd returns nonsense unless blocks are square");
  const auto spans = [](std::int64_t extent, std::int64_t block, int parts) {
    return (extent - 1) / block + 1 >= parts;
  };
  require(q == 0 || is_one_process(*a.grid()) ||
              (q > 2 && spans(a.rows(), blocks.rows.block(), a.grid()->rows()) &&
               spans(a.cols(), blocks.cols.block(), a.grid()->cols())),
          "p?gesvd hangs or fails on matrices of which a process has no part: use a smaller grid");
  std::vector<T> s(static_cast<std::size_t>(q));
  if (q == 0) return s;
  int info = 0;
  const char job = 'V';
  const int m = size32(a.rows()), n = size32(a.cols());
  const Argument aa{View<T>(a)}, uu{View<T>(u)}, vv{View<T>(vt)};
  run_with_workspace<T>(a.comm(), a.grid()->contains_me(), info, [&](T* work, int lwork, int*, int) {
    ScaLapack<T>::gesvd(&job, &job, &m, &n, aa.data, &aa.row, &aa.col, aa.descriptor.data(), s.data(), uu.data, &uu.row,
                        &uu.col, uu.descriptor.data(), vv.data, &vv.row, &vv.col, vv.descriptor.data(), work, &lwork,
                        &info);
  });
  check_info(a.comm(), name<T>("gesvd"), "jobu jobvt m n a ia ja desca s u iu ju descu vt ivt jvt descvt work lwork",
             info, info > q ? "the processes found different singular values" : "singular values did not converge",
             context);
  a.comm().broadcast(std::span<T>(s));
  return s;
}

template <class T>
std::vector<T> geqrf(DistMatrix<T>& a, std::string_view context) {
  std::vector<T> tau(static_cast<std::size_t>(a.local_cols()));
  if (a.rows() == 0 || a.cols() == 0) return tau;
  int info = 0;
  const int m = size32(a.rows()), n = size32(a.cols());
  const Argument aa{View<T>(a)};
  T none = 0;
  T* tau_data = tau.empty() ? &none : tau.data();
  run_with_workspace<T>(a.comm(), a.grid()->contains_me(), info, [&](T* work, int lwork, int*, int) {
    ScaLapack<T>::geqrf(&m, &n, aa.data, &aa.row, &aa.col, aa.descriptor.data(), tau_data, work, &lwork, &info);
  });
  check_info(a.comm(), name<T>("geqrf"), "m n a ia ja desca tau work lwork", info, "", context);
  return tau;
}

template <class T>
void ormqr(Side side, Op op, const DistMatrix<T>& a, const std::vector<T>& tau, DistMatrix<T>& c,
           std::string_view context) {
  if (c.rows() == 0 || c.cols() == 0 || a.cols() == 0) return;
  int info = 0;
  const char sd = static_cast<char>(side), t = static_cast<char>(op);
  const int m = size32(c.rows()), n = size32(c.cols()), k = size32(std::min(a.rows(), a.cols()));
  const Argument aa{View<const T>(a)};
  const Argument cc{View<T>(c)};
  const T none = 0;
  const T* tau_data = tau.empty() ? &none : tau.data();
  run_with_workspace<T>(a.comm(), a.grid()->contains_me(), info, [&](T* work, int lwork, int*, int) {
    ScaLapack<T>::ormqr(&sd, &t, &m, &n, &k, aa.data, &aa.row, &aa.col, aa.descriptor.data(), tau_data, cc.data,
                        &cc.row, &cc.col, cc.descriptor.data(), work, &lwork, &info);
  });
  check_info(a.comm(), name<T>("ormqr"), "side trans m n k a ia ja desca tau c ic jc descc work lwork", info, "",
             context);
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template void gemm(Op, Op, T, In<T>, In<T>, std::type_identity_t<T>, Out<T>);                                        \
  template void syrk(Uplo, Op, T, In<T>, std::type_identity_t<T>, Out<T>);                                             \
  template void trsm(Side, Uplo, Op, T, In<T>, Out<T>);                                                                \
  template std::int64_t potrf(Uplo, DistMatrix<T>&, std::string_view);                                                 \
  template void potri(Uplo, DistMatrix<T>&, std::string_view);                                                         \
  template void potrs(Uplo, const DistMatrix<T>&, DistMatrix<T>&, std::string_view);                                   \
  template std::vector<T> syevr_between(DistMatrix<T>&, std::type_identity_t<T>, std::type_identity_t<T>,              \
                                        DistMatrix<T>&, std::string_view);                                             \
  template std::vector<T> syevr_largest(DistMatrix<T>&, std::int64_t, DistMatrix<T>&, std::string_view);               \
  template std::vector<T> syevd(DistMatrix<T>&, DistMatrix<T>&, std::string_view);                                     \
  template std::vector<T> gesvd(DistMatrix<T>&, DistMatrix<T>&, DistMatrix<T>&, std::string_view);                     \
  template std::vector<T> geqrf(DistMatrix<T>&, std::string_view);                                                     \
  template void ormqr(Side, Op, const DistMatrix<T>&, const std::vector<T>&, DistMatrix<T>&, std::string_view);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::scalapack
