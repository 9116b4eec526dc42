#!/usr/bin/env python3
"""What a budget costs: the loss of accuracy at several sizes, over seeds, against an even split of the same size.

    jobs/budgets/run.py [--bin DIR] [--ranks N] [--config FILE] [--factors 4.9,6.7,8.6] [--seeds 1,2,3]
                        [--images N] [--spread network,uniform] [--out DIR] [--set KEY=VALUE]...

Runs slr_compress once per seed and spread, with all factors as one list, and prints the mean over the seeds of the
change of top-1 in points, of the KL divergence, and its ratio to the even split's (whose kept channels may save more
than was asked for: compare sizes, and give it smaller factors); with refinement also how many times smaller that made
the KL divergence on the report images. Writes the rows to OUT/budgets.csv.
"""
import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("--ranks", default=2, type=int)
    parser.add_argument("--config", default=ROOT / "configs/fashion_mnist.yaml", type=pathlib.Path)
    parser.add_argument("--factors", default="4.9,6.7,8.6")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--spread", default="network,uniform")
    parser.add_argument("--out", default=ROOT / "run/budgets", type=pathlib.Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    factors, spreads = options.factors.split(","), options.spread.split(",")
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    rows = []
    for spread in spreads:
        for seed in options.seeds.split(","):
            folder = options.out / f"{spread}-seed-{seed}"
            settings = [f"output={folder}", f"calibration.seed={seed}", f"budget.spread={spread}",
                        f"budget.parameters=[{','.join(factors)}]", *options.set]
            command = ["mpirun", "--oversubscribe", "-n", str(options.ranks), str(options.bin / "slr_compress"),
                       str(options.config), "--fresh", *(w for s in settings for w in ("--set", s))]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
            for factor in factors:
                below = folder / f"parameters-{factor}" if len(factors) > 1 else folder
                report = json.loads((below / "report.json").read_text())
                accuracy, stages, refine = report["accuracy"], report["run"]["seconds_by_stage"], report.get("refine")
                rows.append({"spread": spread, "seed": seed, "factor": factor,
                             "ratio": report["model"]["parameter_ratio"], "kl": accuracy["kl"],
                             "points": 100 * (accuracy["top1_after"] - accuracy["top1_before"]),
                             "refined_times": refine["kl_before"] / refine["kl_after"] if refine else 1.0,
                             "seconds_curves": stages.get("curves", 0.0), "seconds_solve": stages["solve"]})
                print("{spread:8} seed {seed} {factor:>4}x  {ratio:.3f}x  {points:+.2f} points  KL {kl:.5f}, refined "
                      "{refined_times:.2f} times smaller  curves {seconds_curves:.1f} s, solve {seconds_solve:.1f} s"
                      .format(**rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "budgets.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    print()
    for factor in factors:
        def mean(spread, key):
            return statistics.mean(r[key] for r in rows if r["spread"] == spread and r["factor"] == factor)
        line = f"{factor:>4}x"
        for spread in spreads:
            line += (f"  {spread} ({mean(spread, 'ratio'):.2f}x): {mean(spread, 'points'):+.2f} points, "
                     f"KL {mean(spread, 'kl'):.5f}, refined {mean(spread, 'refined_times'):.2f} times smaller")
        if len(spreads) == 2:
            line += f"  KL ratio {mean(spreads[0], 'kl') / mean(spreads[1], 'kl'):.2f}"
        print(line)


if __name__ == "__main__":
    main()
