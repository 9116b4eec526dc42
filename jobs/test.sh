#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors, and runs all tests but the long ones (label soak).
#
#   jobs/test.sh
#
# The last line is "N passed, N failed"; a skipped test is neither. Exit code: that of ctest.
set -euo pipefail
# shellcheck source=jobs/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$project_root"

jobs/setup.sh
build_project ci
tests/jobs/onnxruntime/setup.sh ||
  echo "onnxruntime-node could not be installed: the test onnxruntime.fashion_mnist will be skipped."

# The record of every test with its status, and that of the failed ones, which has also those that could not start.
results=$project_root/build/ctest-results.xml
failures=$project_root/build/Testing/Temporary/LastTestsFailed.log
rm -f "$results" "$failures"

# Tests under MPI count as two processors, so that the number of cores is the right number of jobs.
code=0
ctest --test-dir build --label-exclude '^soak$' --no-tests=error --output-on-failure --parallel "$(nproc)" \
  --output-junit "$results" || code=$?

count() { { grep -s "$1" "$2" || true; } | wc -l; }
echo "$(count '<testcase .* status="run">$' "$results") passed, $(count . "$failures") failed"
exit "$code"
