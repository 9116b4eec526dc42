#include "slr/run/job.hpp"
#include "slr/run/program.hpp"

int main(int argc, char** argv) {
  return slr::run::run_program(argc, argv, {"slr_calibrate", MPI_COMM_WORLD, 10, true}, slr::run::parse_calibrate,
                               slr::run::run_calibrate);
}
