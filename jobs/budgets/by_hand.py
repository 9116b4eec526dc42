#!/usr/bin/env python3
"""What budgets set by hand cost in accuracy, layer by layer, without refinement.

    jobs/budgets/by_hand.py [--bin DIR] [--ranks N] [--seeds 1,2,3] [--share 0.3] [--out DIR] [--set KEY=VALUE]...

Two budgets of the Fashion-MNIST network: fc1 (256 x 1152) at 20x and the convolutions at 2.9x, and fc1 at 40x and the
convolutions at 5x; the first and the last layer stay dense. Convolutions spend a share of their numbers on kept
channels and the rest on rank, fc1 all on rank. Runs slr_compress per budget and seed, and prints the change of top-1 on
all validation images in points and the KL divergence, and their means over the seeds.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONVOLUTIONS = {"conv1_2": (32, 32), "conv2_1": (64, 32), "conv2_2": (64, 64), "conv3_1": (128, 64),
                "conv3_2": (128, 128)} # output and input channels, 3 x 3
BUDGETS = {"fc1 20x, convolutions 2.9x": (20, 2.9), "fc1 40x, convolutions 5x": (40, 5)}


def convolution(rows, channels, factor, share):
    """Numbers: B on the kept channels, U and V on the others, bias, and the indices of the Gather."""
    area, limit = 9, rows * (9 * channels + 1) / factor
    groups = int(share * limit / (rows * area))
    rank = int((limit - rows - channels - rows * area * groups) / (rows + area * (channels - groups)))
    return f"{{rank: {rank}, groups: {groups}}}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("--ranks", default=2, type=int)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--share", default=0.3, type=float)
    parser.add_argument("--out", default=ROOT / "run/by_hand", type=pathlib.Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    for number, (name, (of_fc, of_convolutions)) in enumerate(BUDGETS.items(), 1):
        layers = {layer: convolution(*shape, of_convolutions, options.share) for layer, shape in CONVOLUTIONS.items()}
        layers["fc1"] = f"{{rank: {int((256 * 1153 / of_fc - 256) / (256 + 1152))}}}"
        fixed = ", ".join(f"{layer}: {structure}" for layer, structure in layers.items())
        points, divergences = [], []
        for seed in options.seeds.split(","):
            folder = options.out / f"budget-{number}-seed-{seed}"
            settings = [f"output={folder}", f"calibration.seed={seed}", "refine.epochs=0", "budget.parameters=",
                        "budget.keep=[conv1_1, fc2]", f"budget.layers={{{fixed}}}", *options.set]
            command = ["mpirun", "--oversubscribe", "-n", str(options.ranks), str(options.bin / "slr_compress"),
                       str(ROOT / "configs/fashion_mnist.yaml"), "--fresh",
                       *(word for setting in settings for word in ("--set", setting))]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
            report = json.loads((folder / "report.json").read_text())
            accuracy = report["accuracy"]
            points.append(100 * (accuracy["top1_after"] - accuracy["top1_before"]))
            divergences.append(accuracy["kl"])
            print(f"{name}, seed {seed}: {report['model']['parameter_ratio']:.2f}x  {points[-1]:+.2f} points  "
                  f"KL {divergences[-1]:.5f}  {accuracy['images']} images", flush=True)
        print(f"{name}, mean: {statistics.mean(points):+.2f} points  KL {statistics.mean(divergences):.5f}")


if __name__ == "__main__":
    main()
