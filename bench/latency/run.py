#!/usr/bin/env python3
"""How fast compressed networks are: those of jobs/real_networks under a budget of products or latency, in ONNX Runtime.

    SLR_REAL_DATA=FOLDER bench/latency/run.py [--budget macs|latency] [--bin build/bin] [--ranks 2] [NETWORK[=FACTOR]...]

Compresses each network by a factor (see FACTORS) and lets ONNX Runtime run original and compressed network in turns, one
thread, batch 1 (ort.mjs). The example of jobs/fashion_mnist is always among them; without SLR_REAL_DATA it is the only
one. Prints a table; exit code 1 if a compressed network takes more than 1.02 of its original's time, 2 if a budget was
missed. Results and latency.csv lie in run/bench_latency.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLOWEST = 1.02  # of the original's time
SHAPES = {"fashion_mnist": "1x28x28", "lenet": "1x28x28", "cifar10_quick": "3x32x32", "resnet20": "3x32x32",
          "squeezenet": "3x224x224", "vgg16_cifar10": "3x32x32"}
# Time falls less than products do.
FACTORS = {"macs": {"fashion_mnist": 2, "lenet": 2, "cifar10_quick": 1.5, "resnet20": 1.3, "squeezenet": 1.3,
                    "vgg16_cifar10": 3},
           "latency": {"fashion_mnist": 2, "lenet": 2, "cifar10_quick": 1.2, "resnet20": 1.15, "squeezenet": 1.15,
                       "vgg16_cifar10": 2}}


def compress(options, network, factor, output):
    folder = "configs" if network == "fashion_mnist" else "jobs/real_networks"
    words = ["mpirun", "--oversubscribe", "-n", options.ranks, options.bin / "slr_compress",
             ROOT / folder / f"{network}.yaml", "--fresh", "--set", f"budget={{{options.budget}: {factor}}}",
             "--set", f"output={output}", *options.more]
    return subprocess.run([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def in_onnx_runtime(original, compressed, shape):
    text = subprocess.run(["node", ROOT / "bench/latency/ort.mjs", original, compressed, shape, "41"], check=True,
                          capture_output=True, text=True).stdout
    return [float(word) for word in re.findall(r"([\d.]+) ms", text)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", choices=["macs", "latency"], default="macs")
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("--ranks", default=2, type=int)
    parser.add_argument("--set", dest="more", action="append", default=[], help="more for slr_compress, KEY=VALUE")
    parser.add_argument("networks", nargs="*")
    options = parser.parse_args()
    options.more = [word for value in options.more for word in ("--set", value)]
    data = os.environ.get("SLR_REAL_DATA")
    names = options.networks or (list(SHAPES) if data else ["fashion_mnist"])
    if not data:
        print("SLR_REAL_DATA does not name a folder with real networks and images: the example alone")
        names = [name for name in names if name.startswith("fashion_mnist")]
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    work = ROOT / "run/bench_latency"
    work.mkdir(parents=True, exist_ok=True)
    if data:
        link = ROOT / "run/real_networks/data"  # the configurations' paths go through it
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(pathlib.Path(data).resolve())
    print(f"{'network':<14} {options.budget:>8} {'MMACs':>9} {'after':>9} {'ours ms':>8} {'after':>8} {'ORT ms':>8} "
          f"{'after':>8} {'of it':>6} {'top-1':>8} {'after':>8}")
    rows, is_slow, is_missed = [], False, False
    for word in names:
        network, _, factor = word.partition("=")
        factor = float(factor or FACTORS[options.budget][network])
        output = work / f"{network}-{options.budget}"
        code = compress(options, network, factor, output)
        if code not in (0, 2):
            sys.exit(f"{network}: slr_compress ended with {code}")
        is_missed = is_missed or code == 2
        report = json.loads((output / "report.json").read_text())
        manifest = json.loads((output / "manifest.json").read_text())
        original = next(pathlib.Path(path) for path in manifest["inputs"] if path.endswith(".onnx"))
        if not original.is_absolute():
            original = output / original
        model, accuracy, ours = report["model"], report["accuracy"], report["latency"]["one_thread"]
        before, after = in_onnx_runtime(original, output / "compressed.onnx", SHAPES[network])
        is_slow = is_slow or after > SLOWEST * before
        print(f"{network:<14} {factor:>8} {model['macs_before'] / 1e6:>9.1f} {model['macs_after'] / 1e6:>9.1f} "
              f"{1e3 * ours['before']:>8.3f} {1e3 * ours['after']:>8.3f} {before:>8.3f} {after:>8.3f} "
              f"{after / before:>6.2f} {100 * accuracy['top1_before']:>6.2f} % {100 * accuracy['top1_after']:>6.2f} %",
              flush=True)
        rows.append(f"{network},{options.budget},{factor},{before},{after},{after / before:.4f}")
    (work / "latency.csv").write_text("\n".join(["network,budget,factor,ort_before_ms,ort_after_ms,ratio", *rows, ""]))
    return 1 if is_slow else 2 if is_missed else 0


if __name__ == "__main__":
    sys.exit(main())
