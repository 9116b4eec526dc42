#!/usr/bin/python3
"""Writes a small untrained network whose layers stand side by side: write_branches.py FILE

A convolution, then three branches of one or two convolutions each, joined, and a fully connected layer; input 1 x 28 x
28, ten classes."""
import math
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)
nodes, weights = [], []


def node(op, inputs, name, **attributes):
    nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
    return name


def weight(name, shape):
    values = random.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    weights.append(numpy_helper.from_array(values.astype(np.float32), name))
    return name


def conv(x, name, inputs, outputs, side=3, stride=1):
    pad = side // 2
    node("Conv", [x, weight(name + ".weight", (outputs, inputs, side, side))], name, kernel_shape=[side, side],
         strides=[stride, stride], pads=[pad] * 4)
    return node("Relu", [name], name + "/relu")


stem = conv("images", "stem", 1, 24, stride=2)
branches = [conv(stem, "left", 24, 32), conv(stem, "middle", 24, 32),
            conv(conv(stem, "right1", 24, 8, side=1), "right2", 8, 32)]
flat = node("Flatten", [node("GlobalAveragePool", [node("Concat", branches, "joined", axis=1)], "pool")], "flat")
node("Gemm", [flat, weight("fc.weight", (10, 96))], "logits", transB=1)
graph = helper.make_graph(
    nodes, "branches", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 28, 28])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
model.ir_version = 7
onnx.save(model, sys.argv[1])
