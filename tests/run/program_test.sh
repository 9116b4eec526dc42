#!/usr/bin/env bash
# How a program ends, seen from outside: its exit code, one line on standard error, text once, never a hang.
#
#   program_test.sh PROGRAM MPIEXEC
set -uo pipefail
program=$1 mpiexec=$2
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check RANKS ARGUMENTS CODE LINE [TEXT]: RANKS 0 is without a launcher. LINE is the only line of the program on standard
# error, an extended regular expression ("" for none); mpiexec may add its own. TEXT is all of standard output.
check() {
  local ranks=$1 arguments=$2 code=$3 line=$4 text=${5:-} launcher=() got=0
  [ "$ranks" = 0 ] || launcher=("$mpiexec" -n "$ranks" --oversubscribe)
  # shellcheck disable=SC2086
  timeout 30 "${launcher[@]}" "$program" $arguments >"$work/out" 2>"$work/err" || got=$?
  local lines is_right=0
  lines=$(grep '^ending: ' "$work/err")
  if [ -z "$line" ]; then
    [ -z "$lines" ] && is_right=1
  elif [ "$(wc -l <<<"$lines")" = 1 ] && grep -Eqx "ending: $line" <<<"$lines"; then
    is_right=1
  fi
  if [ "$got" != "$code" ] || [ "$(cat "$work/out")" != "$text" ] || [ $is_right = 0 ]; then
    echo "$ranks ranks, '$arguments': exit code $got (expected $code), standard error:"
    cat "$work/err"
    echo "standard output:"
    cat "$work/out"
    failures=$((failures + 1))
  fi
}

for ranks in 0 3; do
  check "$ranks" missed 2 ""
  check "$ranks" --help 0 "" help
  check "$ranks" "" 64 "one argument is missing"
  check "$ranks" agreed 65 "the last rank's\?file is damaged"
done
check 0 everybody 78 "rank 0"
check 3 everybody 78 "rank 0"
check 3 alone-at-the-end 74 "the disk is full"
check 3 skewed 0 ""
check 3 slow-agreement 75 "stopped at a checkpoint"
check 3 alone 70 "internal error: a surprise"
check 4 two-alone 3 "diverged on 1"

# Processes that were meant to be one job and do not know each other: the first says so, the others end silently.
for variables in "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=" "PMI_SIZE=4 PMI_RANK=" "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK="; do
  export ${variables% *} "${variables#* }0"
  check 0 missed 64 "the launcher started 4 processes \(.*\), but each is an MPI job of its own: .*"
  export "${variables#* }3"
  check 0 missed 64 ""
  variables=$(sed 's/=[^ ]*//g' <<<"$variables")
  # shellcheck disable=SC2086
  unset $variables
done

exit $((failures > 0))
