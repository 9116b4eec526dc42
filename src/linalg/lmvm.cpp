#include "slr/linalg/lmvm.hpp"

#include "petsc.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <cctype>
#include <exception>
#include <petsctao.h>
#include <sstream>
#include <string>

namespace slr {

namespace {

/// A database of options of its own while it lives.
class OptionsOwner {
public:
  explicit OptionsOwner(const std::string& words) {
    check_petsc(PetscOptionsCreate(&handle_), "PetscOptionsCreate");
    const PetscErrorCode code = PetscOptionsInsertString(handle_, words.c_str());
    if (code == 0 && PetscOptionsPush(handle_) == 0) return;
    (void)PetscOptionsDestroy(&handle_);
    check_petsc(code, "PetscOptionsInsertString");
    throw Error(ExitCode::numerical, "PetscOptionsPush failed in PETSc");
  }
  OptionsOwner(const OptionsOwner&) = delete;
  OptionsOwner& operator=(const OptionsOwner&) = delete;
  ~OptionsOwner() {
    (void)PetscOptionsPop();
    (void)PetscOptionsDestroy(&handle_);
  }
  /// \throws Error{numerical} with the first option that nobody asked for
  void require_used() const {
    PetscInt count = 0;
    char **names = nullptr, **values = nullptr;
    check_petsc(PetscOptionsLeftGet(handle_, &count, &names, &values), "PetscOptionsLeftGet");
    const std::string first = count > 0 ? names[0] : "";
    check_petsc(PetscOptionsLeftRestore(handle_, &count, &names, &values), "PetscOptionsLeftRestore");
    if (!first.empty()) throw Error(ExitCode::numerical, "-" + first + " is not used by this method of TAO");
  }

private:
  PetscOptions handle_ = nullptr;
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
                   const IterateListener& listener, const std::string& options) {
  ensure_petsc();
  const OptionsOwner its_options(options);
  Context context{function, listener, most_evaluations, nullptr};
  VecOwner solution;
  TaoOwner tao;
  check_petsc(VecCreateSeqWithArray(MPI_COMM_SELF, 1, static_cast<PetscInt>(x.size()), x.data(), &solution.handle),
              "VecCreate");
  check_petsc(TaoCreate(MPI_COMM_SELF, &tao.handle), "TaoCreate");
  check_petsc(TaoSetType(tao.handle, TAOLMVM), "TaoSetType");
  check_petsc(TaoSetSolution(tao.handle, solution.handle), "TaoSetSolution");
  check_petsc(TaoSetObjectiveAndGradient(tao.handle, nullptr, evaluate, &context), "TaoSetObjectiveAndGradient");
  if (!options.empty()) check_petsc(TaoSetFromOptions(tao.handle), "TaoSetFromOptions");
  check_petsc(TaoSetConvergenceTest(
                  tao.handle, [](Tao t, void* p) { return look(t, p); }, &context),
              "TaoSetConvergenceTest");
  const PetscErrorCode code = TaoSolve(tao.handle);
  if (context.error) std::rethrow_exception(context.error);
  check_petsc(code, "TaoSolve");
  its_options.require_used();
}

void check_tao_options(const std::string& options) {
  std::istringstream words(options);
  bool expects_name = true;
  for (std::string word; words >> word;) {
    const bool is_name =
        word.starts_with("-") && word.size() > 1 && std::isalpha(static_cast<unsigned char>(word[1])) != 0;
    for (const char* talking : {"monitor", "view", "draw", "plot", "test"})
      if (is_name && word.find(talking) != std::string::npos)
        throw Error(ExitCode::configuration, word + " would print or write files, leave it out");
    if (is_name ? !word.starts_with("-tao_") : expects_name)
      throw Error(ExitCode::configuration, word + " is no option of TAO, expected words such as -tao_type cg");
    expects_name = !is_name;
  }
  std::vector<double> x{1, 2};
  const auto square = [](std::span<const double> at, std::span<double> gradient) {
    for (std::size_t i = 0; i < at.size(); ++i) gradient[i] = at[i];
    return 0.5 * (at[0] * at[0] + at[1] * at[1]);
  };
  try {
    minimize_lmvm(
        square, x, 3, [](std::span<const double>, double) { return true; }, options);
  } catch (const Error& error) {
    throw Error(ExitCode::configuration, error.what());
  }
}

} // namespace slr
