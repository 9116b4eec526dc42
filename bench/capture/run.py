#!/usr/bin/env python3
"""What capture costs: forward pass and sampling against ONNX Runtime's plain forward pass of as many images, and the
writing of the shards beside it against a plain write of as many bytes.

    SLR_REAL_DATA=FOLDER bench/capture/run.py [--bin build/bin] [NETWORK...]

One rank, one thread; processor time, so that other work on the machine hardly counts, but for the flushing of files.
Forward pass and sampling are those of slr_calibrate's own account (it shows it), per image: the difference between two
runs of different numbers of images (so that preparing primitives does not count, which ONNX Runtime does not count
either), the best of three; ONNX Runtime's the best of several batch sizes. `whole` is the same difference of everything
that the process does. The shards' rate counts the processor time of arranging, checking and writing them and the time
until they are on the disk, that of a plain write the time until as many bytes are there: medians of as many writes, one
of each kind after the other, since on a virtual machine a page of the file cache that was not in use before costs several
times as much. Table and CSV
(`network,images,capture_seconds,whole_seconds,ort_seconds,ratio,shard_rate,plain_rate`; rates in MB/s). Without
SLR_REAL_DATA it says so and ends with 0.
"""
import argparse
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Network: configuration, what is packed, two numbers of images, shape, sizes of ONNX Runtime's batches.
NETWORKS = {
    "squeezenet": (["--images", "imagenet/calibration", "--list", "imagenet/calibration.txt", "--crop", "224"],
                   (40, 200), "3x224x224", (1, 8, 32)),
    "vgg16_cifar10": (["--images", "cifar10/calibration.bin"], (80, 480), "3x32x32", (1, 8, 32)),
    "resnet20": (["--images", "cifar10/calibration.bin"], (400, 2000), "3x32x32", (1, 8, 32)),
}
POSITIONS = 10  # the default, of each image and convolution
TRIALS = 3
ACCOUNT = re.compile(r"images on rank 0: ([\d.]+) s .* ([\d.]+) s for images, ([\d.]+) s for files")


def seconds_of(words, environment):
    """Processor time of the network and the samples, of the writing of shards, and of the whole process."""
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    begin = used()
    shown = subprocess.run(words, check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True).stdout
    account = ACCOUNT.search(shown)
    return float(account[1]), float(account[3]), used() - begin


def flush_seconds(files):
    """Until the files are on the disk."""
    begin = time.perf_counter()
    for file in files:
        with open(file, "rb+") as opened:
            os.fsync(opened.fileno())
    return time.perf_counter() - begin


def plain_write_seconds(file, size):
    """A plain write of as many bytes until they are on the disk."""
    block = os.urandom(1 << 20)
    os.sync()
    begin = time.perf_counter()
    with open(file, "wb", buffering=0) as out:
        for _ in range(size // len(block)):
            out.write(block)
        out.write(block[:size % len(block)])
        os.fsync(out.fileno())
    seconds = time.perf_counter() - begin
    file.unlink()
    return seconds


def capture_seconds(binaries, network, pack, counts, work, environment):
    packed, output = work / f"{network}.h5", work / network
    if not packed.exists():
        subprocess.run([binaries / "slr_pack", *pack, "--output", packed], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    times = []
    for count in counts:
        words = [binaries / "slr_calibrate", ROOT / f"jobs/real_networks/{network}.yaml", "--fresh",
                 "--set", f"data.calibration={packed}", "--set", f"calibration.images={count}",
                 "--set", f"calibration.positions={POSITIONS}", "--set", f"output={output}"]
        trials, writes = [], []
        for _ in range(TRIALS):
            os.sync()
            network_seconds, shard_seconds, all_seconds = seconds_of(words, environment)
            shards = list((output / "features").glob("shard-*.h5"))
            size = sum(file.stat().st_size for file in shards)
            trials.append((network_seconds, all_seconds))
            writes.append((shard_seconds + flush_seconds(shards), plain_write_seconds(work / "plain", size)))
        times.append([min(trial[i] for trial in trials) for i in range(2)])
    images = counts[1] - counts[0]
    shard_rate, plain_rate = (size / statistics.median(seconds) / 1e6 for seconds in zip(*writes))
    return (times[1][0] - times[0][0]) / images, (times[1][1] - times[0][1]) / images, shard_rate, plain_rate


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
    print(f"{'network':<16} {'images':>7} {'capture ms':>11} {'whole ms':>9} {'ONNX Runtime ms':>16} {'ratio':>6} "
          f"{'shards MB/s':>12} {'plain write':>12} {'ratio':>6}")
    rows = []
    for network in options.networks:
        pack, counts, shape, batches = NETWORKS[network]
        os.chdir(data)
        ours, whole, shard_rate, plain_rate = capture_seconds(binaries, network, pack, counts, work, environment)
        model = next(line.split()[1] for line in (ROOT / f"jobs/real_networks/{network}.yaml").read_text().splitlines()
                     if line.startswith("model:"))
        model = (ROOT / "jobs/real_networks" / model).resolve()
        theirs = float(subprocess.run(["node", ROOT / "bench/capture/ort.mjs", model, shape, str(counts[1] - counts[0]),
                                       *map(str, batches)], check=True, capture_output=True, text=True,
                                      env=environment).stdout)
        images = counts[1] - counts[0]
        print(f"{network:<16} {images:>7} {1e3 * ours:>11.3f} {1e3 * whole:>9.3f} {1e3 * theirs:>16.3f} "
              f"{ours / theirs:>6.2f} {shard_rate:>12.0f} {plain_rate:>12.0f} {shard_rate / plain_rate:>6.2f}", flush=True)
        rows.append(f"{network},{images},{ours:.6g},{whole:.6g},{theirs:.6g},{ours / theirs:.3f},{shard_rate:.0f},"
                    f"{plain_rate:.0f}")
        shutil.rmtree(work / network, ignore_errors=True)
    (work / "capture.csv").write_text("\n".join(
        ["network,images,capture_seconds,whole_seconds,ort_seconds,ratio,shard_rate,plain_rate", *rows, ""]))


if __name__ == "__main__":
    main()
