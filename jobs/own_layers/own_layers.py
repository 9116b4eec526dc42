#!/usr/bin/python3
"""Compresses layers of no network: weights and feature shards written with h5py, the result checked with numpy.

    jobs/own_layers/own_layers.py BIN_DIR WORK_DIR [RANKS]

Makes up two layers and compresses both with one slr_compress:

- `block/conv`, 24 x 12 channels of 3 x 3, ReLU. Its weights are a matrix of rank 2 plus two channels of full rank, so
  the budget below is enough to find them again. Two shards, with sample numbers (5 positions per image), the inputs X0
  of the original and the slightly different X that it will see.
- `fc`, 20 x 30, sigmoid, weights of decaying singular values and no bias. One shard with X0 and Y only: a row is an image.

Then rebuilds W from factors.h5 and computes in numpy, by the definition, what report.json says: parameters, training
and held-out error. Ends with 1 and a sentence if they differ. For data of your own, replace `make_*`.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import h5py
import numpy as np

CONFIGURATION = """\
layers:
  - {name: block/conv, weights: conv.h5, shards: 'conv-features/*.h5', activation: relu}
  - {name: fc, weights: fc.h5, shards: fc-features.h5, activation: sigmoid}
method: {kind: constrained}
budget: {parameters: 2.5}
output: run
"""
IMAGES, POSITIONS = 200, 5


def relu(z):
    return np.maximum(z, 0)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def make_conv(folder, random):
    """Weights n x channels x kh x kw; two shards, every image with all its positions in one of them."""
    n, channels, kernel = 24, 12, (3, 3)
    area = kernel[0] * kernel[1]
    k = channels * area
    weight = random.standard_normal((n, 2)) @ random.standard_normal((2, k))
    for channel in (3, 8):
        weight[:, channel * area:(channel + 1) * area] += 2 * random.standard_normal((n, area))
    bias = random.standard_normal(n)
    mixing = random.standard_normal((k, k)) / np.sqrt(k) + np.eye(k)
    x0 = random.standard_normal((IMAGES * POSITIONS, k)) @ mixing
    x = x0 + 0.01 * random.standard_normal(x0.shape)
    y = relu(x0 @ weight.T + bias)
    with h5py.File(folder / "conv.h5", "w") as file:
        file["weight"] = weight.reshape(n, channels, *kernel).astype("f4")
        file["bias"] = bias.astype("f4")
    sample = np.arange(IMAGES * POSITIONS)
    (folder / "conv-features").mkdir()
    for part in range(2):
        mine = sample // POSITIONS % 2 == part
        with h5py.File(folder / "conv-features" / f"part-{part}.h5", "w") as file:
            layer = file.create_group("block/conv")
            layer.attrs["positions"] = POSITIONS
            layer.create_dataset("X0", data=x0[mine].astype("f4"), chunks=True, fletcher32=True)
            layer.create_dataset("X", data=x[mine].astype("f4"), chunks=True, fletcher32=True)
            layer.create_dataset("Y", data=y[mine].astype("f4"), chunks=True, fletcher32=True)
            layer["sample"] = sample[mine]
    return x, y, sample // POSITIONS, relu


def make_fc(folder, random):
    """Weights n x k without a bias; rows of the shard are images."""
    n, k = 20, 30
    left, _ = np.linalg.qr(random.standard_normal((n, n)))
    right, _ = np.linalg.qr(random.standard_normal((k, n)))
    weight = left @ np.diag(2.0 * 0.8 ** np.arange(n)) @ right.T
    x0 = random.standard_normal((IMAGES, k))
    y = sigmoid(x0 @ weight.T)
    with h5py.File(folder / "fc.h5", "w") as file:
        file["weight"] = weight.astype("f4")
    with h5py.File(folder / "fc-features.h5", "w") as file:
        file["fc/X0"] = x0.astype("f4")
        file["fc/Y"] = y.astype("f4")
    return x0, y, np.arange(IMAGES), sigmoid


def assembled(factors):
    """W = U V on the columns that are left, B on the kept ones; and the numbers that are stored."""
    area = int(factors.attrs["group_columns"])
    u, v, b, kept = (np.asarray(factors[name]) for name in ("U", "V", "B", "kept_groups"))
    weight = np.empty((u.shape[0], v.shape[1] + b.shape[1]))
    is_kept = np.zeros(weight.shape[1] // area, bool)
    is_kept[kept] = True
    is_kept = np.repeat(is_kept, area)
    weight[:, is_kept] = b
    weight[:, ~is_kept] = u.astype(float) @ v
    bias = np.asarray(factors["bias"], float)
    return weight, bias, u.size + v.size + b.size + bias.size, len(kept)


def check(name, data, factors, report):
    """Sentences on what is not as report.json says."""
    x, y, image, activation = data
    weight, bias, stored, groups = assembled(factors)
    wrong = []
    for key, chosen in (("error_train", image % 10 > 1), ("error_heldout", image % 10 == 0)):
        difference = y[chosen] - activation(x[chosen] @ weight.T + bias)
        error = np.sum(difference**2) / np.sum(y[chosen] ** 2)
        if abs(error - report[key]) > max(1e-3 * error, 1e-7):
            wrong.append(f"{name}: {key} is {error:.6g} in numpy, report.json says {report[key]:.6g}")
    if not stored <= report["parameters_after"] <= stored + x.shape[1]:  # the exported form may add channel numbers
        wrong.append(f"{name}: {stored} numbers are stored, report.json says {report['parameters_after']}")
    print(f"{name}: rank {report['rank']}, {groups} kept groups, {report['parameters_before']} -> "
          f"{report['parameters_after']} parameters, held-out error {report['error_heldout']:.3g}")
    return wrong


def run(ranks, *command):
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), *map(str, command)], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def main():
    binaries, work = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    ranks = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    random = np.random.default_rng(1)
    data = {"block/conv": make_conv(work, random), "fc": make_fc(work, random)}
    (work / "own_layers.yaml").write_text(CONFIGURATION)

    run(ranks, binaries / "slr_compress", work / "own_layers.yaml")
    run(1, binaries / "slr_inspect", work / "run", "--verify")

    report = json.loads((work / "run/report.json").read_text())
    layers = {layer["name"]: layer for layer in report["layers"]}
    wrong = []
    with h5py.File(work / "run/factors.h5") as file:
        for name in data:
            wrong += check(name, data[name], file[name.replace("/", "%2F")], layers[name])
    model = report["model"]
    if model["parameters_after"] > model["parameters_before"] / 2.5:
        wrong.append(f"the budget is exceeded: {model['parameters_before']} -> {model['parameters_after']}")
    if layers["block/conv"]["error_heldout"] > 1e-3:  # the inputs differ by 1 %, hence 1e-4 of the outputs
        wrong.append("block/conv is of rank 2 plus two channels, but that was not found again")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
