#!/usr/bin/env bash
# From a fresh clone to a compressed network: installs what is missing, builds, and compresses the network of
# jobs/fashion_mnist on 4 ranks. Called again, it prints the report of the finished run.
#
#   jobs/quickstart.sh
set -euo pipefail
# shellcheck source=jobs/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$project_root"

jobs/setup.sh
build_project release programs
mpi_run 4 build/bin/slr_compress configs/fashion_mnist.yaml
