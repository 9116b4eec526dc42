#!/usr/bin/env python3
"""The same small job on several numbers of ranks: the same discrete choices, the same errors, the same files.

    tests/jobs/same_choices.py BIN_DIR WORK_DIR KIND [RANKS...]

KIND: constrained or relaxed; column or filter: constrained with that grouping.

Runs configs/fashion_mnist.yaml with few images and an iteration limit that ends every solve early, from a folder of its
own, then compares report.json, compressed.onnx and factors.h5 over the numbers of ranks; repeats one run with
--reproduce; asks slr_inspect --verify. What is decided (numerical ranks, kept groups) must be equal, held-out errors
must agree to 1e-3; at this size all results are documented to have the same bits, so the files must be equal as well.
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def run(ranks, *command, expected=0):
    done = subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), *map(str, command)], env=ENVIRONMENT,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    if done.returncode != expected:
        sys.exit(f"{' '.join(map(str, command))} on {ranks} ranks ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def counted(file):
    """What an independent reader counts; none where it is not installed."""
    done = subprocess.run([str(pathlib.Path(__file__).parent / "count_onnx.py"), str(file)], stdout=subprocess.PIPE,
                          text=True, timeout=240)
    if done.returncode not in (0, 77):
        sys.exit(f"count_onnx.py ended with {done.returncode} for {file}")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def main():
    binaries, work, kind = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3]
    kind, grouping = ("constrained", kind) if kind in ("column", "filter") else (kind, "channel")
    all_ranks = [int(n) for n in sys.argv[4:]] or [1, 2, 3, 4, 6]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    settings = ["calibration.images=160", "calibration.positions=4", "method.iterations=7", "data.validation.count=200",
                "data.calibration.count=160", "budget.parameters=4.9", "budget.corrections=2", f"method.kind={kind}",
                f"method.grouping={grouping}",
                f"refine.epochs={2 if kind == 'constrained' else 0}", # the refinement does not know the kind
                "refine.images=100", "refine.mixup=true"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    failures, first = [], None
    for ranks in all_ranks:
        output = work / f"ranks-{ranks}"
        run(ranks, binaries / "slr_compress", ROOT / "configs/fashion_mnist.yaml", *overrides, "--set", f"output={output}")
        report = json.loads((output / "report.json").read_text())
        now = {"report": report, "hashes": {name: digest(output / name) for name in ("compressed.onnx", "factors.h5")}}
        if report["model"]["parameters_after"] > report["model"]["limits"]["parameters"]:
            failures.append(f"{ranks} ranks: the budget is exceeded")
        if kind == "constrained" and report["refine"]["images"] != 100:
            failures.append(f"{ranks} ranks: {report['refine']['images']} images were refined on instead of 100")
        for one in report.get("corrections", []):
            if one["accepted"] != (one["kl_after"] < one["kl_before"]):
                failures.append(f"{ranks} ranks: a correction was judged wrongly: {one}")
        if first is None:
            first = now
            continue
        for a, b in zip(first["report"]["layers"], report["layers"]):
            if (a["rank"], a["kept_groups"]) != (b["rank"], b["kept_groups"]):
                failures.append(f"{a['name']} on {ranks} ranks: rank {b['rank']}, groups {b['kept_groups']} instead of "
                                f"{a['rank']}, {a['kept_groups']}")
            if a["error_heldout"] is not None and abs(a["error_heldout"] - b["error_heldout"]) > 1e-3 * a["error_heldout"]:
                failures.append(f"{a['name']} on {ranks} ranks: held-out error {b['error_heldout']} instead of "
                                f"{a['error_heldout']}")
        for name, value in now["hashes"].items():
            if value != first["hashes"][name]:
                failures.append(f"{name} on {ranks} ranks has other bytes than on {all_ranks[0]}")
        if report["accuracy"]["kl"] != first["report"]["accuracy"]["kl"]:
            failures.append(f"the KL divergence on {ranks} ranks has other bits")

    last = work / f"ranks-{all_ranks[0]}"
    for what, count in counted(last / "compressed.onnx").items():
        if first["report"]["model"][f"{what}_after"] != count:
            failures.append(f"{what}: {first['report']['model'][f'{what}_after']} in the report, {count} in the file")
    run(2, binaries / "slr_compress", "--reproduce", last / "manifest.json", "--set", f"output={work / 'again'}")
    run(1, binaries / "slr_inspect", last, "--verify")
    again = run(1, binaries / "slr_compress", ROOT / "configs/fashion_mnist.yaml", *overrides, "--set", f"output={last}")
    if "parameters" not in again:
        failures.append("a finished run does not print its report again")
    run(1, binaries / "slr_compress", ROOT / "configs/fashion_mnist.yaml", *overrides, "--set", f"output={last}",
        "--set", "calibration.seed=2", expected=78)
    if failures:
        sys.exit("\n".join(failures))
    print(f"{len(all_ranks)} numbers of ranks: the same choices, errors and files")


if __name__ == "__main__":
    main()
