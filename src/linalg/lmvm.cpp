#include "slr/linalg/lmvm.hpp"

#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"

#include <algorithm>
#include <exception>
#include <petsctao.h>
#include <string>

namespace slr {

namespace {

void check_petsc(PetscErrorCode code, const char* operation) {
  if (code == 0) return;
  const char* words = nullptr;
  (void)PetscErrorMessage(code, &words, nullptr);
  throw Error(ExitCode::numerical,
              std::string(operation) + " failed in PETSc: " + (words != nullptr ? words : "unknown error"));
}

/// Starts PETSc for this process alone unless it runs. It cannot be started a second time after its end (its registers
/// of methods stay empty), so it ends when MPI does: MPI_Finalize first deletes what hangs on MPI_COMM_SELF.
void ensure_petsc() {
  PetscBool is_there = PETSC_FALSE;
  check_petsc(PetscInitialized(&is_there), "PetscInitialized");
  if (is_there == PETSC_TRUE) return;
  PETSC_COMM_WORLD = MPI_COMM_SELF;
  check_petsc(PetscInitializeNoArguments(), "PetscInitialize");
  // Errors come back as codes; signals are not PETSc's business here.
  check_petsc(PetscPushErrorHandler(PetscReturnErrorHandler, nullptr), "PetscPushErrorHandler");
  check_petsc(PetscPopSignalHandler(), "PetscPopSignalHandler");
  int key = MPI_KEYVAL_INVALID;
  const auto finish = [](MPI_Comm, int, void*, void*) { return PetscFinalize() == 0 ? MPI_SUCCESS : MPI_ERR_OTHER; };
  check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, finish, &key, nullptr), "MPI_Comm_create_keyval");
  check_mpi(MPI_Comm_set_attr(MPI_COMM_SELF, key, nullptr), "MPI_Comm_set_attr");
}

struct VecOwner {
  Vec handle = nullptr;
  ~VecOwner() { (void)VecDestroy(&handle); }
};
struct TaoOwner {
  Tao handle = nullptr;
  ~TaoOwner() { (void)TaoDestroy(&handle); }
};

/// What the callbacks need. C code lies between them and the caller, so exceptions wait here.
struct Context {
  const SmoothFunction& function;
  const IterateListener& listener;
  int evaluations_left;
  std::exception_ptr error;
};

std::span<const double> values_of(const double* values, Vec vector) {
  PetscInt size = 0;
  (void)VecGetLocalSize(vector, &size);
  return {values, static_cast<std::size_t>(size)};
}

PetscErrorCode evaluate(Tao, Vec x, PetscReal* value, Vec gradient, void* pointer) {
  auto& context = *static_cast<Context*>(pointer);
  const double* at = nullptr;
  double* slope = nullptr;
  PetscCall(VecGetArrayRead(x, &at));
  PetscCall(VecGetArray(gradient, &slope));
  const auto here = values_of(at, x);
  --context.evaluations_left;
  try {
    *value = context.function(here, {slope, here.size()});
  } catch (...) {
    context.error = std::current_exception();
  }
  PetscCall(VecRestoreArrayRead(x, &at));
  PetscCall(VecRestoreArray(gradient, &slope));
  return context.error ? PETSC_ERR_USER : 0;
}

PetscErrorCode look(Tao tao, void* pointer) {
  auto& context = *static_cast<Context*>(pointer);
  PetscInt iteration = 0;
  PetscReal value = 0;
  PetscCall(TaoGetSolutionStatus(tao, &iteration, &value, nullptr, nullptr, nullptr, nullptr));
  if (iteration == 0) return 0;
  Vec x = nullptr;
  PetscCall(TaoGetSolution(tao, &x));
  const double* at = nullptr;
  PetscCall(VecGetArrayRead(x, &at));
  bool goes_on = false;
  try {
    goes_on = context.listener(values_of(at, x), value);
  } catch (...) {
    context.error = std::current_exception();
  }
  PetscCall(VecRestoreArrayRead(x, &at));
  if (context.error) return PETSC_ERR_USER;
  if (!goes_on || context.evaluations_left <= 0) PetscCall(TaoSetConvergedReason(tao, TAO_CONVERGED_USER));
  return 0;
}

} // namespace

void minimize_lmvm(const SmoothFunction& function, std::span<double> x, int most_evaluations,
                   const IterateListener& listener) {
  ensure_petsc();
  Context context{function, listener, most_evaluations, nullptr};
  VecOwner solution;
  TaoOwner tao;
  check_petsc(VecCreateSeqWithArray(MPI_COMM_SELF, 1, static_cast<PetscInt>(x.size()), x.data(), &solution.handle),
              "VecCreate");
  check_petsc(TaoCreate(MPI_COMM_SELF, &tao.handle), "TaoCreate");
  check_petsc(TaoSetType(tao.handle, TAOLMVM), "TaoSetType");
  check_petsc(TaoSetSolution(tao.handle, solution.handle), "TaoSetSolution");
  check_petsc(TaoSetObjectiveAndGradient(tao.handle, nullptr, evaluate, &context), "TaoSetObjectiveAndGradient");
  check_petsc(TaoSetConvergenceTest(
                  tao.handle, [](Tao t, void* p) { return look(t, p); }, &context),
              "TaoSetConvergenceTest");
  const PetscErrorCode code = TaoSolve(tao.handle);
  if (context.error) std::rethrow_exception(context.error);
  check_petsc(code, "TaoSolve");
}

} // namespace slr
