#pragma once
/// \file
/// Linear systems with an operator that is only applied: PETSc's KSP.
#include "slr/mpi/communicator.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

namespace slr {

/// y := A x for vectors that are dealt to the ranks; the local parts have the same size in every call. Collective.
using LinearOperator = std::function<void(std::span<const double> x, std::span<double> y)>;

/// b := A^-1 b for a symmetric positive definite A, by conjugate gradients with A's diagonal as preconditioner, until
/// the preconditioned residual is `tolerance` of the right side's. `diagonal` is the local part of A's. Collective;
/// returns the number of iterations, the same on every rank. An exception of the operator passes through.
/// \throws Error{numerical} naming `context` if it does not converge
std::int64_t conjugate_gradients(const Communicator& comm, const LinearOperator& apply,
                                 std::span<const double> diagonal, std::span<double> b, double tolerance,
                                 std::string_view context);

} // namespace slr
