#!/usr/bin/env python3
"""Writes AlexNet, VGG-16 and GoogLeNet at full size as ONNX, with untrained weights.

    /usr/bin/python3 jobs/paper_networks/write_networks.py FOLDER [alexnet|vgg16|googlenet ...]

Shapes are torchvision's (input 3 x 224 x 224, 1000 classes; GoogLeNet without its auxiliary heads, its normalization
written as nodes). Weights are Kaiming-normal for ReLU from a fixed seed, biases small: what can be shown with them is
size, speed and memory, not accuracy. AlexNet's LRN and its two groups, which torchvision leaves out, are written with
--caffe. Needs python3-onnx and python3-numpy.
"""
import argparse
import math
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13


class Writer:
    """A network written layer by layer; every method returns the name of the value that it made."""

    def __init__(self, name):
        self.name = name
        self.random = np.random.default_rng(1)
        self.nodes, self.weights = [], []

    def constant(self, name, array):
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def kaiming(self, name, shape):
        deviation = math.sqrt(2 / math.prod(shape[1:]))
        return self.constant(name, self.random.standard_normal(shape, dtype=np.float32) * deviation)

    def conv(self, x, name, inputs, outputs, side, stride=1, pad=0, groups=1, bias=True):
        parameters = [x, self.kaiming(name + ".weight", (outputs, inputs // groups, side, side))]
        if bias:
            parameters.append(self.constant(name + ".bias", 0.01 * self.random.standard_normal(outputs)))
        return self.node("Conv", parameters, name, kernel_shape=[side, side], strides=[stride, stride],
                         pads=[pad] * 4, group=groups)

    def relu(self, x):
        return self.node("Relu", [x], x + "/relu")

    def conv_relu(self, *args, **kwargs):
        return self.relu(self.conv(*args, **kwargs))

    def conv_norm_relu(self, x, name, inputs, outputs, side, stride=1, pad=0):
        x = self.conv(x, name, inputs, outputs, side, stride, pad, bias=False)
        random = self.random
        statistics = [1 + 0.1 * random.standard_normal(outputs), 0.1 * random.standard_normal(outputs),
                      0.1 * random.standard_normal(outputs), 1 + 0.1 * random.random(outputs)]
        names = [self.constant(f"{name}/norm.{part}", values)
                 for part, values in zip(("scale", "shift", "mean", "variance"), statistics)]
        return self.relu(self.node("BatchNormalization", [x] + names, name + "/norm", epsilon=1e-3))

    def pool(self, x, name, side, stride, pad=0, ceil=False):
        return self.node("MaxPool", [x], name, kernel_shape=[side, side], strides=[stride, stride], pads=[pad] * 4,
                         ceil_mode=int(ceil))

    def fully_connected(self, x, name, inputs, outputs):
        parameters = [x, self.kaiming(name + ".weight", (outputs, inputs)),
                      self.constant(name + ".bias", 0.01 * self.random.standard_normal(outputs))]
        return self.node("Gemm", parameters, name, transB=1)

    def classifier(self, x, inputs):
        """The three fully connected layers that AlexNet and VGG have in common."""
        x = self.node("Flatten", [x], "flatten")
        x = self.relu(self.fully_connected(x, "fc6", inputs, 4096))
        x = self.relu(self.fully_connected(x, "fc7", 4096, 4096))
        return self.fully_connected(x, "fc8", 4096, 1000)

    def model(self, output):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, self.name, [value("data", TensorProto.FLOAT, ["N", 3, 224, 224])],
                                  [value(output, TensorProto.FLOAT, ["N", 1000])], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=7,
                                 producer_name="slr_compress jobs/paper_networks")


def alexnet(caffe):
    w = Writer("alexnet")
    groups = 2 if caffe else 1

    def normalized(x):
        return w.node("LRN", [x], x + "/lrn", size=5, alpha=1e-4, beta=0.75, bias=1.0) if caffe else x

    x = w.pool(normalized(w.conv_relu("data", "conv1", 3, 64, 11, stride=4, pad=2)), "pool1", 3, 2)
    x = w.pool(normalized(w.conv_relu(x, "conv2", 64, 192, 5, pad=2, groups=groups)), "pool2", 3, 2)
    x = w.conv_relu(x, "conv3", 192, 384, 3, pad=1)
    x = w.conv_relu(x, "conv4", 384, 256, 3, pad=1, groups=groups)
    x = w.pool(w.conv_relu(x, "conv5", 256, 256, 3, pad=1, groups=groups), "pool5", 3, 2)
    return w.model(w.classifier(x, 256 * 6 * 6))


def vgg16(_caffe):
    w = Writer("vgg16")
    x, channels = "data", 3
    for block, (layers, outputs) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for layer in range(1, layers + 1):
            x = w.conv_relu(x, f"conv{block}_{layer}", channels, outputs, 3, pad=1)
            channels = outputs
        x = w.pool(x, f"pool{block}", 2, 2)
    return w.model(w.classifier(x, 512 * 7 * 7))


# Name, input channels, 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5 (3x3 in torchvision), after the pooling.
INCEPTIONS = (("3a", 192, 64, 96, 128, 16, 32, 32), ("3b", 256, 128, 128, 192, 32, 96, 64),
              ("4a", 480, 192, 96, 208, 16, 48, 64), ("4b", 512, 160, 112, 224, 24, 64, 64),
              ("4c", 512, 128, 128, 256, 24, 64, 64), ("4d", 512, 112, 144, 288, 32, 64, 64),
              ("4e", 528, 256, 160, 320, 32, 128, 128), ("5a", 832, 256, 160, 320, 32, 128, 128),
              ("5b", 832, 384, 192, 384, 48, 128, 128))


def googlenet(_caffe):
    w = Writer("googlenet")
    x = w.pool(w.conv_norm_relu("data", "conv1", 3, 64, 7, stride=2, pad=3), "pool1", 3, 2, ceil=True)
    x = w.conv_norm_relu(x, "conv2", 64, 64, 1)
    x = w.pool(w.conv_norm_relu(x, "conv3", 64, 192, 3, pad=1), "pool2", 3, 2, ceil=True)
    for name, inputs, one, reduce3, three, reduce5, five, pooled in INCEPTIONS:
        if name in ("4a", "5a"):
            side = 3 if name == "4a" else 2
            x = w.pool(x, f"pool_{name}", side, 2, ceil=True)
        block = f"inception{name}/"
        parts = [w.conv_norm_relu(x, block + "branch1", inputs, one, 1)]
        y = w.conv_norm_relu(x, block + "branch2.0", inputs, reduce3, 1)
        parts.append(w.conv_norm_relu(y, block + "branch2.1", reduce3, three, 3, pad=1))
        y = w.conv_norm_relu(x, block + "branch3.0", inputs, reduce5, 1)
        parts.append(w.conv_norm_relu(y, block + "branch3.1", reduce5, five, 3, pad=1))
        y = w.pool(x, block + "pool", 3, 1, pad=1, ceil=True)
        parts.append(w.conv_norm_relu(y, block + "branch4", inputs, pooled, 1))
        x = w.node("Concat", parts, block + "concat", axis=1)
    x = w.node("Flatten", [w.node("GlobalAveragePool", [x], "pool")], "flatten")
    return w.model(w.fully_connected(x, "fc", 1024, 1000))


NETWORKS = {"alexnet": alexnet, "vgg16": vgg16, "googlenet": googlenet}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--caffe", action="store_true", help="AlexNet with two groups and LRN")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"there is no network {unknown[0]}; choose from {', '.join(NETWORKS)}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.networks:
        model = NETWORKS[name](arguments.caffe)
        parameters = sum(math.prod(weight.dims) for weight in model.graph.initializer)
        file = arguments.folder / f"{name}.onnx"
        onnx.save(model, file)
        print(f"{file}: {parameters / 1e6:.2f} M parameters, untrained")


if __name__ == "__main__":
    main()
