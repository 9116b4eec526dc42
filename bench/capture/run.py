#!/usr/bin/env python3
"""What capture costs: forward pass, sampling and shards, against ONNX Runtime's plain forward pass of as many images.

    SLR_REAL_DATA=FOLDER bench/capture/run.py [--bin build/bin] [NETWORK...]

One rank, one thread, processor time each. Both are per image: ours the difference between two runs of slr_calibrate of
different numbers of images (so that reading the model and preparing primitives do not count, which ONNX Runtime does not
count either), the better of two; ONNX Runtime's the best of several batch sizes. Table and CSV
(`network,images,capture_seconds,ort_seconds,ratio`). Without SLR_REAL_DATA it says so and ends with 0.
"""
import argparse
import os
import pathlib
import resource
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Network: configuration, what is packed, two numbers of images, shape, sizes of ONNX Runtime's batches.
NETWORKS = {
    "squeezenet": (["--images", "imagenet/calibration", "--list", "imagenet/calibration.txt", "--crop", "224"],
                   (40, 200), "3x224x224", (1, 8, 32)),
    "vgg16_cifar10": (["--images", "cifar10/calibration.bin"], (80, 480), "3x32x32", (1, 8, 32)),
    "resnet20": (["--images", "cifar10/calibration.bin"], (400, 2000), "3x32x32", (1, 8, 32)),
}


def seconds_of(words, environment):
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    begin = used()
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return used() - begin


def capture_seconds(binaries, network, pack, counts, work, environment):
    packed = work / f"{network}.h5"
    if not packed.exists():
        subprocess.run([binaries / "slr_pack", *pack, "--output", packed], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    times = []
    for count in counts:
        words = [binaries / "slr_calibrate", ROOT / f"jobs/real_networks/{network}.yaml", "--fresh",
                 "--set", f"data.calibration={packed}", "--set", f"calibration.images={count}",
                 "--set", f"output={work / network}"]
        times.append(min(seconds_of(words, environment) for _ in range(2)))
    return (times[1] - times[0]) / (counts[1] - counts[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    if not os.environ.get("SLR_REAL_DATA"):
        print("skipped: SLR_REAL_DATA does not name a folder with real networks and images")
        return
    data = pathlib.Path(os.environ["SLR_REAL_DATA"]).resolve()
    binaries, work = options.bin.resolve(), ROOT / "run/bench_capture"
    work.mkdir(parents=True, exist_ok=True)
    link = ROOT / "run/real_networks/data"  # the configurations' paths go through it
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(data)
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    print(f"{'network':<16} {'images':>7} {'capture ms':>11} {'ONNX Runtime ms':>16} {'ratio':>6}")
    rows = []
    for network in options.networks:
        pack, counts, shape, batches = NETWORKS[network]
        os.chdir(data)
        ours = capture_seconds(binaries, network, pack, counts, work, environment)
        model = next(line.split()[1] for line in (ROOT / f"jobs/real_networks/{network}.yaml").read_text().splitlines()
                     if line.startswith("model:"))
        model = (ROOT / "jobs/real_networks" / model).resolve()
        theirs = float(subprocess.run(["node", ROOT / "bench/capture/ort.mjs", model, shape, str(counts[1] - counts[0]),
                                       *map(str, batches)], check=True, capture_output=True, text=True,
                                      env=environment).stdout)
        images = counts[1] - counts[0]
        print(f"{network:<16} {images:>7} {1e3 * ours:>11.3f} {1e3 * theirs:>16.3f} {ours / theirs:>6.2f}", flush=True)
        rows.append(f"{network},{images},{ours:.6g},{theirs:.6g},{ours / theirs:.3f}")
        shutil.rmtree(work / network, ignore_errors=True)
    (work / "capture.csv").write_text("\n".join(["network,images,capture_seconds,ort_seconds,ratio", *rows, ""]))


if __name__ == "__main__":
    main()
