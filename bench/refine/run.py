#!/usr/bin/python3
"""What a pass of the refinement costs, beside PyTorch's forward and backward pass of the same factored network.

    bench/refine/run.py [--bin build/bin] [--out run/bench_refine] [--images 6000] [--turns 3]

Compresses the example network once, without refinement. Then in turns, one core: bench_refine with one and with three
passes of Adam over so many images, of which a pass is half the difference (steps and the judgement on the selection
images included), and PyTorch's forward pass, divergence and backward pass of mini-batches of as many images. Prints the
medians and their ratio; exit code 1 if it is above 1.2. Wants torch and onnx (jobs/packages-training.txt).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT, BATCH = 1.2, 96
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                   OPENBLAS_NUM_THREADS="1")


class Network:
    """The compressed network's nodes, one after the other; the factors' gradients are asked for."""

    def __init__(self, file):
        model = onnx.load(file)
        self.graph = model.graph
        self.constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in self.graph.initializer}
        self.trained = [t for name, t in self.constants.items() if "/" in name and t.dtype == torch.float32]
        for tensor in self.trained:
            tensor.requires_grad_()

    def forward(self, images):
        values = dict(self.constants)
        values[self.graph.input[0].name] = images
        for node in self.graph.node:
            words = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            x, *more = (values[name] if name else None for name in node.input)
            if node.op_type == "Conv":
                pads = words.get("pads", [0, 0, 0, 0])
                result = functional.conv2d(x, more[0], more[1] if len(more) > 1 else None, words.get("strides", 1),
                                           pads[:2])
            elif node.op_type == "Gemm":
                weight = more[0] if words.get("transB", 0) else more[0].T
                result = functional.linear(x, weight, more[1] if len(more) > 1 else None)
            elif node.op_type == "MaxPool":
                result = functional.max_pool2d(x, words["kernel_shape"], words["strides"])
            elif node.op_type == "Relu":
                result = torch.relu(x)
            elif node.op_type == "Add":
                result = x + more[0]
            elif node.op_type == "Flatten":
                result = torch.flatten(x, words["axis"])
            elif node.op_type == "Gather":
                result = x.index_select(words["axis"], more[0])
            elif node.op_type == "Split":
                for name, part in zip(node.output, torch.split(x, more[0].tolist(), words["axis"])):
                    values[name] = part
                continue
            else:
                sys.exit(f"the example's compressed network has a node of another kind than expected: {node.op_type}")
            values[node.output[0]] = result
        return values[self.graph.output[0].name]

    def seconds_of_pass(self, images):
        data, target = torch.randn(BATCH, 1, 28, 28), torch.softmax(torch.randn(BATCH, 10), 1)
        start = time.perf_counter()
        for _ in range(images // BATCH):
            loss = functional.kl_div(torch.log_softmax(self.forward(data), 1), target, reduction="batchmean")
            torch.autograd.grad(loss, self.trained)
        return (time.perf_counter() - start) * images / (images // BATCH * BATCH)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("--out", default=ROOT / "run/bench_refine", type=pathlib.Path)
    parser.add_argument("--images", default=6000, type=int)
    parser.add_argument("--turns", default=3, type=int)
    options = parser.parse_args()
    config, out = str(ROOT / "configs/fashion_mnist.yaml"), options.out.resolve()
    subprocess.run(["mpirun", "--oversubscribe", "-n", "2", str(options.bin / "slr_compress"), config, "--fresh", "--set",
                    "refine.epochs=0", "--set", f"output={out}"], env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)

    def refined(epochs):
        words = [f"refine.images={options.images}", f"refine.epochs={epochs}", "refine.optimizer=adam", f"output={out}"]
        done = subprocess.run(["mpirun", "-n", "1", str(options.bin / "bench_refine"), config, "--model",
                               str(out / "compressed.onnx"), "--optimizer", "adam",
                               *(word for setting in words for word in ("--set", setting))],
                              env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1])["refine"]

    torch.set_num_threads(1)
    network = Network(out / "compressed.onnx")
    network.seconds_of_pass(BATCH)
    ours, theirs = [], []
    for turn in range(options.turns):
        one, three = refined(1), refined(3)
        if one["images"] != options.images:
            sys.exit(f"there are {one['images']} images to fit, not {options.images}")
        ours.append((three["seconds"] - one["seconds"]) / 2)
        theirs.append(network.seconds_of_pass(options.images))
        print(f"a pass over {options.images} images: {ours[-1]:.2f} s, PyTorch {theirs[-1]:.2f} s, "
              f"ratio {ours[-1] / theirs[-1]:.2f}", flush=True)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print(f"median: {statistics.median(ours):.2f} s, PyTorch {statistics.median(theirs):.2f} s, ratio {ratio:.2f} "
          f"(limit {LIMIT})")
    return 1 if ratio > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
