#!/usr/bin/env python3
"""How far real networks can be compressed: a row per target of targets.json, with what it may lose and what it lost.

    SLR_REAL_DATA=FOLDER jobs/real_networks/targets.py [--bin DIR] [--ranks N] [--out DIR] [--kind unrefined,refined]
                                                       [--set KEY=VALUE]... [NETWORK...]

`unrefined`: without the refinement of all layers together, and an even split of the same size beside it, whose KL
divergence must be 1.25 times as large. `refined`: with it, on mixtures of so many images, in so many passes; the
divergence on the report images must not be more than 2 % above the unrefined one. Targets one after the other, by
default all. The folder is the one that run.sh describes; without it the script says so and ends with 0. Exit code: 1 if
a target is missed.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LARGEST_KL_RATIO, LARGEST_RISE = 0.8, 1.02
EVEN_ATTEMPTS, SAME_SIZE = 6, 0.03


def compress(options, target, name, *settings, factor=None):
    """The report of one run; its folder is kept."""
    folder = options.out / f"{target['network']}-{target['factor']}-{name}"
    words = [f"output={folder}", f"budget.parameters={factor or target['factor']}", *settings, *options.set]
    command = ["mpirun", "--oversubscribe", "-n", str(options.ranks), str(options.bin / "slr_compress"),
               str(ROOT / f"jobs/real_networks/{target['network']}.yaml"), "--fresh",
               *(w for s in words for w in ("--set", s))]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return json.loads((folder / "report.json").read_text())


def points(report, metric):
    accuracy = report["accuracy"]
    return 100 * (accuracy[f"{metric}_after"] - accuracy[f"{metric}_before"])


def row(target, report, words, is_met):
    print(f"{target['network']:<14} {report['model']['parameter_ratio']:6.2f}x  {target['metric']} "
          f"{points(report, target['metric']):+.2f} (limit -{target['points']:.1f})  {words}  "
          f"{report['run']['seconds']:.0f} s  {'met' if is_met else 'MISSED'}", flush=True)
    return is_met


def compress_evenly(options, target, ratio, *settings):
    """With an even split that comes out as small as `ratio`: kept channels may save more than was asked for."""
    factor = target["factor"]
    for _ in range(EVEN_ATTEMPTS):
        report = compress(options, target, "uniform", *settings, "budget.spread=uniform", factor=factor)
        here = report["model"]["parameter_ratio"]
        if abs(here / ratio - 1) < SAME_SIZE:
            break
        factor = max(1.01, factor * ratio / here)
    return report


def unrefined(options, target):
    calibration = [f"calibration.images={target['images']}", "refine.epochs=0"]
    uneven = compress(options, target, "network", *calibration)
    even = compress_evenly(options, target, uneven["model"]["parameter_ratio"], *calibration)
    ratio = uneven["accuracy"]["kl"] / even["accuracy"]["kl"]
    is_met = points(uneven, target["metric"]) >= -target["points"] and ratio <= LARGEST_KL_RATIO
    return row(target, uneven, f"KL {uneven['accuracy']['kl']:.4f}, even split ({even['model']['parameter_ratio']:.2f}x) "
               f"{even['accuracy']['kl']:.4f}, {points(even, target['metric']):+.2f} points: ratio {ratio:.2f}", is_met)


def refined(options, target):
    report = compress(options, target, "refined", f"refine.images={target['images']}",
                      f"refine.epochs={target['passes']}", "refine.optimizer=white_adam", "refine.mixup=true")
    before, after = report["refine"]["kl_before"], report["refine"]["kl_after"]
    is_met = points(report, target["metric"]) >= -target["points"] and after <= LARGEST_RISE * before
    return row(target, report, f"KL {before:.4f} -> {after:.4f} on the report images", is_met)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("--ranks", default=2, type=int)
    parser.add_argument("--out", default=ROOT / "run/targets", type=pathlib.Path)
    parser.add_argument("--kind", default="unrefined,refined")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_intermixed_args()
    data = os.environ.get("SLR_REAL_DATA")
    if not data:
        print("skipped: SLR_REAL_DATA does not name a folder with real networks and images (see the head of run.sh).")
        return 0
    link = ROOT / "run/real_networks/data"  # the YAML files' paths go through it
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(pathlib.Path(data).resolve())
    targets = json.loads((pathlib.Path(__file__).parent / "targets.json").read_text())
    are_met = [{"unrefined": unrefined, "refined": refined}[kind](options, target)
               for kind in options.kind.split(",") for target in targets[kind]
               if not options.networks or target["network"] in options.networks]
    return 0 if all(are_met) else 1


if __name__ == "__main__":
    sys.exit(main())
