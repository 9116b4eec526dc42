#!/usr/bin/env bash
# Checks our executor and the exported file with an independent engine: compresses the network of jobs/fashion_mnist
# in short runs, one per grouping, then compares the logits of slr_evaluate with ONNX Runtime's, for the original and
# the results.
#
#   tests/jobs/onnxruntime/check.sh BIN_DIR WORK_DIR
#
# Exit code: 0, or 77 (a skip for ctest) without node or onnxruntime-node, else of what failed.
# onnxruntime-node is looked for in the folder SLR_ONNXRUNTIME_NODE, else beside BIN_DIR.
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 BIN_DIR WORK_DIR" >&2; exit 64; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=jobs/lib.sh
. "$here/../../../jobs/lib.sh"
bin=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
export SLR_ONNXRUNTIME_NODE=${SLR_ONNXRUNTIME_NODE:-$bin/../onnxruntime-node}

if ! command -v node >/dev/null || [ ! -d "$SLR_ONNXRUNTIME_NODE/node_modules/onnxruntime-node" ]; then
  echo "skipped: node or onnxruntime-node is missing (jobs/setup.sh, then tests/jobs/onnxruntime/setup.sh)."
  exit 77
fi

images=500
config=$project_root/configs/fashion_mnist.yaml

# Few images and iterations: what is checked is that both engines agree, not how good the result is.
mpi_run 2 "$bin/slr_compress" "$config" --fresh --set "output=$work/ort" --set budget.parameters=4.9 \
  --set calibration.images=500 --set method.iterations=5 --set refine.epochs=0 --set "data.validation.count=$images"

# Single columns and rows in three layers of fixed structure; the others stay dense.
for grouping in column:60 filter:12; do
  fixed="rank: 8, groups: ${grouping#*:}"
  mpi_run 2 "$bin/slr_compress" "$config" --fresh --set "output=$work/ort-${grouping%:*}" --set calibration.images=200 \
    --set "method.grouping=${grouping%:*}" --set method.iterations=2 --set refine.epochs=0 \
    --set "data.validation.count=$images" --set budget.parameters=1.05 --set 'budget.keep=[conv1*, conv3*, fc2]' \
    --set "budget.layers={conv2_1: {$fixed}, conv2_2: {$fixed}, fc1: {$fixed}}"
  "$bin/slr_inspect" "$work/ort-${grouping%:*}" --verify
done

compare() { # NAME MODEL
  rm -f "$work/$1-inputs.f32" "$work/$1-logits.f32"
  mpi_run 1 "$bin/slr_evaluate" "$config" --model "$2" --set "data.validation.count=$images" \
    --dump-inputs "$work/$1-inputs.f32" --dump-logits "$work/$1-logits.f32"
  node "$here/compare.mjs" "$2" "$work/$1-inputs.f32" "$work/$1-logits.f32" --shape 1x28x28
}
code=0
compare original "$project_root/jobs/fashion_mnist/fashion_mnist.onnx" || code=$?
compare compressed "$work/ort/compressed.onnx" || code=$?
compare column "$work/ort-column/compressed.onnx" || code=$?
compare filter "$work/ort-filter/compressed.onnx" || code=$?
exit "$code"
