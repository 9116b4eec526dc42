#pragma once
/// \file
/// Which groups of columns to keep: exchanges after an elimination.
#include "slr/dist/dist_matrix.hpp"
#include "slr/layer/problem.hpp"

namespace slr {

/// The layer that groups are kept in: C = Xc Xc^T / N + delta I, P = Tc Xc^T / N + delta W0 and A = P C^-1 P^T.
struct ExchangeProblem {
  const DistMatrix<double>& gram;  ///< C without delta, k x k in block columns
  const DistMatrix<double>& cross; ///< P, n x k likewise
  double delta = 0;
  std::vector<double> products; ///< A on the root, n x n, both triangles; empty elsewhere
  std::int64_t group_columns = 1;
};

/// Whether exchanges are tried: at most 1,024 rows and 2,048 kept columns, beyond which their matrices would be large
/// and their eigenvalues slow. Local.
[[nodiscard]] bool is_exchange_affordable(std::int64_t rows, std::int64_t kept_columns);

/// Exchanges kept groups S for others as long as the smallest error of the structure falls that has S free and the
/// other columns of rank r. With
///
///   M(S) = A - P_S C_SS^-1 P_S^T,
///
/// that error is tr M(S) minus the r largest eigenvalues of M(S), since Q_R Q_R^T = M(S) in the notation of
/// FixedStructure. Elimination sees the low-rank part that stood when it began; here that part follows every exchange.
///
/// Dropping a from S adds B_a H_aa^-1 B_a^T to M (H = C_SS^-1, B = P_S H), taking b in subtracts E_b S_bb^-1 E_b^T
/// (E_b = P_b - P_S t, S_bb = C_bb - C_bS t, t = H C_Sb). In each round the six groups that are missed least and the
/// six that promise most, both judged beside the present low-rank part, are tried in pairs by an upper bound of the
/// error (two steps of block power iteration from the present leading directions), and the best pair is exchanged if
/// its bound lies a thousandth below the present error; so the error never rises. At most twenty rounds; after the
/// first one only its twenty-four most promising groups, and those dropped, are looked at.
///
/// Collective; the same groups on every rank, increasing, and for every number of ranks. The first round takes
/// 2 |S| (|S| + n) k / P flops and |S|^3 on the root, every round sums of |S| (|S| + n) numbers and, on the
/// root, the leading directions of M and 36 bounds of 6 n^2 r flops.
[[nodiscard]] std::vector<std::int64_t> improve_by_exchange(const Communicator& comm, const ExchangeProblem& problem,
                                                            std::int64_t rank, std::vector<std::int64_t> kept);

} // namespace slr
