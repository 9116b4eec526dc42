#include "slr/run/job.hpp"
#include "slr/run/program.hpp"

int main(int argc, char** argv) {
  return slr::run::run_program(argc, argv, {"slr_evaluate", MPI_COMM_WORLD}, slr::run::parse_evaluate,
                               slr::run::run_evaluate);
}
