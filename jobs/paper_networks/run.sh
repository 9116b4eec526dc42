#!/usr/bin/env bash
# AlexNet, VGG-16 and GoogLeNet at full size: capture, solve, export and the check of the written file.
#
#   jobs/paper_networks/run.sh [NETWORK...] [-- MORE WORDS FOR slr_compress]
#
# Without anything else it writes the networks (untrained: seeded weights for ReLU, see write_networks.py) and takes 256
# images of Fashion-MNIST enlarged to 3 x 224 x 224. A proof of size, speed and memory: no accuracy is printed, only how
# far the outputs move.
#
# With trained networks of your own the same job gives the table with accuracies: SLR_PRETRAINED names a folder with
# alexnet.onnx, vgg16.onnx, googlenet.onnx (what is asked for), the images in calibration/ and validation/, and
# validation.txt with a line NAME LABEL per image. Sizes and means are those of configs/NETWORK.yaml; more words change
# them, such as -- --set calibration.images=500 for fewer images than that file asks for.
#
# RANKS (4) sets the number of ranks, SLR_BIN (build/bin) the programs' folder; results are in run/paper_networks.
set -euo pipefail
# shellcheck source=jobs/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
bin=$(cd "${SLR_BIN:-$project_root/build/bin}" && pwd)
networks=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  networks+=("$1")
  shift
done
[ $# -eq 0 ] || shift
[ ${#networks[@]} -gt 0 ] || networks=(alexnet vgg16 googlenet)
[ -z "${SLR_PRETRAINED:-}" ] || pretrained=$(cd "$SLR_PRETRAINED" && pwd)
cd "$project_root"
folder=run/paper_networks

worst=0
for network in "${networks[@]}"; do
  if [ -n "${pretrained:-}" ]; then
    settings=("model=$pretrained/$network.onnx" "data.calibration.images=$pretrained/calibration"
      "data.validation.images=$pretrained/validation" "data.validation.list=$pretrained/validation.txt")
  else
    [ -e "$folder/models/$network.onnx" ] ||
      /usr/bin/python3 jobs/paper_networks/write_networks.py "$folder/models" "$network"
    images=/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
    settings=("model=$folder/models/$network.onnx" "data.calibration={images: $images, count: 256, resize: 224}"
      data.validation=null calibration.images=256)
  fi
  words=()
  for setting in "${settings[@]}" "output=$folder/$network"; do words+=(--set "$setting"); done
  code=0
  mpi_run "${RANKS:-4}" "$bin/slr_compress" "configs/$network.yaml" "${words[@]}" "$@" || code=$?
  [ "$code" -le "$worst" ] || worst=$code
done
exit "$worst"
