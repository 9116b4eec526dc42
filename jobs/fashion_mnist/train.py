#!/usr/bin/python3
"""Trains the example network of this job, a VGG-style net on Fashion-MNIST, and writes it as ONNX.

    /usr/bin/python3 jobs/fashion_mnist/train.py [--epochs 4] [--seed 1] [--output FILE.onnx]

Needs the Debian packages of jobs/packages-training.txt and a quarter of an hour on one core. The result is committed
(fashion_mnist.onnx), so nobody has to run this to use the project; README.md in this folder says how it was made.
The file is written only if it reaches the target accuracy and if its initialisers give the trained network's logits.
"""

import argparse
import gzip
import os
import pathlib
import sys
import time

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

MEAN, STD = 0.2860, 0.3530
CLASSES = 10
CONVOLUTIONS = ((32, 32), (64, 64), (128, 128))  # output channels; a 2x2 max pooling follows each pair
HIDDEN = 256
TARGET_TOP1 = 0.925
OPSET, IR_VERSION = 13, 7


def read_idx(path):
    """The array of a gzipped idx file of bytes: two zero bytes, type 8, number of dimensions, big-endian sizes."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path}: not an idx file of bytes")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load(folder, part):
    """Normalised images N x 1 x 28 x 28 and labels N of one part (train or t10k)."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
    return torch.from_numpy((images[:, None] / 255 - MEAN) / STD), torch.from_numpy(labels)


def layers():
    """The network as (ONNX node name, module) in order; both torch and the ONNX graph are built from this list."""
    inputs = 1
    for block, pair in enumerate(CONVOLUTIONS, start=1):
        for i, outputs in enumerate(pair, start=1):
            yield f"conv{block}_{i}", nn.Conv2d(inputs, outputs, 3, padding=1)
            yield f"bn{block}_{i}", nn.BatchNorm2d(outputs)
            yield f"relu{block}_{i}", nn.ReLU()
            inputs = outputs
        yield f"pool{block}", nn.MaxPool2d(2)
    yield "flatten", nn.Flatten()
    yield "fc1", nn.Linear(inputs * 3 * 3, HIDDEN)
    yield "relu_fc1", nn.ReLU()
    yield "dropout", nn.Dropout(0.5)  # training only: not in the ONNX graph
    yield "fc2", nn.Linear(HIDDEN, CLASSES)


def build_network():
    network = nn.Sequential()
    for name, module in layers():
        network.add_module(name, module)
    return network


def train(network, images, labels, test, options):
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    batches = -(-len(images) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 0.1, total_steps=max(1, options.epochs * batches), cycle_momentum=False)
    for epoch in range(options.epochs):
        start = time.monotonic()
        network.train()
        for batch in torch.randperm(len(images)).split(options.batch):
            x = images[batch]
            flip = torch.rand(len(x)) < 0.5
            x[flip] = x[flip].flip(3)
            optimiser.zero_grad()
            functional.cross_entropy(network(x), labels[batch]).backward()
            optimiser.step()
            schedule.step()
        accuracy = top1(evaluate(network, test[0]), test[1])
        print(f"epoch {epoch + 1}/{options.epochs}: top-1 {accuracy:.4f}, "
              f"{time.monotonic() - start:.0f} s", flush=True)


def evaluate(network, images):
    """Logits N x 10 of a module or of any function of a batch."""
    if isinstance(network, nn.Module):
        network.eval()
    with torch.no_grad():
        return torch.cat([network(x) for x in images.split(500)])


def top1(logits, labels):
    return (logits.argmax(1) == labels).double().mean().item()


def to_onnx(network):
    """The graph node by node: convolutions and BatchNormalization stay separate, the batch dimension is free."""
    nodes, initialisers = [], []
    value = "images"

    def add(operator, name, parameters=None, **attributes):
        nonlocal value
        inputs = [value]
        for key, tensor in (parameters or {}).items():
            inputs.append(f"{name}.{key}")
            initialisers.append(numpy_helper.from_array(tensor.detach().numpy(), inputs[-1]))
        value = "logits" if name == "fc2" else name
        nodes.append(helper.make_node(operator, inputs, [value], name=name, **attributes))

    for name, m in network.named_children():
        if isinstance(m, nn.Conv2d):
            add("Conv", name, {"weight": m.weight, "bias": m.bias},
                kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        elif isinstance(m, nn.BatchNorm2d):
            add("BatchNormalization", name, {"scale": m.weight, "bias": m.bias, "mean": m.running_mean,
                                             "variance": m.running_var}, epsilon=m.eps)
        elif isinstance(m, nn.ReLU):
            add("Relu", name)
        elif isinstance(m, nn.MaxPool2d):
            add("MaxPool", name, kernel_shape=[2, 2], strides=[2, 2])
        elif isinstance(m, nn.Flatten):
            add("Flatten", name, axis=1)
        elif isinstance(m, nn.Linear):
            add("Gemm", name, {"weight": m.weight, "bias": m.bias}, transB=1)

    graph = helper.make_graph(
        nodes, "fashion_mnist",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])], initialisers)
    model = helper.make_model(graph, producer_name="slr_compress jobs/fashion_mnist/train.py",
                              ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_function(model):
    """The ONNX graph as a function of a batch, from the file's own nodes, attributes and initialisers."""
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}

    def run(images):
        values = dict(tensors, images=images)
        for node in model.graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            x, *p = (values[name] for name in node.input)
            if node.op_type == "Conv":
                y = functional.conv2d(x, *p, stride=attributes["strides"], padding=attributes["pads"][:2])
            elif node.op_type == "BatchNormalization":
                scale, bias, mean, variance = (v[:, None, None] for v in p)
                y = (x - mean) / torch.sqrt(variance + attributes["epsilon"]) * scale + bias
            elif node.op_type == "Relu":
                y = x.clamp(min=0)
            elif node.op_type == "MaxPool":
                y = functional.max_pool2d(x, attributes["kernel_shape"], attributes["strides"])
            elif node.op_type == "Flatten":
                y = x.flatten(attributes["axis"])
            elif node.op_type == "Gemm" and attributes["transB"] == 1:
                y = x @ p[0].T + p[1]
            else:
                raise SystemExit(f"{node.name}: operator {node.op_type} is not expected here")
            values[node.output[0]] = y
        return values[model.graph.output[0].name]

    return run


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", type=float, default=TARGET_TOP1, help="lowest top-1 at which the file is written")
    parser.add_argument("--output", type=pathlib.Path, default=here / "fashion_mnist.onnx")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # one order of summation
    test = load(options.data, "t10k")
    network = build_network()
    train(network, *load(options.data, "train"), test, options)

    model = to_onnx(network)
    expected = evaluate(network, test[0])
    actual = evaluate(onnx_function(model), test[0])
    difference = ((actual - expected).abs().max() / expected.abs().max()).item()
    accuracy = top1(actual, test[1])
    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, onnx {onnx.__version__}, "
          f"numpy {np.__version__}, seed {options.seed}, {options.epochs} epochs")
    print(f"top-1 on {len(test[1])} test images: {accuracy:.4f} (torch {top1(expected, test[1]):.4f}); "
          f"largest difference ONNX - torch relative to the largest logit: {difference:.1e}")
    if difference > 1e-4:
        raise SystemExit("the ONNX graph does not give the trained network's logits: nothing written")
    if accuracy < options.target:
        raise SystemExit(f"top-1 is below the target {options.target}: nothing written")

    beside = options.output.with_name(options.output.name + ".part")
    onnx.save(model, str(beside))
    os.replace(beside, options.output)
    print(f"written: {options.output.name}, {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
