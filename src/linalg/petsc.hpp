#pragma once
/// \file
/// What all uses of PETSc share.
#include <petscvec.h>

namespace slr {

/// \throws Error{numerical} with PETSc's words if a call did not succeed
void check_petsc(PetscErrorCode code, const char* operation);
/// Starts PETSc for this process alone unless it runs. Local.
void ensure_petsc();

struct VecOwner {
  Vec handle = nullptr;
  ~VecOwner() { (void)VecDestroy(&handle); }
};

} // namespace slr
