#!/usr/bin/env bash
# Installs onnxruntime-node, at the version of package.json, into a folder; does nothing if that version is there.
#
#   tests/jobs/onnxruntime/setup.sh [FOLDER=build/onnxruntime-node]
#
# Without npm it says so and succeeds: the test that needs it is then skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here/../../../build/onnxruntime-node}

if ! command -v npm >/dev/null; then
  echo "onnxruntime-node: npm is missing (jobs/setup.sh installs it): the check with ONNX Runtime is skipped."
  exit 0
fi
[ -d "$folder/node_modules/onnxruntime-node" ] && cmp -s "$here/package.json" "$folder/package.json" && exit 0

# Installed beside and renamed: a broken installation is not taken for a whole one.
rm -rf "$folder" "$folder.part"
mkdir -p "$folder.part"
cp "$here/package.json" "$folder.part"
(cd "$folder.part" && npm install --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error)
mv "$folder.part" "$folder"
