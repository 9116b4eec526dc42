#!/usr/bin/env python3
"""What the schedules for groups of ranks deliver on the example network, against the sequential one.

    jobs/schedules/run.py accuracy|batch|busy [--bin DIR] [--out DIR] [--ranks 4] [--groups N] [--factor 4.9]
                          [--seeds 1,2,3] [--factors 2,2.5,3,3.5,4,4.9,6,8] [--set KEY=VALUE]...

accuracy  parallel in 2 groups and sequential, at one budget: mean over the seeds of the change of top-1 and of the KL
          divergence, and that on the report images before all layers were refined together
batch     a batch of budgets, pipelined in 4 groups: every item has the bits of the sequential batch
busy      the batch on 2 groups of one rank: the share of the time in which groups solve layers, from when the last group
          begins its first item until the first group ends its last one, beside that of the best cut of the layers into
          consecutive stages by their measured times
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def compress(options, ranks, output, settings, more=()):
    command = ["mpirun", "--oversubscribe", "-n", str(ranks), str(options.bin / "slr_compress"), str(options.config),
               "--fresh", *more,
               *(word for s in [*settings, f"output={output}", *options.set] for word in ("--set", s))]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return json.loads((output / "report.json").read_text())


def schedule(kind, groups):
    return [f"pipeline.schedule={kind}", f"pipeline.groups={groups}"]


def batch_of(options):
    return "batch=[" + ", ".join(f"{{budget: {{parameters: {f}}}}}" for f in options.factors.split(",")) + "]"


def accuracy(options):
    rows = {"sequential": [], "parallel": []}
    for seed in options.seeds.split(","):
        for kind, groups in (("sequential", 1), ("parallel", options.groups or 2)):
            report = compress(options, options.ranks, options.out / f"{kind}-seed-{seed}", [
                f"budget.parameters={options.factor}", f"calibration.seed={seed}", *schedule(kind, groups)])
            judged, refine = report["accuracy"], report["refine"]
            row = {"points": 100 * (judged["top1_after"] - judged["top1_before"]), "kl": judged["kl"],
                   "unrefined": refine["kl_before"] if refine else judged["kl"]}
            rows[kind].append(row)
            print(f"{kind:10} seed {seed}  {report['model']['parameter_ratio']:.2f}x  {row['points']:+.2f} points  "
                  f"KL {row['kl']:.5f}  unrefined {row['unrefined']:.5f}", flush=True)
    mean = {kind: {key: statistics.mean(row[key] for row in rows[kind]) for key in rows[kind][0]} for kind in rows}
    here, there = mean["parallel"], mean["sequential"]
    print(f"mean: parallel {here['points']:+.2f} points, sequential {there['points']:+.2f}: "
          f"{there['points'] - here['points']:.2f} lost (at most 0.5); KL {here['kl']:.5f} / {there['kl']:.5f} = "
          f"{here['kl'] / there['kl']:.2f} (at most 1.25), unrefined {here['unrefined'] / there['unrefined']:.2f}")
    if there["points"] - here["points"] > 0.5 or here["kl"] > 1.25 * there["kl"]:
        sys.exit("parallel loses too much")


def batch(options):
    compress(options, options.ranks, options.out / "sequential", [batch_of(options)])
    compress(options, options.ranks, options.out / "pipelined",
             [batch_of(options), *schedule("pipelined", options.groups or 4)])
    different = 0
    for i, factor in enumerate(options.factors.split(","), 1):
        here, there = (options.out / kind / f"batch-{i}" for kind in ("pipelined", "sequential"))
        same = (here / "compressed.onnx").read_bytes() == (there / "compressed.onnx").read_bytes()
        different += not same
        kl = [json.loads((folder / "report.json").read_text())["accuracy"]["kl"] for folder in (here, there)]
        print(f"{factor:>4}x  {'the same bits' if same else 'OTHER BITS'}  KL {kl[0]:.5f} / {kl[1]:.5f}")
    if different:
        sys.exit(f"{different} items differ from the sequential ones")


def best_cut(seconds, stages):
    """The longest stage of the best cut of a sequence into consecutive stages."""
    least = [0.0] + [float("inf")] * len(seconds)
    for _ in range(stages):
        least = [min(max(least[i], sum(seconds[i:j])) for i in range(j + 1)) for j in range(len(seconds) + 1)]
    return least[-1]


def busy(options):
    groups = 2
    options.out.mkdir(parents=True, exist_ok=True)
    trace = options.out / "trace.json"
    report = compress(options, groups, options.out / "busy", [batch_of(options), *schedule("pipelined", groups)],
                      ["--trace", str(trace)])
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    items = [e for e in events if e["cat"] == "stage" and e["name"].startswith("item ")]
    layers = [e for e in events if e["cat"] == "layer" and
              any(i["pid"] == e["pid"] and i["ts"] <= e["ts"] < i["ts"] + i["dur"] for i in items)]
    first_layer = {g: min(e["ts"] for e in layers if e["pid"] == g) for g in range(groups)}
    last_end = {g: max(e["ts"] + e["dur"] for e in layers if e["pid"] == g) for g in range(groups)}
    begin, end = max(first_layer.values()), min(last_end.values())
    working = sum(max(0, min(end, e["ts"] + e["dur"]) - max(begin, e["ts"])) for e in layers)
    share = working / ((end - begin) * groups)
    turns = report["pipeline"]["turns"]
    names = list(dict.fromkeys(t["layer"] for t in turns))
    order = [n for n in json.loads((options.out / "busy/batch-1/report.json").read_text())["layers"]]
    names = [layer["name"] for layer in order if layer["name"] in names]
    mean = [statistics.mean(t["seconds"] for t in turns if t["layer"] == name) for name in names]
    best = sum(mean) / (groups * best_cut(mean, groups))
    for name, seconds in zip(names, mean):
        taken = [t["group"] for t in turns if t["layer"] == name]
        predicted = statistics.mean(t["predicted_seconds"] for t in turns if t["layer"] == name)
        print(f"{name:10} {seconds:7.2f} s (predicted {predicted:6.2f}), of group {sorted(set(taken))}")
    print(f"busy between fill and drain {share:.3f}; the best cut of the measured times allows {best:.3f}: "
          f"{share / best:.2f} of it (at least 0.9)")
    if share < 0.9 * best:
        sys.exit("the groups wait too long")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = {"accuracy": accuracy, "batch": batch, "busy": busy}
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--bin", default=ROOT / "build/bin", type=pathlib.Path)
    parser.add_argument("--config", default=ROOT / "configs/fashion_mnist.yaml", type=pathlib.Path)
    parser.add_argument("--ranks", default=4, type=int)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--factor", default="4.9")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--factors", default="2,2.5,3,3.5,4,4.9,6,8")
    parser.add_argument("--out", default=ROOT / "run/schedules", type=pathlib.Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    options.out = options.out.resolve() / options.mode
    modes[options.mode](options)


if __name__ == "__main__":
    main()
