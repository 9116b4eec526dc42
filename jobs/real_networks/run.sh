#!/usr/bin/env bash
# Compresses real, trained networks and prints their accuracy before and after: SqueezeNet 1.1 (ImageNet), VGG-16,
# ResNet-20 and cifar10_quick (CIFAR-10), LeNet (MNIST). The data is not part of the project:
#
#   SLR_REAL_DATA=FOLDER jobs/real_networks/run.sh [NETWORK...]
#
# Without SLR_REAL_DATA it says so and ends with 0. The folder has models/*.onnx and the folders imagenet, cifar10 and
# mnist that the YAML files here name. RANKS (2) sets the number of ranks, SLR_BIN (build/bin) the programs' folder; what
# a network becomes is in run/real_networks/NETWORK. Exit code: the largest of the runs'.
set -euo pipefail
# shellcheck source=jobs/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

if [ -z "${SLR_REAL_DATA:-}" ]; then
  echo "skipped: SLR_REAL_DATA does not name a folder with real networks and images (see the head of $0)."
  exit 0
fi
data=$(cd "$SLR_REAL_DATA" && pwd)
bin=$(cd "${SLR_BIN:-$project_root/build/bin}" && pwd)
cd "$project_root"
[ $# -gt 0 ] || set -- lenet cifar10_quick resnet20 squeezenet vgg16_cifar10

mkdir -p run/real_networks
ln -sfn "$data" run/real_networks/data # the YAML files' paths go through it

worst=0
for network in "$@"; do
  code=0
  mpi_run "${RANKS:-2}" "$bin/slr_compress" "jobs/real_networks/$network.yaml" || code=$?
  [ "$code" -le "$worst" ] || worst=$code
done
python3 jobs/real_networks/summary.py "$@"
exit "$worst"
