#!/usr/bin/env python3
"""What capture costs: forward pass and sampling against ONNX Runtime's plain forward pass of as many images, and the
writing of the shards beside it against a plain write of as many bytes.

    SLR_REAL_DATA=FOLDER bench/capture/run.py [--bin build/bin] [NETWORK...]

One rank, one thread; processor time, so that other work on the machine hardly counts, but for the writing of files.
Forward pass and sampling are those of slr_calibrate's own account (it shows it), per image: the difference between two
runs of different numbers of images (so that preparing primitives does not count, which ONNX Runtime does not count
either), the best of three; ONNX Runtime's the best of several batch sizes. `whole` is the same difference of everything
that the process does. The shards' rate is that of bench_shards for the shard of the larger run: until it lies on the disk,
and beside it a plain write of as many bytes. Table and CSV
(`network,images,capture_seconds,whole_seconds,ort_seconds,ratio,shard_rate,plain_rate`; rates in MB/s). Without
SLR_REAL_DATA it says so and ends with 0.
"""
import argparse
import os
import pathlib
import re
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
POSITIONS = 10  # the default, of each image and convolution
TRIALS = 3
ACCOUNT = re.compile(r"images on rank 0: ([\d.]+) s")


def seconds_of(words, environment):
    """Processor time of the network and the samples, and of the whole process."""
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    begin = used()
    shown = subprocess.run(words, check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True).stdout
    account = ACCOUNT.search(shown)
    return float(account[1]), used() - begin


def shard_rates(binaries, shard, folder, environment):
    """Of the shard's rows written anew, and of a plain write of as many bytes, in MB/s."""
    shown = subprocess.run([binaries / "bench_shards", "--shard", shard, "--folder", folder], check=True,
                           env=environment, stdout=subprocess.PIPE, text=True).stdout
    return tuple(float(rate) for rate in re.findall(r"([\d.]+) MB/s", shown))


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
        trials = []
        for _ in range(TRIALS):
            trials.append(seconds_of(words, environment))
        times.append([min(trial[i] for trial in trials) for i in range(2)])
    images = counts[1] - counts[0]
    shard, = (output / "features").glob("shard-*.h5")
    shard_rate, plain_rate = shard_rates(binaries, shard, work, environment)
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
