#!/usr/bin/env python3
"""The three schedules on a small job: the same results for every number of ranks and groups, and clean ends.

    tests/jobs/schedules.py BIN_DIR WORK_DIR parallel|pipelined|branches|delays|ends [CASES]

CASES: only so many of them, and batches of two items (all)
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
SMALL = ["calibration.images=100", "data.calibration.count=100", "calibration.positions=3", "method.iterations=4",
         "refine.epochs=0", "data.validation.count=50", "budget.spread=uniform"]
FACTORS = [3, 4.9, 6]
BATCH = "batch=[" + ", ".join(f"{{budget: {{parameters: {f}}}}}" for f in FACTORS) + ", {calibration: {seed: 2}}]"


def command(binaries, ranks, output, settings):
    return ["mpirun", "--oversubscribe", "-n", str(ranks), str(binaries / "slr_compress"),
            str(ROOT / "configs/fashion_mnist.yaml"),
            *[word for s in SMALL + [f"output={output}"] + settings for word in ("--set", s)]]


def run(binaries, ranks, output, settings, code=0, environment=None, more=()):
    done = subprocess.run([*command(binaries, ranks, output, settings), *more],
                          env=dict(ENVIRONMENT, **(environment or {})),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    if done.returncode != code:
        sys.exit(f"{output.name} ended with {done.returncode} instead of {code}:\n{done.stdout[-3000:]}")
    return done.stdout


def schedule(kind, groups):
    return [f"pipeline.schedule={kind}", f"pipeline.groups={groups}"]


def bits(folder):
    return (folder / "compressed.onnx").read_bytes()


def parallel(binaries, work, cases):
    """The same bits for every number of ranks and groups, the budget met, and about the sequential loss."""
    run(binaries, 1, work / "sequential", [])
    reference = None
    for ranks, groups in ((3, 2), (2, 2), (1, 1), (4, 1), (4, 4), (6, 4))[:cases]:
        output = work / f"parallel-{ranks}-{groups}"
        run(binaries, ranks, output, schedule("parallel", groups))
        if reference and bits(output) != bits(reference):
            sys.exit(f"{output.name} has other bits than {reference.name}")
        reference = reference or output
    here, there = [json.loads((work / n / "report.json").read_text()) for n in (reference.name, "sequential")]
    if here["model"]["parameter_ratio"] < 4.9 or here["accuracy"]["kl"] > 2 * there["accuracy"]["kl"]:
        sys.exit(f"parallel: {here['model']} {here['accuracy']}, sequential: {there['accuracy']}")
    stages = {turn["stage"] for turn in here["schedule"]["turns"]}
    if stages != {"structures", "solve"}:
        sys.exit(f"the report's turns are of {stages}")


def pipelined(binaries, work, cases):
    """Every item has the bits of the sequential job, under delays and for groups of all sizes."""
    items = 2 if cases else len(FACTORS) + 1
    batch = "batch=[{budget: {parameters: 3}}, {calibration: {seed: 2}}]" if cases else BATCH
    run(binaries, 2, work / "sequential", [batch])
    for ranks, groups, seed in ((4, 3, 3), (1, 1, 0), (2, 2, 1), (3, 3, 2), (6, 4, 4))[:cases]:
        output = work / f"pipelined-{ranks}-{groups}"
        run(binaries, ranks, output, [batch] + schedule("pipelined", groups),
            environment={"SLR_TEST_DELAYS": str(seed)})
        for i in range(1, items + 1):
            name = f"batch-{i}"
            if bits(output / name) != bits(work / "sequential" / name):
                sys.exit(f"{output.name}/{name} has other bits than the sequential one")
        if json.loads((output / "report.json").read_text())["pipeline"]["groups"].__len__() != groups:
            sys.exit(f"{output.name} had other groups")


def branches(binaries, work, cases):
    """Layers of branches are refitted by different groups at the same time, with the bits of one group."""
    model = work / "branches.onnx"
    subprocess.run(["/usr/bin/python3", pathlib.Path(__file__).parent / "write_branches.py", model], check=True)
    settings = [f"model={model}", "budget.parameters=2", "calibration.images=400", "data.calibration.count=400"]
    run(binaries, 1, work / "one", settings + schedule("parallel", 1))
    trace = work / "trace.json"
    run(binaries, 2, work / "two", settings + schedule("parallel", 2), more=["--trace", str(trace)])
    if bits(work / "one") != bits(work / "two"):
        sys.exit("the branches have other bits on two groups")
    turns = json.loads((work / "two/report.json").read_text())["schedule"]["turns"]
    group = {t["layer"]: t["group"] for t in turns if t["stage"] == "solve"}
    side_by_side = ("left", "middle")
    if {group[layer] for layer in side_by_side} != {1, 2} or group["stem"] is not None:
        sys.exit(f"the branches are refitted by {group}")
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    begin = min(e["ts"] for e in events if e["cat"] == "stage" and e["name"] == "solve")
    spans = [(e["ts"], e["ts"] + e["dur"], e["pid"]) for e in events if e["cat"] == "layer" and e["ts"] >= begin
             and e["name"].split(",")[0] in side_by_side]
    if not any(a[2] != b[2] and a[0] < b[1] and b[0] < a[1] for a in spans for b in spans):
        sys.exit(f"no two branches were refitted at the same time: {spans}")


def delays(binaries, work, cases):
    """Random waits at the boundaries of stages, one seed after the other, never end in a deadlock or in other bits."""
    settings = ["batch=[{budget: {parameters: 3}}, {budget: {parameters: 6}}, {budget: {parameters: 4}}]",
                "calibration.images=40", "data.calibration.count=40", "method.iterations=1", "data.validation.count=20"]
    run(binaries, 1, work / "sequential", settings)
    for seed in range(1, (cases or 200) + 1):
        output = work / "delayed"
        shutil.rmtree(output, ignore_errors=True)
        ranks, groups = ((3, 3), (4, 3), (4, 4), (2, 2))[seed % 4]
        run(binaries, ranks, output, settings + schedule("pipelined", groups),
            environment={"SLR_TEST_DELAYS": str(seed)})
        for name in ("batch-1", "batch-2", "batch-3"):
            if bits(output / name) != bits(work / "sequential" / name):
                sys.exit(f"seed {seed}: {name} has other bits than the sequential one")
        print(f"seed {seed}", flush=True)


def damage(folder, layer):
    """Flips bytes in the middle of every shard: checksums notice."""
    for shard in folder.glob("features/shard-*.h5"):
        data = bytearray(shard.read_bytes())
        for at in range(len(data) // 2, len(data) // 2 + 4096):
            data[at] ^= 0x55
        shard.write_bytes(bytes(data))


def ends(binaries, work, cases):
    """A failure of one group is one sentence and its code; a stopped job goes on with the same bits."""
    for kind, more in (("parallel", []), ("pipelined", [BATCH]))[:cases]:
        settings = more + schedule(kind, 2)
        reference = work / f"{kind}-whole"
        run(binaries, 2, reference, settings)
        output = work / f"{kind}-stopped"
        job = subprocess.Popen(command(binaries, 2, output, settings), env=ENVIRONMENT, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
        for line in job.stdout:
            if line.strip() in ("structures", "solve"):
                break
        time.sleep(0.3)
        job.send_signal(signal.SIGUSR1)
        text = job.stdout.read()
        code = job.wait(300)
        if code not in (0, 75) or (code == 75 and text.count("slr_compress: stopped") != 1):
            sys.exit(f"{kind}: stopped with {code}: {text}")
        run(binaries, 3, output, settings)  # on other ranks
        names = ["."] if kind == "parallel" else [f"batch-{i}" for i in range(1, len(FACTORS) + 2)]
        for name in names:
            if bits(output / name) != bits(reference / name):
                sys.exit(f"{kind}: {name} has other bits after a stop")
    broken = work / "broken"
    shutil.copytree(work / "parallel-whole", broken)
    for name in ("manifest.json", "report.json", "compressed.onnx", "factors.h5"):
        (broken / name).unlink()
    job = json.loads((broken / ".job.json").read_text())
    job["configuration"]["output"] = str(broken)
    damage(broken, "conv")
    text = run(binaries, 2, broken, schedule("parallel", 2), code=65)
    sentences = [line for line in text.splitlines() if line.startswith("slr_compress: ")]
    if len(sentences) != 1:
        sys.exit(f"damaged shards: {sentences}")
    for settings, word in ((schedule("parallel", 3), "pipeline.groups"), (schedule("sequential", 2), "pipeline.groups"),
                           (schedule("pipelined", 2), "pipeline.schedule"), (["batch=[{output: x}]"], "output")):
        text = run(binaries, 2, work / "refused", settings, code=78)
        if word not in text:
            sys.exit(f"{settings} was refused without naming {word}: {text}")
        shutil.rmtree(work / "refused", ignore_errors=True)


def main():
    binaries, work, mode = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    cases = int(sys.argv[4]) if len(sys.argv) > 4 else None
    modes = {"parallel": parallel, "pipelined": pipelined, "branches": branches, "delays": delays, "ends": ends}
    modes[mode](binaries, work, cases)
    print(f"{mode}: as it should be")


if __name__ == "__main__":
    main()
