#include "petsc.hpp"

#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"

#include <string>

namespace slr {

void check_petsc(PetscErrorCode code, const char* operation) {
  if (code == 0) return;
  const char* words = nullptr;
  (void)PetscErrorMessage(code, &words, nullptr);
  throw Error(ExitCode::numerical,
              std::string(operation) + " failed in PETSc: " + (words != nullptr ? words : "unknown error"));
}

// It cannot be started a second time after its end (its registers of methods stay empty), so it ends when MPI does:
// MPI_Finalize first deletes what hangs on MPI_COMM_SELF.
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

} // namespace slr
