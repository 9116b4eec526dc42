#!/usr/bin/python3
"""Counts a network without this program's code, through ONNX's own reader and shape inference: count_onnx.py FILE

Prints {"parameters", "macs", "bytes"} of one image as JSON: elements of floating tensors and of the indices of Gathers;
products of Conv, Gemm and MatMul; bytes of the initializers as stored. Exits with 77 where python3-onnx is not installed.
"""
import json
import math
import sys

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper, shape_inference
except ImportError:
    sys.exit(77)

FLOATING = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


def main():
    model = onnx.load(sys.argv[1])
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in constants:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in [*graph.input, *graph.value_info, *graph.output]}
    shapes.update({name: list(tensor.dims) for name, tensor in constants.items()})
    counts = {"parameters": 0, "macs": 0, "bytes": 0}
    indices = set()
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                tensor = helper.get_attribute_value(attribute)
                if isinstance(tensor, TensorProto) and tensor.data_type in FLOATING:
                    counts["parameters"] += math.prod(tensor.dims)
        if node.op_type == "Gather":
            indices.add(node.input[1])
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        left, right = shapes[node.input[0]], shapes[node.input[1]]
        terms = math.prod(right[1:]) if node.op_type == "Conv" else left[-1]
        if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
            terms = left[0]
        counts["macs"] += math.prod(shapes[node.output[0]]) * terms
    for name, tensor in constants.items():
        if tensor.data_type in FLOATING or name in indices:
            counts["parameters"] += math.prod(tensor.dims)
        counts["bytes"] += numpy_helper.to_array(tensor).nbytes
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
