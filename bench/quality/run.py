#!/usr/bin/python3
"""Held-out errors, KL divergence and top-1 of this program and its peers at equal stored numbers.

    bench/quality/run.py [--bin build/bin/bench_quality] [--out run/quality] [--ranks 2] [--only NAME]...
                         [--set KEY=VALUE]...

Runs on the Fashion-MNIST network (5x and 8x) and, where the folder named by SLR_REAL_DATA is there, on its LeNet (12x),
cifar10_quick (2x) and ResNet-20 (1.5x). Writes OUT/quality.csv (a row per network, layer and method; layer * is the
whole network) and OUT/quality.csv.differences (method minus ours, 95 % intervals of a paired bootstrap over the
validation images), and counts in how many rows ours is significantly better or worse.
"""
import argparse
import csv
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def fashion(_):
    return (ROOT / "configs/fashion_mnist.yaml").read_text().replace("../jobs", str(ROOT / "jobs"))


def lenet(data):
    return f"""\
model: {data}/models/lenet.onnx
data:
  calibration: {{images: {data}/mnist/t10k-images-idx3-ubyte.gz, first: 0, count: 5000}}
  validation: {{images: {data}/mnist/t10k-images-idx3-ubyte.gz, labels: {data}/mnist/t10k-labels-idx1-ubyte.gz,
               first: 5000, count: 5000}}
  preprocess: {{scale: 0.00392156862745098}}
"""


def cifar(model, preprocess):
    return lambda data: f"""\
model: {data}/models/{model}.onnx
data:
  calibration: {{images: {data}/cifar10/calibration.bin}}
  validation: {{images: {data}/cifar10/validation.bin}}
  preprocess: {preprocess}
"""


# name: (configuration, factor, needs SLR_REAL_DATA)
NETWORKS = {
    "fashion_mnist-5x": (fashion, 5, False),
    "fashion_mnist-8x": (fashion, 8, False),
    "lenet-12x": (lenet, 12, True),
    "cifar10_quick-2x": (cifar("cifar10_quick", "{scale: 1, mean: [125.31, 122.95, 113.87]}"), 2, True),
    "resnet20-1.5x": (cifar("resnet20", "{scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], "
                                        "std: [0.229, 0.224, 0.225]}"), 1.5, True),
}


def summary(file):
    better = worse = rows = 0
    with open(file) as lines:
        for row in csv.DictReader(lines):
            rows += 1
            better += float(row["kl_low"]) > 0
            worse += float(row["kl_high"]) < 0
    print(f"{rows} comparisons: the KL divergence is significantly smaller with ours in {better}, larger in {worse}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / "build/bin/bench_quality", type=pathlib.Path)
    parser.add_argument("--out", default=ROOT / "run/quality", type=pathlib.Path)
    parser.add_argument("--ranks", default=2, type=int)
    parser.add_argument("--only", action="append", default=[], choices=list(NETWORKS))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    table = out / "quality.csv"
    for file in (table, pathlib.Path(f"{table}.differences")):
        file.unlink(missing_ok=True)
    data = os.environ.get("SLR_REAL_DATA")
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    for name, (configuration, factor, needs_data) in NETWORKS.items():
        if options.only and name not in options.only:
            continue
        if needs_data and not (data and pathlib.Path(data).is_dir()):
            print(f"{name} is skipped: SLR_REAL_DATA names no folder")
            continue
        file = out / f"{name}.yaml"
        file.write_text(configuration(data and pathlib.Path(data).resolve()))
        settings = [f"output={out / name}", f"budget.parameters={factor}", *options.set]
        done = subprocess.run(["mpirun", "--oversubscribe", "-n", str(options.ranks), options.bin, name, table, file,
                               "--fresh", *(word for setting in settings for word in ("--set", setting))],
                              env=environment)
        if done.returncode != 0:
            sys.exit(f"bench_quality ended with {done.returncode} on {name}")
    summary(f"{table}.differences")


if __name__ == "__main__":
    main()
