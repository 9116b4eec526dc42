#include "conjugate_gradients.hpp"

#include "petsc.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"

#include <algorithm>
#include <exception>
#include <petscksp.h>
#include <string>
#include <vector>

namespace slr {
namespace {

constexpr PetscInt most_iterations = 10'000;

struct MatOwner {
  Mat handle = nullptr;
  ~MatOwner() { (void)MatDestroy(&handle); }
};
struct KspOwner {
  KSP handle = nullptr;
  ~KspOwner() { (void)KSPDestroy(&handle); }
};

/// What the callbacks need. C code lies between them and the caller, so exceptions wait here.
struct Context {
  const LinearOperator& apply;
  std::span<const double> diagonal;
  std::exception_ptr error;
};

PetscErrorCode multiply(Mat matrix, Vec x, Vec y) {
  Context* context = nullptr;
  PetscCall(MatShellGetContext(matrix, &context));
  const double* from = nullptr;
  double* to = nullptr;
  PetscCall(VecGetArrayRead(x, &from));
  PetscCall(VecGetArray(y, &to));
  try {
    context->apply({from, context->diagonal.size()}, {to, context->diagonal.size()});
  } catch (...) {
    context->error = std::current_exception();
  }
  PetscCall(VecRestoreArrayRead(x, &from));
  PetscCall(VecRestoreArray(y, &to));
  return context->error ? PETSC_ERR_USER : 0;
}

PetscErrorCode get_diagonal(Mat matrix, Vec y) {
  Context* context = nullptr;
  PetscCall(MatShellGetContext(matrix, &context));
  double* to = nullptr;
  PetscCall(VecGetArray(y, &to));
  std::copy(context->diagonal.begin(), context->diagonal.end(), to);
  PetscCall(VecRestoreArray(y, &to));
  return 0;
}

} // namespace

std::int64_t conjugate_gradients(const Communicator& comm, const LinearOperator& apply,
                                 std::span<const double> diagonal, std::span<double> b, double tolerance,
                                 std::string_view context) {
  ensure_petsc();
  require(b.size() == diagonal.size(), "a right side of another size than the operator");
  Context its_context{apply, diagonal, nullptr};
  const auto size = narrow<PetscInt>(std::ssize(b), "a right side");
  std::vector<double> right_side, solution;
  for (auto* vector : {&right_side, &solution})
    vector->reserve(std::max<std::size_t>(1, b.size())); // never a null array
  right_side.assign(b.begin(), b.end());
  solution.assign(b.size(), 0.0);
  VecOwner right, x;
  MatOwner matrix;
  KspOwner ksp;
  check_petsc(VecCreateMPIWithArray(comm.handle(), 1, size, PETSC_DECIDE, right_side.data(), &right.handle),
              "VecCreate");
  check_petsc(VecCreateMPIWithArray(comm.handle(), 1, size, PETSC_DECIDE, solution.data(), &x.handle), "VecCreate");
  check_petsc(MatCreateShell(comm.handle(), size, size, PETSC_DETERMINE, PETSC_DETERMINE, &its_context, &matrix.handle),
              "MatCreateShell");
  check_petsc(MatShellSetOperation(matrix.handle, MATOP_MULT, reinterpret_cast<void (*)()>(multiply)),
              "MatShellSetOperation");
  check_petsc(MatShellSetOperation(matrix.handle, MATOP_GET_DIAGONAL, reinterpret_cast<void (*)()>(get_diagonal)),
              "MatShellSetOperation");
  check_petsc(KSPCreate(comm.handle(), &ksp.handle), "KSPCreate");
  check_petsc(KSPSetType(ksp.handle, KSPCG), "KSPSetType");
  check_petsc(KSPSetOperators(ksp.handle, matrix.handle, matrix.handle), "KSPSetOperators");
  PC preconditioner = nullptr; // the solver's
  check_petsc(KSPGetPC(ksp.handle, &preconditioner), "KSPGetPC");
  check_petsc(PCSetType(preconditioner, PCJACOBI), "PCSetType");
  check_petsc(KSPSetTolerances(ksp.handle, tolerance, 0, PETSC_DEFAULT, most_iterations), "KSPSetTolerances");
  const PetscErrorCode code = KSPSolve(ksp.handle, right.handle, x.handle);
  if (its_context.error) std::rethrow_exception(its_context.error);
  check_petsc(code, "KSPSolve");
  KSPConvergedReason reason{};
  PetscInt iterations = 0;
  check_petsc(KSPGetConvergedReason(ksp.handle, &reason), "KSPGetConvergedReason");
  check_petsc(KSPGetIterationNumber(ksp.handle, &iterations), "KSPGetIterationNumber");
  if (reason < 0)
    throw Error(ExitCode::numerical, std::string(context) + (context.empty() ? "" : ": ") +
                                         "the damped least squares do not converge by conjugate gradients; use "
                                         "method.least_squares: auto");
  std::copy(solution.begin(), solution.end(), b.begin());
  return iterations;
}

} // namespace slr
