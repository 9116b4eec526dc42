#pragma once
/// \file
/// Singular value thresholding and rank truncation of a distributed matrix: three engines behind one interface.
///
/// Both operations end in factors X = U diag(sigma) V^T of Z (n x k):
/// - threshold(Z, tau): X = argmin 1/2 ||X - Z||_F^2 + tau ||X||_*, singular values max(sigma_i(Z) - tau, 0)
///   (Cai, Candes, Shen: SIAM J. Optim. 20, 2010, theorem 2.1);
/// - truncate(Z, r): a nearest matrix of rank r.
///
/// Engines. m = min(n, k), long side l; the problem is always seen with its short side as rows.
/// - `pdgesvd`: ScaLAPACK's p?gesvd of the tall orientation. O(m^2 l), slow constant. Any spectrum.
/// - `gram`: the m x m Gram matrix in double, its eigenpairs above tau^2 (on one rank ?sytrd, ?sterf and ?stein, else
///   p?syevr), then the long factor by one product. Good while tau / sigma_1 stays above about 1e-6.
/// - `subspace`: the previous call's singular vectors, with max(12, r/8) guard vectors below the threshold, improved by
///   Chebyshev-filtered subspace iteration with Rayleigh-Ritz (Saad: Numerical Methods for Large Eigenvalue Problems,
///   ch. 7). It works on the Gram matrix where forming that is cheaper than passing over Z, on Z itself otherwise.
///   Where tau^2 is far above single precision's error of ||Z||_F^2 that Gram matrix is formed in single precision: it
///   only steers the iteration. The long factor is a product of T, and what is returned was measured on Z in T. If that
///   is not enough, double precision does it again, and for the next 8 calls at once.
/// - `automatic` (`auto` in YAML): subspace if there are vectors of the same shape, the last attempts with them did not
///   fail, and its counted flops for the spectrum seen last are fewer than gram's; gram otherwise; pdgesvd at once
///   where gram has failed before for the same or a larger tau / ||Z||_F. Never clocks.
///
/// What is returned was accepted by its own bound, else the next engine of the chain subspace -> gram -> pdgesvd runs,
/// whichever was asked for; `counts().fallbacks` says how often.
///
/// The bound: X is the exact answer for Z - R, and ||R||_F <= error_bound. The proximal map is nonexpansive, hence
/// ||X - threshold(Z, tau)||_F <= error_bound; for truncation ||Z - X||_F <= min + 2 error_bound. R consists of the
/// residual of the left vectors, (I - U U^T) Z V, and of whatever exceeds tau in the remainder (I - U U^T) Z (I - V
/// V^T). That nothing does is shown by a Cholesky factorisation of tau^2 I minus the deflated Gram matrix; without a
/// Gram matrix, by 8 deflated power iterations of random vectors, wrong with probability below 3e-6 (Halko, Martinsson,
/// Tropp: SIAM Rev. 53, 2011, lemma 4.1). After iterating in single precision the Cholesky factorisation leaves room
/// for that precision's error, and the residual comes from 8 random combinations of the columns of Z V - U diag(sigma),
/// wrong with the same probability. Rounding is added with the statistical size of its sums.
///
/// Ties. A singular value equal to tau vanishes; numerical_rank counts those strictly above. A value within the error
/// bound of tau may be found on either side: X changes by no more than the bound. A cluster at the cut of truncate is
/// cut in the order of the computed values; any choice is a nearest matrix.
///
/// Where it runs. m <= 256 or m^2 l <= 2e9: on rank 0 of the communicator. Then every result (factors, rank, bound,
/// engine) has the same bits for every number of ranks, given the same Z, options and history. Larger problems use all
/// ranks and agree to the error bound.
#include "slr/dist/dist_matrix.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slr {

enum class Engine { automatic, pdgesvd, gram, subspace };

/// "auto", "pdgesvd", "gram", "subspace". Local.
[[nodiscard]] std::string_view engine_name(Engine engine);
/// The engine of that name. Local. \throws Error{configuration} that lists the names.
[[nodiscard]] Engine parse_engine(std::string_view name);

/// How often each engine gave the result, and how often a cheaper one was tried before without success.
struct EngineCounts {
  std::int64_t pdgesvd = 0;
  std::int64_t gram = 0;
  std::int64_t subspace = 0;
  std::int64_t fallbacks = 0;
};

/// Sum of two matrices' counts. Local.
[[nodiscard]] inline EngineCounts operator+(const EngineCounts& a, const EngineCounts& b) {
  return {a.pdgesvd + b.pdgesvd, a.gram + b.gram, a.subspace + b.subspace, a.fallbacks + b.fallbacks};
}

/// U diag(sigma) V^T.
template <class T = double>
struct LowRank {
  std::int64_t numerical_rank = 0; ///< r
  std::vector<double> sigma;       ///< r, descending, on every rank; after thresholding already shrunk
  std::vector<T> u;                ///< n x r, column-major, on every rank
  DistMatrix<T> vt;                ///< r x k on the 1 x P grid, columns distributed like those of Z
  double error_bound = 0;          ///< absolute, see above
  Engine engine = Engine::gram;    ///< which one gave the result
};

struct SvdOptions {
  Engine engine = Engine::automatic;
  double subspace_tolerance = 1e-6; ///< accepted error_bound / ||X||_F of the subspace engine
  double gram_tolerance = 1e-8;     ///< likewise of the gram engine
  std::int64_t one_rank_rows = 256; ///< short sides up to this run on one rank,
  double one_rank_flops = 2e9;      ///< and so do products m^2 l up to this
  double rough_gram_flops = 1e8;    ///< from this m^2 l on subspace may iterate on a Gram matrix of single precision
};

/// What a run leaves for the next one, to be stored in a checkpoint. Filled on rank 0 only.
struct SvdMemory {
  std::int64_t rows = 0; ///< shape of the Z it belongs to
  std::int64_t cols = 0;
  std::int64_t numerical_rank = 0;
  std::vector<double> values;   ///< squares of the singular values, guards included, descending
  std::vector<double> vectors;  ///< min(rows, cols) x values.size()
  double drift = 0;             ///< relative residual that the last subspace run started from; 0: unknown
  std::int64_t failures = 0;    ///< subspace attempts failed in a row
  std::int64_t pause = 0;       ///< calls for which `automatic` leaves subspace alone
  std::int64_t rough_pause = 0; ///< calls for which subspace leaves single precision alone
  double gram_limit = 0;        ///< largest tau / ||Z||_F at which gram has failed
};

/// One matrix' history of decompositions. Keep one object per matrix (layer) through an iteration.
template <class T = double>
class Svd {
public:
  /// Collective over `comm`, which is that of the matrices to come.
  explicit Svd(const Communicator& comm, SvdOptions options = {});
  ~Svd();
  Svd(Svd&&) noexcept;
  Svd& operator=(Svd&&) noexcept;

  /// Singular value thresholding. Collective. Z is n x k with n, k >= 0 on any grid of the communicator (1 x P is used
  /// as it is, others are redistributed to 1 x P with Z's column blocks); `context` names the layer in errors.
  /// @pre tau >= 0, finite. \throws Error{numerical} if Z is not finite or no engine converges.
  [[nodiscard]] LowRank<T> threshold(const DistMatrix<T>& z, double tau, std::string_view context = {});

  /// Truncation to rank min(target_rank, n, k) or to the numerical rank if that is smaller. Collective.
  /// @pre target_rank >= 0
  [[nodiscard]] LowRank<T> truncate(const DistMatrix<T>& z, std::int64_t target_rank, std::string_view context = {});

  [[nodiscard]] const EngineCounts& counts() const; ///< the same on every rank. Local.
  /// The history (filled on rank 0). Local.
  [[nodiscard]] const SvdMemory& memory() const;
  /// Goes on from a stored history; rank 0's counts. Local on every rank.
  void restore(SvdMemory memory);
  /// Goes on counting from here. Local on every rank.
  void set_counts(const EngineCounts& counts);

private:
  struct State;
  std::unique_ptr<State> state_;
};

extern template class Svd<float>;
extern template class Svd<double>;

} // namespace slr
