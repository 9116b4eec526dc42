#!/usr/bin/python3
"""Writes the inputs that the fuzzers start from: small valid files of every kind.

    make_corpus.py FOLDER          writes FOLDER/onnx, FOLDER/configuration, FOLDER/hdf5, FOLDER/images
"""
import base64
import gzip
import pathlib
import struct
import sys
import zlib

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

JPEG_COLOUR = base64.b64decode("""
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H////6/+b9
//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj/wAARCAAQABgDASIAAhEB
AxEB/8QAGAAAAgMAAAAAAAAAAAAAAAAAAAQBAgX/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFgEBAQEAAAAAAAAAAAAAAAAAAgED/8QAHBEAAQMF
AAAAAAAAAAAAAAAAAAMREwIEEiFh/9oADAMBAAIRAxEAPwCSrRUCtRyJXMb6HARDKDocj//Z""")
JPEG_GREY_PROGRESSIVE = base64.b64decode("""
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H////6/+b9
//j/wgALCAAQABgBAREA/8QAGAAAAgMAAAAAAAAAAAAAAAAAAQIDBAX/2gAIAQEAAAABqDVRoP/EABQQAQAAAAAAAAAAAAAAAAAAACD/2gAIAQEAAQUC
X//EABQQAQAAAAAAAAAAAAAAAAAAACD/2gAIAQEABj8CX//EABQQAQAAAAAAAAAAAAAAAAAAACD/2gAIAQEAAT8hX//aAAgBAQAAABCb/8QAFBABAAAA
AAAAAAAAAAAAAAAAIP/aAAgBAQABPxBf/9k=""")


def tensor(name, *shape):
    return numpy_helper.from_array(np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) / 7 - 1, name)


def integers(name, values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def model(nodes, initializers, height=8, opset=13, free=True):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n" if free else 2, 3, height, height])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7).SerializeToString()


def onnx_files():
    node = helper.make_node
    yield model([node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
                 node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["p"], ["f"]),
                 node("Gemm", ["f", "v", "d"], ["g"], transB=1), node("Softmax", ["g"], ["y"])],
                [tensor("w", 4, 3, 3, 3), tensor("b", 4), tensor("v", 5, 64), tensor("d", 5)])
    yield model([node("Conv", ["x", "w"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
                 node("BatchNormalization", ["c", "s", "t", "m", "u"], ["n"], epsilon=1e-3),
                 node("Clip", ["n", "lo", "hi"], ["a"]), node("Conv", ["a", "dw"], ["d"], group=4, kernel_shape=[1, 1]),
                 node("Add", ["a", "d"], ["z"]), node("GlobalAveragePool", ["z"], ["p"]),
                 node("Shape", ["p"], ["q"]), node("Gather", ["q", "zero"], ["i"]), node("Unsqueeze", ["i", "axis"], ["j"]),
                 node("Concat", ["j", "minus"], ["k"], axis=0), node("Reshape", ["p", "k"], ["f"]),
                 node("MatMul", ["f", "v"], ["h"]), node("Add", ["h", "e"], ["y"])],
                [tensor("w", 4, 3, 3, 3), tensor("s", 4), tensor("t", 4), tensor("m", 4),
                 numpy_helper.from_array(np.ones(4, np.float32), "u"), tensor("lo"), tensor("hi"), tensor("dw", 4, 1, 1, 1),
                 integers("zero", 0), integers("axis", [0]), integers("minus", [-1]), tensor("v", 4, 2), tensor("e", 2)])
    yield model([node("Conv", ["x", "w"], ["c"]), node("Split", ["c", "sizes"], ["c1", "c2"], axis=1),
                 node("Conv", ["c1", "w1"], ["d1"]), node("Sigmoid", ["c2"], ["s2"]),
                 node("Concat", ["d1", "s2"], ["m"], axis=1), node("Transpose", ["m"], ["t"], perm=[0, 2, 3, 1]),
                 node("ReduceMean", ["t"], ["r"], axes=[1, 2], keepdims=0), node("LeakyRelu", ["r"], ["l"], alpha=0.1),
                 node("Constant", [], ["k"], value=tensor("", 4, 2)), node("Gemm", ["l", "k"], ["y"], alpha=0.5)],
                [tensor("w", 4, 3, 1, 1), integers("sizes", [2, 2]), tensor("w1", 2, 2, 1, 1)], height=4)
    yield model([node("Conv", ["x", "w"], ["c"], group=3, dilations=[2, 2]), node("Gather", ["c", "i"], ["o"], axis=1),
                 node("Slice", ["o", "from", "to", "axes"], ["s"]), node("Squeeze", ["s", "axes"], ["y"])],
                [tensor("w", 6, 1, 2, 2), integers("i", [5, 0, 1]), integers("from", [0]), integers("to", [1]),
                 integers("axes", [2])])
    yield model([node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3]), node("Dropout", ["c"], ["d"]),
                 node("Reshape", ["d", "shape"], ["f"]), node("MatMul", ["f", "v"], ["y"])],
                [tensor("w", 2, 3, 3, 3), tensor("b", 2), integers("shape", [0, -1]), tensor("v", 8, 3)], height=4, opset=7,
                free=False)
    outside = helper.make_tensor("v", TensorProto.FLOAT, [2, 3], [0] * 6)
    outside.ClearField("float_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "16"), ("length", "24")):
        outside.external_data.add(key=key, value=value)
    half = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float16), "half")
    yield model([node("Cast", ["half"], ["w"], to=TensorProto.FLOAT), node("Conv", ["x", "w"], ["c"]),
                 node("ConstantOfShape", ["shape"], ["o"]), node("Add", ["c", "o"], ["y"])],
                [half, outside, integers("shape", [1, 3, 1, 1])])


CONFIGURATIONS = ["""model: vgg.onnx
data:
  calibration: {images: photos, list: photos.txt, first: 3, count: 2000, resize: 256, crop: 224}
  validation: {images: t10k.gz, labels: labels.gz}
  preprocess: {scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], channels: bgr}
calibration: {images: 2000, positions: 10, inputs: compressed, seed: 1}
method: {kind: constrained, iterations: 30, tolerance: 1.0e-4, svd: auto}
budget: {parameters: 4.9, macs: {at_most: 28.0e6}, keep: [conv1_1, 'fc*'], layers: {fc6: {rank: 200, groups: 64}}}
refine: {images: 10000, epochs: 10, proximal: auto}
checkpoint: {every: 60}
on_failure: keep_dense
output: run/vgg
%%
budget.parameters=[2, 3, 4.9]
output=run/other
data.calibration=images.h5
""", """# own layers
layers:
  - {name: conv1, weights: w.h5, shards: 'features/*.h5', activation: relu}
  - name: "fc\\u00e4"
    weights: >
      folded
    shards: |
      literal
    activation: identity
method:
    kind: relaxed
    nuclear: .05
    group: 5e-2
budget:
    parameters: {at_most: 12}
    spread: uniform
    multiple: 8
output: "a \\"quoted\\" folder"
""", """{"model": "m.onnx", "data": {"calibration": {"images": "x"}, "preprocess": {"mean": 0.5, "std": 1}},
"batch": [{"budget": {"parameters": 3}}, {"output": "b"}], "pipeline": {"groups": 2, "schedule": "pipelined"},
"output": "~", "refine": {"dense": true}}
%%
refine.dense=false
batch=[]
method={kind: relaxed}
"""]


def write_hdf5(path, libver):
    rng = np.random.default_rng(1)
    with h5py.File(path, "w", libver=libver, track_order=False) as file:
        file.attrs.update(shard_index=0, shard_count=1, schema=1, model_sha256="ab" * 32, config_hash="cd" * 32)
        for name, (n, k) in {"conv1": (2, 3), "block%2Ffc": (3, 4)}.items():
            group = file.create_group(name)
            group.attrs.update(name=name.replace("%2F", "/"), inputs=k, outputs=n, positions=2, kernel=[1, 1],
                               activation="relu", activation_parameters=[0.0, 6.0])
            for key, width in (("X0", k), ("Y", n)):
                group.create_dataset(key, data=rng.random((6, width), np.float32), chunks=(4, width), fletcher32=True)
            group["X"] = group["X0"]
            group.create_dataset("sample", data=np.arange(6, dtype=np.int64))


def write_images(path, libver, **filters):
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["source"] = "idx"
        file.create_dataset("images", data=np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4), **filters)
        file.create_dataset("labels", data=np.array([1, 2], np.int32))


def write_factors(path, libver):
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs.update(schema=1, model_sha256="ab" * 32)
        layer = file.create_group("conv1")
        layer.attrs.update(name="conv1", error_train=0.5, stop_reason="converged")
        for key, shape in (("U", (4, 1)), ("V", (1, 6)), ("B", (4, 3)), ("bias", (4,)), ("trace/objective", (3,)),
                           ("refined/conv1.weight", (4, 9))):
            layer.create_dataset(key, data=np.ones(shape, np.float64 if "trace" in key else np.float32))
        layer.create_dataset("kept_groups", data=np.array([1], np.int64))


def hdf5_files(folder):
    for libver in ("earliest", "v110"):
        write_hdf5(folder / f"shard-{libver}", (libver, "v110"))
        write_images(folder / f"images-{libver}", (libver, "v110"))
        write_images(folder / f"packed-{libver}", (libver, "v110"), chunks=(1, 3, 4, 4), compression="gzip", shuffle=True)
        write_factors(folder / f"factors-{libver}", (libver, "v110"))


def png(width, height, colour_type, interlace=0):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    channels = {0: 1, 2: 3, 6: 4}[colour_type]
    rows = b"".join(b"\1" + bytes(range(width * channels)) for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, interlace)) +
            chunk(b"tEXt", b"Comment\0fuzz") + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def image_files():
    idx = struct.pack(">IIII", 0x0803, 3, 4, 5) + bytes(range(60))
    labels = struct.pack(">II", 0x0801, 3) + b"\1\2\3"
    cifar = b"".join(bytes([label]) + bytes(i % 251 for i in range(3072)) for label in (3, 9))
    for transform in (b"\0", b"\x24", b"\x20"):
        yield from (b"i" + transform + data for data in (idx, gzip.compress(idx, mtime=0), cifar))
        yield from (b"p" + transform + data for data in (JPEG_COLOUR, JPEG_GREY_PROGRESSIVE, png(6, 5, 0), png(4, 4, 2),
                                                         png(4, 4, 6)))
    yield from (b"l\0" + data for data in (labels, gzip.compress(labels, mtime=0)))
    yield b"t\0200\n200\n# a comment\n\n200\n"
    yield b"t\0200 1\n200 2\r\n  200 \t 3\n"
    yield b"t\x11with space.png 1\n200 12\n"


def main():
    root = pathlib.Path(sys.argv[1])
    folders = {name: root / name for name in ("onnx", "configuration", "hdf5", "images")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for name, contents in (("onnx", onnx_files()), ("configuration", (text.encode() for text in CONFIGURATIONS)),
                           ("images", image_files())):
        for number, data in enumerate(contents):
            (folders[name] / f"{number:02d}").write_bytes(data)
    hdf5_files(folders["hdf5"])


if __name__ == "__main__":
    main()
