#!/usr/bin/python3
"""Every kind of input file damaged in every way, one at a time, met by the real programs.

    tests/jobs/hostile_inputs.py BIN_DIR WORK_DIR [SHARE [SEED]]       SHARE: run one of so many cases (1: all)

A case takes a small job that works, damages one of its files (removes, empties, truncates, flips a bit, makes it
unreadable, puts a folder in its place, or writes a NaN into it) and runs the program on one rank, every eighth case on
two. Expected are:

- an exit code that the table below has for this file and this damage;
- exactly one line `slr_NAME: ...` on standard error if the code is an error's, none otherwise;
- an end within LIMIT seconds;
- no output under its final name that cannot be read completely, and no temporary file;
- where the damaged file carries checksums: code 0 only with the bytes of the undamaged job.
"""
import concurrent.futures
import gzip
import json
import os
import pathlib
import queue
import random
import shutil
import struct
import subprocess
import sys
import zlib

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIMIT = 180  # seconds; a case takes about one, on a busy machine more
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_mpi_yield_when_idle="1", OMPI_MCA_hwloc_base_binding_policy="none")
# Root reads everything; without these capabilities it is as bound by permissions as anybody.
UNPRIVILEGED = ["setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"]
BINARIES = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None

CONFIGURATION = """\
model: {model}
data:
  calibration: {calibration}
  validation: {{images: images.idx, labels: labels.idx}}
  preprocess: {{scale: 0.0039, mean: 0.5, std: 0.3}}
calibration: {{images: 40, positions: 4}}
method: {{iterations: 5}}
budget: {{parameters: 1.5}}
output: out
"""
OWN_LAYERS = """\
layers: [{name: fc, weights: weights.h5, shards: features.h5, activation: relu}]
method: {kind: constrained, iterations: 5}
budget: {parameters: 1.5}
output: out
"""


# --- the job that works -------------------------------------------------------------------------------------------

def tensor(rng, name, *shape):
    return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)


def network(rng):
    node = helper.make_node
    nodes = [node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]), node("Relu", ["c1"], ["r1"]),
             node("MaxPool", ["r1"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
             node("Conv", ["p", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]), node("Relu", ["c2"], ["r2"]),
             node("Flatten", ["r2"], ["f"]), node("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1)]
    graph = helper.make_graph(nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
                              [tensor(rng, "w1", 8, 1, 3, 3), tensor(rng, "b1", 8), tensor(rng, "w2", 8, 8, 3, 3),
                               tensor(rng, "b2", 8), tensor(rng, "w3", 4, 128), tensor(rng, "b3", 4)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def png(pixels):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_own_layer(rng, folder):
    weight = rng.standard_normal((6, 10)).astype("f4")
    x = rng.standard_normal((80, 10)).astype("f4")
    with h5py.File(folder / "weights.h5", "w", libver="v110") as file:
        file.create_dataset("weight", data=weight, chunks=True, fletcher32=True)
    with h5py.File(folder / "features.h5", "w", libver="v110") as file:
        for name, values in (("X0", x), ("Y", np.maximum(x @ weight.T, 0))):
            file.create_dataset("fc/" + name, data=values, chunks=True, fletcher32=True)


def write_base(folder):
    """All inputs, and output folders in the states that a job may meet."""
    rng = np.random.default_rng(1)
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fuzz"))
    from make_corpus import JPEG_GREY_PROGRESSIVE
    model = network(rng)
    onnx.save(model, folder / "net.onnx")
    onnx.save(model, str(folder / "external.onnx"), save_as_external_data=True, location="external.bin", size_threshold=0)
    images = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    idx = struct.pack(">IIII", 0x803, 60, 8, 8) + images.tobytes()
    (folder / "images.idx").write_bytes(idx)
    (folder / "images.idx.gz").write_bytes(gzip.compress(idx, mtime=0))
    (folder / "labels.idx").write_bytes(struct.pack(">II", 0x801, 60) + bytes(i % 4 for i in range(60)))
    (folder / "batch.bin").write_bytes(b"".join(bytes([i]) + rng.bytes(3072) for i in range(4)))
    (folder / "photos").mkdir()
    for i, pixels in enumerate(images[:59]):
        (folder / f"photos/{i:02d}.png").write_bytes(png(np.kron(pixels, np.ones((2, 3), np.uint8))))
    (folder / "photos/59.jpg").write_bytes(JPEG_GREY_PROGRESSIVE)
    (folder / "photos.txt").write_text("".join(f"{i:02d}.png {i % 4}\n" for i in range(59)) + "59.jpg 3\n")
    for name, text in (("net.yaml", CONFIGURATION.format(model="net.onnx", calibration="images.idx")),
                       ("gzip.yaml", CONFIGURATION.format(model="net.onnx", calibration="images.idx.gz")),
                       ("external.yaml", CONFIGURATION.format(model="external.onnx", calibration="images.idx")),
                       ("packed.yaml", CONFIGURATION.format(model="net.onnx", calibration="packed.h5")),
                       ("photos.yaml", CONFIGURATION.format(
                           model="net.onnx", calibration="{images: photos, list: photos.txt, crop: 8}")),
                       ("own.yaml", OWN_LAYERS)):
        (folder / name).write_text(text)
    write_own_layer(rng, folder)
    must(folder, "slr_pack", "--images", "images.idx", "--output", "packed.h5")
    for state, program, config in (("finished", "slr_compress", "net"), ("captured", "slr_calibrate", "net"),
                                   ("curved", "slr_compress", "net"), ("captured-external", "slr_calibrate", "external")):
        must(folder, program, f"{config}.yaml", "--set", f"output={state}")
    for name in ("manifest.json", "report.json", "compressed.onnx", "factors.h5"):
        (folder / "curved" / name).unlink()
    for name in ("net", "gzip", "packed", "photos", "external", "own"):
        must(folder, "slr_compress", f"{name}.yaml", "--set", f"output=good-{name}")


def command(program, *arguments, ranks=1, unprivileged=False):
    words = [str(BINARIES / program), *arguments]
    if ranks > 1:
        words = ["mpirun", "--oversubscribe", "-n", str(ranks), *words]
    return (UNPRIVILEGED if unprivileged and os.geteuid() == 0 else []) + words


def must(folder, program, *arguments):
    done = subprocess.run(command(program, *arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=LIMIT)
    if done.returncode not in (0, 2):
        sys.exit(f"{program} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")


# --- what is damaged, what is run, what must come out -------------------------------------------------------------

class Kind:
    """A file of the job, the command that reads it, and the codes that each damage may end in."""

    def __init__(self, file, words, *, gone, torn, flipped, empty=None, folder=None, good=None, alone=False,
                 not_finite=None, keep_dense=None):
        self.file, self.words = file, words
        self.codes = {"removed": gone, "unreadable": {74}, "folder": folder or {65, 74}, "empty": empty or torn,
                      "truncated": torn, "flipped": flipped}
        # A function that writes a NaN where the first layer reads it, which ends in 3, or in 2 if this run is told to
        # keep such layers dense.
        self.not_finite, self.keep_dense = not_finite, keep_dense
        self.codes["NaN"] = {3}
        self.codes["NaN-kept-dense"] = {2}
        self.good = good    # folder with the result of the undamaged job: the file carries checksums
        self.alone = alone  # the program is for one process


def compress(config, output="out"):
    return ["slr_compress", f"{config}.yaml", "--set", f"output={output}"]


def nan_in_dataset(name):
    def write(path):
        with h5py.File(path, "r+") as file:
            file[name][0, 0] = np.nan
    return write


def nan_in_first_weight(path):
    model = onnx.load(str(path))
    weight = next(each for each in model.graph.initializer if each.name == "w1")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, "w1"))
    onnx.save(model, str(path))


# A flip may leave a valid file that means something else (0: a weight, a pixel, a label, a word of the configuration), or
# one that is refused: 65 by its format, 74 where it changed the name of another file, 78 where it changed a key or a
# value, 3 where it made a weight so large that the outputs overflow, 2 where the damaged network misses its budget.
KINDS = {
    "model": Kind("net.onnx", compress("net"), gone={74}, torn={65}, flipped={0, 2, 3, 65, 78}, folder={74},
                  not_finite=nan_in_first_weight),
    "model with external data": Kind("external.onnx", compress("external"), gone={74}, torn={65},
                                     flipped={0, 2, 3, 65, 78}, folder={74}),
    "external data": Kind("external.bin", compress("external"), gone={65}, torn={65}, flipped={0, 2, 3}, folder={65}),
    # The features of other weights must not be used.
    "external data of a captured run": Kind("external.bin", compress("external", "captured-external"), gone={65}, torn={65},
                                            flipped={78}, folder={65}),
    "configuration": Kind("net.yaml", compress("net"), gone={74}, torn={0, 2, 65, 74, 78}, empty={78},
                          flipped={0, 2, 65, 74, 78}, folder={74}),
    "images, idx": Kind("images.idx", compress("net"), gone={74}, torn={65}, flipped={0, 2, 65}, folder={65}),
    "images, idx.gz": Kind("images.idx.gz", compress("gzip"), gone={74}, torn={65}, flipped={0, 2, 65}, folder={65},
                           good="good-gzip"),
    "labels": Kind("labels.idx", compress("net"), gone={74}, torn={65}, flipped={0, 2, 65}, folder={74}),
    "packed images": Kind("packed.h5", compress("packed"), gone={74}, torn={65}, flipped={0, 2, 65}, folder={65},
                          good="good-packed"),
    "CIFAR-10 records": Kind("batch.bin", ["slr_pack", "--images", "batch.bin", "--output", "out.h5"], gone={74},
                             torn={65}, flipped={0, 65}, folder={65}),
    "list of images": Kind("photos.txt", compress("photos"), gone={74}, torn={0, 2, 65, 74, 78}, empty={65},
                           flipped={0, 2, 65, 74, 78}, folder={74}),
    "PNG image": Kind("photos/01.png", compress("photos"), gone={74}, torn={65}, flipped={0, 65}, folder={74},
                      good="good-photos"),
    "JPEG image": Kind("photos/59.jpg", compress("photos"), gone={74}, torn={65}, flipped={0, 2, 65}, folder={74}),
    "folder of images": Kind("photos", compress("photos"), gone={74}, torn=None, flipped=None, folder=None),
    "weights of an own layer": Kind("weights.h5", compress("own"), gone={74}, torn={65}, flipped={0, 2, 65}, folder={74},
                                    good="good-own", not_finite=nan_in_dataset("weight"),
                                    keep_dense="on_failure=keep_dense"),
    "shard of an own layer": Kind("features.h5", compress("own"), gone={65, 74}, torn={65}, flipped={0, 2, 65},
                                  folder={65, 74}, good="good-own", not_finite=nan_in_dataset("fc/X0"),
                                  keep_dense="on_failure=keep_dense"),
    "feature shard": Kind("captured/features/shard-00000-of-00001.h5", compress("net", "captured"), gone={65},
                          torn={65}, flipped={0, 2, 65}, folder={65}, good="good-net",
                          not_finite=nan_in_dataset("conv1/X0")),
    "packed calibration images": Kind("captured/calibration.h5", compress("net", "captured"), gone={0, 2}, torn={65},
                                      flipped={0, 2, 65}, folder={65}, good="good-net"),
    "curves.json": Kind("curved/curves.json", compress("net", "curved"), gone={0, 2}, torn={65}, empty={0, 2, 65},
                        flipped={0, 2, 65}, folder={74}, good="good-net"),
    "machine.json": Kind("curved/machine.json", compress("net", "curved"), gone={0, 2}, torn={65}, flipped={0, 2, 65},
                         folder={74}, good="good-net"),
    "mark of the output folder": Kind("curved/.job.json", compress("net", "curved"), gone={78}, torn={65, 78},
                                      flipped={0, 2, 65, 78}, folder={74}, good="good-net"),
    "report of a finished run": Kind("finished/report.json", compress("net", "finished"), gone={74}, torn={65},
                                     flipped={0, 65}, folder={74}),
    "manifest to reproduce": Kind("finished/manifest.json",
                                  ["slr_compress", "--reproduce", "finished/manifest.json", "--set", "output=out"],
                                  gone={74}, torn={65}, flipped={0, 2, 65, 74, 78}, folder={74}),
    "result to verify": Kind("finished/compressed.onnx", ["slr_inspect", "finished", "--verify"], gone={65}, torn={65},
                             flipped={65}, folder={65, 74}, alone=True),
    "factors to verify": Kind("finished/factors.h5", ["slr_inspect", "finished", "--verify"], gone={65}, torn={65},
                              flipped={65}, folder={65, 74}, alone=True),
}
ERRORS = {3, 64, 65, 70, 74, 75, 78}


def damages(kind, size, engine):
    """(name, function on the path) of every damage of a file of that size."""
    yield "removed", lambda path: shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield "unreadable", lambda path: path.chmod(0)
    if kind.codes["truncated"] is None:  # a folder
        return
    yield "empty", lambda path: path.write_bytes(b"")
    yield "folder", lambda path: (path.unlink(), path.mkdir())
    # The reports of the two slots differ by a few bytes (times, memory), so no damage may rely on the length of one.
    for length in sorted({1, size // 3, 2 * size // 3} - {0, size}):
        yield f"truncated to {length} of {size}", lambda path, length=length: os.truncate(path, length)
    if size > 2:
        yield f"truncated by 2 of {size}", lambda path: os.truncate(path, path.stat().st_size - 2)
    for bit in sorted(engine.randrange(8 * size) for _ in range(5)):
        def flip(path, bit=bit):
            data = bytearray(path.read_bytes())
            data[min(bit // 8, len(data) - 1)] ^= 1 << bit % 8
            path.write_bytes(data)
        yield f"flipped bit {bit}", flip
    if kind.not_finite:
        yield "NaN", kind.not_finite
    if kind.keep_dense:
        yield "NaN-kept-dense", kind.not_finite


def all_cases(base, seed):
    engine = random.Random(seed)
    for name, kind in KINDS.items():
        path = base / kind.file
        for damage, apply in damages(kind, path.stat().st_size, engine):
            yield name, kind, damage, apply


# --- judging a case -----------------------------------------------------------------------------------------------

def contents(file):
    """Of a result: every dataset's values, or the bytes. (The notes of factors.h5 name the hash of what was read.)"""
    if file.suffix != ".h5":
        return file.read_bytes()
    found = {}
    with h5py.File(file) as opened:
        opened.visititems(lambda name, item: found.update({name: item[...].tobytes()} if hasattr(item, "dtype") else {}))
    return found


def torn_outputs(folder, damaged, inputs):
    """Complaints about files under final names that cannot be read, and about temporary ones."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file == damaged or (file.parent == folder and file.name in inputs):
            continue
        try:
            if file.name.endswith(".part"):
                yield f"{file} was left behind"
            elif file.suffix == ".json":
                json.loads(file.read_text())
            elif file.suffix == ".onnx":
                onnx.checker.check_model(onnx.load(str(file)))
            elif file.suffix == ".h5":
                with h5py.File(file) as opened:
                    opened.visititems(lambda _, item: item[...] if isinstance(item, h5py.Dataset) else None)
        except Exception as error:  # whatever a reader says, the file is torn
            yield f"{file} is torn: {error}"


def judge(slots, number, name, kind, damage, apply):
    """Runs one case in a free slot; returns its code, its line of error and the complaints."""
    slot = slots.get()
    try:
        return judge_in(slot / "job", slot / "base", number, name, kind, damage, apply)
    finally:
        slots.put(slot)


def judge_in(folder, base, number, name, kind, damage, apply):
    shutil.rmtree(folder)
    shutil.copytree(base, folder, symlinks=True)
    apply(folder / kind.file)
    ranks = 2 if number % 8 == 7 and not kind.alone else 1
    more = ["--set", kind.keep_dense] if damage == "NaN-kept-dense" else []
    words = command(*kind.words, *more, ranks=ranks, unprivileged=damage == "unreadable")
    complaints = []
    try:
        done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, errors="replace",
                              timeout=LIMIT)
        code, errors = done.returncode, [line for line in done.stderr.splitlines() if line.startswith("slr_")]
    except subprocess.TimeoutExpired:
        code, errors = None, []
        complaints.append(f"did not end within {LIMIT} s")
    if damage == "unreadable":
        (folder / kind.file).chmod(0o755)
    expected = kind.codes[damage.split()[0]]
    if code not in expected:
        complaints.append(f"code {code}, expected one of {sorted(expected)}")
    if len(errors) != (1 if code in ERRORS else 0):
        complaints.append(f"{len(errors)} lines of error with code {code}")
    complaints += torn_outputs(folder, folder / kind.file, {path.name for path in base.iterdir()})
    output = folder / kind.words[-1].removeprefix("output=")
    if kind.good and code in (0, 2) and damage != "NaN-kept-dense":
        for result in ("compressed.onnx", "factors.h5"):
            good = folder / kind.good / result
            if good.exists() and contents(output / result) != contents(good):
                complaints.append(f"{result} differs from that of the undamaged job, and nothing was noticed")
    said = errors[0] if errors else ""
    return code, said, [f"{number}: {name}, {damage}, {ranks} ranks: {c}; it said: {said}" for c in complaints]


def main():
    work = pathlib.Path(sys.argv[2]).resolve()
    share = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    shutil.rmtree(work, ignore_errors=True)
    # A run remembers absolute paths, so a case runs where its base was made; two run at a time.
    slots, all_slots = queue.Queue(), [work / "slot-0", work / "slot-1"]
    for slot in all_slots:
        (slot / "job").mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda slot: write_base(slot / "job"), all_slots))
    for slot in all_slots:
        shutil.copytree(slot / "job", slot / "base")
        slots.put(slot)
    cases = list(enumerate(all_cases(all_slots[0] / "base", seed)))
    chosen = sorted(random.Random(seed).sample(cases, len(cases) // share), key=lambda case: case[0])
    complaints, codes = [], {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for (number, (name, _, damage, _)), (code, said, more) in zip(
                chosen, pool.map(lambda case: judge(slots, case[0], *case[1]), chosen)):
            codes[code] = codes.get(code, 0) + 1
            complaints += more
            print(f"{number:3d}  {name}, {damage}: {code}  {said}")
    if complaints:
        sys.exit("\n".join(["", *complaints]))
    print(f"{len(chosen)} of {len(cases)} cases, by exit code: " +
          ", ".join(f"{code}: {count}" for code, count in sorted(codes.items())))


if __name__ == "__main__":
    main()
