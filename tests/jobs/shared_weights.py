#!/usr/bin/python3
"""A network that applies one convolution twice, through the whole job: compressed once, for both.

    tests/jobs/shared_weights.py BIN_DIR WORK_DIR

Checks that the shards hold the samples of both nodes, that the written nodes read the same numbers, that these count
once, that slr_inspect --verify agrees, and that every number of ranks and every schedule that should gives the same
network. Needs python3-onnx, python3-h5py and python3-numpy.
"""
import json
import pathlib
import shutil
import subprocess
import sys

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGES = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
CHANNELS, COUNT, POSITIONS = 16, 320, 5
CONFIGURATION = f"""
model: network.onnx
data: {{calibration: {{images: {IMAGES}}}, preprocess: {{scale: 0.00392156862745098, mean: 0.286, std: 0.353}}}}
calibration: {{images: {COUNT}, positions: {POSITIONS}}}
method: {{iterations: 5}}
budget: {{parameters: 2}}
output: run
"""


def write_network(file):
    random = np.random.default_rng(1)
    weights = []

    def constant(name, shape):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 100
        weights.append(numpy_helper.from_array((random.standard_normal(shape) * np.sqrt(2 / fan)).astype("f4"), name))
        return name

    def conv(x, y, weight, bias, stride):
        return [helper.make_node("Conv", [x, weight, bias], [y + "_sum"], name=y, strides=[stride, stride],
                                 pads=[1, 1, 1, 1]), helper.make_node("Relu", [y + "_sum"], [y])]

    first = [constant("w", (CHANNELS, 1, 3, 3)), constant("b", (CHANNELS,))]
    both = [constant("shared.w", (CHANNELS, CHANNELS, 3, 3)), constant("shared.b", (CHANNELS,))]
    nodes = [*conv("images", "first", *first, 2), *conv("first", "one", *both, 1), *conv("one", "two", *both, 2),
             helper.make_node("GlobalAveragePool", ["two"], ["mean"]), helper.make_node("Flatten", ["mean"], ["flat"]),
             helper.make_node("Gemm", ["flat", constant("fc.w", (10, CHANNELS)), constant("fc.b", (10,))], ["logits"],
                              name="fc", transB=1)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "twice", [value("images", TensorProto.FLOAT, ["n", 1, 28, 28])],
                              [value("logits", TensorProto.FLOAT, ["n", 10])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), file)


def run(binaries, ranks, *words):
    words = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", ranks, binaries / words[0], *words[1:]]
    result = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"{words} ended with {result.returncode}:\n{result.stdout}")


def main():
    binaries, work = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_network(work / "network.onnx")
    (work / "network.yaml").write_text(CONFIGURATION)
    known = {}
    for ranks, schedule in [(1, "sequential"), (3, "sequential"), (1, "parallel"), (2, "parallel")]:
        run(binaries, ranks, "slr_compress", work / "network.yaml", "--fresh", "--set", f"pipeline.schedule={schedule}")
        written = (work / "run/compressed.onnx").read_bytes()
        assert known.setdefault(schedule, written) == written, f"{schedule} on {ranks} ranks gives another network"
        run(binaries, 1, "slr_inspect", work / "run", "--verify")

        report = json.loads((work / "run/report.json").read_text())
        layers = {layer["name"]: layer for layer in report["layers"]}
        assert list(layers) == ["first", "one", "fc"], list(layers)
        assert layers["one"]["rank"] is not None, "the shared layer stayed dense"

        samples = rows = 0
        for shard in (work / "run/features").glob("shard-*.h5"):
            with h5py.File(shard) as file:
                group = file["one"]
                assert group.attrs["positions"] == 2 * POSITIONS
                numbers = group["sample"][:]
                assert np.all(np.diff(numbers) > 0)
                samples, rows = samples + len(numbers), rows + len(group["Y"])
        assert samples == rows == 2 * POSITIONS * COUNT, samples

        model = onnx.load(work / "run/compressed.onnx")
        onnx.checker.check_model(model)
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        parts = {node.name: [name for name in node.input if name in constants] for node in model.graph.node}
        # The first node may do without the Gather, where its input is delivered in the order that it wants.
        of_one, of_two = ({part[4:]: read for part, read in parts.items()
                           if part.startswith(name) and read and part[4:] not in ("order", "split")}
                          for name in ("one/", "two/"))
        assert of_one and of_one == of_two, (of_one, of_two)
        floats = sum(array.size for array in constants.values() if array.dtype == np.float32)
        indices = sum(constants[name].size for name in
                      {node.input[1] for node in model.graph.node if node.op_type == "Gather"})
        assert report["model"]["parameters_after"] == floats + indices, (report["model"], floats, indices)
    print("one layer for two nodes: the same numbers in both, on every number of ranks, in both schedules")


if __name__ == "__main__":
    main()
