#pragma once
/// \file
/// Minimisation of a smooth function by PETSc/TAO's limited-memory quasi-Newton method.
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace slr {

/// The function's value at x; writes its gradient.
using SmoothFunction = std::function<double(std::span<const double> x, std::span<double> gradient)>;
/// Told the iterate after every iteration; false ends the minimisation.
using IterateListener = std::function<bool(std::span<const double> x, double value)>;

/// Limited-memory BFGS with a line search after Moré and Thuente (TAO's `lmvm`) from `x`, which becomes the last
/// iterate. Ends when the listener says so, after the iteration that reaches `most_evaluations` of the function, or
/// when the line search finds nothing better. Every rank minimises alone (PETSc sees a communicator of one): where the
/// function is collective and returns the same bits everywhere, all ranks take the same steps. An exception of the
/// function or the listener passes through. Cost beside the function: some ten vector operations per remembered step.
/// `options` are PETSc's words for TAO ("-tao_type cg -tao_ls_type armijo"), for this call alone; the environment's do
/// not count.
/// \throws Error{numerical} if PETSc fails.
void minimize_lmvm(const SmoothFunction& function, std::span<double> x, int most_evaluations,
                   const IterateListener& listener, const std::string& options = {});

/// Tries the options on a small problem. Local. \throws Error{configuration} with the first word that is no option of
/// TAO, that PETSc does not know or whose value it refuses, or that would print or write files.
void check_tao_options(const std::string& options);

} // namespace slr
