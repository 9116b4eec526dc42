#!/usr/bin/env bash
# AlexNet, VGG-16 and GoogLeNet at full size: capture, solve, export and the check of the written file, with 256 images
# of Fashion-MNIST enlarged to 3 x 224 x 224. A proof of size, speed and memory: the weights are untrained (seeded, for
# ReLU; see write_networks.py), so no accuracy is printed, only how far the outputs move.
#
#   jobs/paper_networks/run.sh [NETWORK...]
#
# With a trained network of your own, take the same configuration with your model and images, and labelled ones for the
# accuracy: slr_compress configs/vgg16.yaml --set model=... --set data.calibration.images=... and so on.
# RANKS (4) sets the number of ranks, SLR_BIN (build/bin) the programs' folder; results are in run/paper_networks.
set -euo pipefail
# shellcheck source=jobs/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
bin=$(cd "${SLR_BIN:-$project_root/build/bin}" && pwd)
cd "$project_root"
[ $# -gt 0 ] || set -- alexnet vgg16 googlenet
folder=run/paper_networks

for network in "$@"; do
  [ -e "$folder/models/$network.onnx" ] ||
    /usr/bin/python3 jobs/paper_networks/write_networks.py "$folder/models" "$network"
done
images=/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
worst=0
for network in "$@"; do
  code=0
  mpi_run "${RANKS:-4}" "$bin/slr_compress" "configs/$network.yaml" --set "model=$folder/models/$network.onnx" \
    --set "data.calibration={images: $images, count: 256, resize: 224}" --set data.validation=null \
    --set calibration.images=256 --set "output=$folder/$network" || code=$?
  [ "$code" -le "$worst" ] || worst=$code
done
exit "$worst"
