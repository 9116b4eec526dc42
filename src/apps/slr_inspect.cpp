#include "slr/run/inspect.hpp"
#include "slr/run/program.hpp"

int main(int argc, char** argv) {
  return slr::run::run_program(argc, argv, {"slr_inspect", MPI_COMM_WORLD}, slr::run::parse_inspect,
                               slr::run::run_inspect);
}
