# What the scripts of this project share. Source it: . "$(dirname "$0")/lib.sh"
#
# Sets project_root; defines build_project and mpi_run.
# shellcheck shell=bash

project_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# build_project PRESET [TARGET]: configures the project into build/ and builds the target (all) on all cores. The
# generator is chosen only for a new build folder, because CMake refuses to change it.
build_project() {
  local generator=()
  [ -e "$project_root/build/CMakeCache.txt" ] || generator=(-G Ninja)
  (cd "$project_root" && cmake --preset "$1" "${generator[@]}" &&
    cmake --build build --parallel "$(nproc)" --target "${2:-all}")
}

# physical_cores: what mpirun counts as slots when nobody tells it (hardware threads do not count, cgroup limits do).
physical_cores() {
  local usable physical
  usable=$(nproc)
  physical=$(lscpu --parse=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
  echo $((physical > 0 && physical < usable ? physical : usable))
}

# mpi_run RANKS COMMAND...: mpirun with what root and more ranks than cores need, added only then. Inside a batch job
# the scheduler says how many slots there are.
mpi_run() {
  local ranks=$1 options=()
  shift
  if [ "$(id -u)" = 0 ]; then
    local -x OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  if [ -z "${SLURM_JOB_ID:-}" ] && [ "$ranks" -gt "$(physical_cores)" ]; then
    options+=(--oversubscribe)
  fi
  mpirun -n "$ranks" "${options[@]}" "$@"
}
