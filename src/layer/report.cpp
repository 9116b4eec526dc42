#include "slr/layer/report.hpp"

namespace slr {

std::string to_text(StopReason reason) {
  switch (reason) {
  case StopReason::converged:
    return "converged";
  case StopReason::iteration_limit:
    return "iteration limit";
  case StopReason::not_needed:
    return "not needed";
  }
  return "unknown";
}

} // namespace slr
