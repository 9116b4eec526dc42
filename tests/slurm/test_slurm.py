#!/usr/bin/python3
"""The scripts of slurm/ on a real Slurm: four virtual nodes on this host.

    tests/slurm/test_slurm.py BIN_DIR WORK_DIR [CASE...]

Needs root and the packages of tests/slurm/packages.txt; says so and ends with 1 where they are not there. Checks that

- single       4 nodes x 2 ranks by srun give the bytes that they give without Slurm;
- mpirun       so does mpirun inside a job of two nodes;
- array        an array of three budgets gives three results;
- singletons   ranks started without PMIx are refused with 64 and one line;
- requeue      a job that the time limit stops again and again is queued again, and ends with the bytes of the job that
               was never stopped; with fewer restarts allowed than it needs it ends with 75;
- mpirun_requeue  likewise under mpirun;
- killed       when all processes of a node die the job fails and says so, and the next one goes on to the same bytes.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import Cluster, missing  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["calibration.images=160", "calibration.positions=4", "method.iterations=7", "data.validation.count=200",
         "data.calibration.count=160", "budget.parameters=4.9"]
# Long enough to be stopped several times.
SLOW = ["calibration.images=400", "data.calibration.count=1000", "data.validation.count=200", "budget.parameters=4.9",
        "refine.images=800", "refine.epochs=2"]
RESULTS = ("compressed.onnx", "factors.h5")


class Failure(Exception):
    pass


def expect(condition, sentence):
    if not condition:
        raise Failure(sentence)


def settings(words, output):
    return [word for setting in [*words, f"output={output}"] for word in ("--set", setting)]


class SlurmTest:
    def __init__(self, cluster, binaries, work):
        self.cluster, self.binaries, self.work = cluster, binaries, work

    def submit(self, script, options, words, output, **variables):
        """A script of slurm/ with the example's configuration; its log goes to WORK/<output>.log."""
        log = self.work / f"{output}.log"
        return self.cluster.submit(*options, f"--output={log}", ROOT / "slurm" / script, ROOT / "configs/fashion_mnist.yaml",
                                   *settings(words, self.work / output), cwd=ROOT, SLR_BIN=str(self.binaries), **variables)

    def log(self, output):
        return (self.work / f"{output}.log").read_text(errors="replace")

    def expect_state(self, record, state, output):
        expect(record["JobState"] == state, f"job {record['JobId']} ended as {record['JobState']} with exit code "
               f"{record['ExitCode']}, expected {state}; its log ends:\n{self.log(output)[-3000:]}")

    def reference(self, name, words, ranks):
        """The same job on as many ranks, without Slurm: large layers have the same bits on the same number only."""
        output = self.work / f"{name}-{ranks}"
        if not (output / "manifest.json").exists():
            subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), self.binaries / "slr_compress",
                            ROOT / "configs/fashion_mnist.yaml", *settings(words, output)],
                           check=True, capture_output=True, env=self.cluster.environment)
        return output

    def expect_same(self, output, reference):
        for name in RESULTS:
            expect((self.work / output / name).read_bytes() == (reference / name).read_bytes(),
                   f"{output}/{name} has other bytes than {reference}/{name}")

    def single(self):
        job = self.submit("single.sbatch", ["--nodes=4", "--ntasks-per-node=2", "--time=10"], QUICK, "single")
        self.expect_state(self.cluster.finish(job, 900)[0], "COMPLETED", "single")
        manifest = json.loads((self.work / "single/manifest.json").read_text())
        expect(manifest["environment"]["ranks"] == 8, f"the job had {manifest['environment']['ranks']} ranks, not 8")
        self.expect_same("single", self.reference("quick", QUICK, 8))

    def mpirun(self):
        job = self.submit("mpirun.sbatch", ["--nodes=2", "--ntasks-per-node=2", "--time=10"], QUICK, "mpirun")
        self.expect_state(self.cluster.finish(job, 900)[0], "COMPLETED", "mpirun")
        manifest = json.loads((self.work / "mpirun/manifest.json").read_text())
        expect(manifest["environment"]["ranks"] == 4, f"the job had {manifest['environment']['ranks']} ranks, not 4")
        self.expect_same("mpirun", self.reference("quick", QUICK, 4))

    def array(self):
        log = self.work / "array-%a.log"
        words = [word for setting in QUICK[:-1] for word in ("--set", setting)]
        job = self.cluster.submit("--array=0-2", "--nodes=2", "--ntasks-per-node=2", "--time=10", f"--output={log}",
                                  ROOT / "slurm/array_budgets.sbatch", ROOT / "configs/fashion_mnist.yaml", *words, cwd=ROOT,
                                  SLR_BIN=str(self.binaries), SLR_BUDGETS="2 3 4.9", SLR_OUTPUT=str(self.work / "array"))
        for record in self.cluster.finish(job, 1200):
            self.expect_state(record, "COMPLETED", f"array-{record.get('ArrayTaskId', '0')}")
        sizes = []
        for budget in ("2", "3", "4.9"):
            model = json.loads((self.work / f"array/parameters-{budget}/report.json").read_text())["model"]
            expect(model["parameters_after"] * float(budget) <= model["parameters_before"], f"budget {budget} is exceeded")
            sizes.append(model["parameters_after"])
        expect(sizes == sorted(sizes, reverse=True), f"larger factors do not give smaller networks: {sizes}")
        self.expect_same("array/parameters-4.9", self.reference("quick", QUICK, 4))

    def singletons(self):
        script = self.work / "singletons.sbatch"
        script.write_text("#!/bin/bash\n\"$SLR_BIN/slr_compress\" \"$1\" --print-config >/dev/null || exit 1 # alone: no mistake\n"
                          "srun --mpi=none \"$SLR_BIN/slr_compress\" \"$@\"\n")
        job = self.cluster.submit("--nodes=2", "--ntasks-per-node=2", "--time=10", f"--output={self.work}/singletons.log",
                                  script, ROOT / "configs/fashion_mnist.yaml", *settings(QUICK, self.work / "singletons"),
                                  cwd=ROOT, SLR_BIN=str(self.binaries))
        record = self.cluster.finish(job, 120)[0]
        self.expect_state(record, "FAILED", "singletons")
        expect(record["ExitCode"] == "64:0", f"four singletons end with {record['ExitCode']}")
        lines = [line for line in self.log("singletons").splitlines() if line.startswith("slr_")]
        expect(len(lines) == 1 and "started 4 processes" in lines[0], f"four singletons say: {lines}")
        expect(not (self.work / "singletons").exists(), "four singletons began the job")

    def requeue(self):
        self.requeued("requeue.sbatch", ["--signal=USR1@30"], "requeue")
        options = ["--nodes=4", "--ntasks-per-node=1", "--time=1", "--signal=USR1@30"]
        job = self.submit("requeue.sbatch", options, SLOW, "bounded", SLR_MAX_RESTARTS="0")
        record = self.cluster.finish(job, 300)[0]
        self.expect_state(record, "FAILED", "bounded")
        expect(record["ExitCode"] == "75:0" and record["Restarts"] == "0",
               f"a job that may not be queued again ended with {record['ExitCode']} after {record['Restarts']} restarts")

    def mpirun_requeue(self):
        self.requeued("mpirun_requeue.sbatch", ["--signal=B:USR1@30"], "mpirun_requeue")

    def requeued(self, script, options, output):
        """The smallest time limit is a minute: the signal that comes 30 s before its end leaves 30 s for each start."""
        options = ["--nodes=4", "--ntasks-per-node=1", "--time=1", *options]
        job = self.submit(script, options, SLOW, output, SLR_MAX_RESTARTS="40")
        record = self.cluster.finish(job, 3600)[0]
        self.expect_state(record, "COMPLETED", output)
        expect(int(record["Restarts"]) >= 1, "the job was long, but was never queued again")
        self.expect_same(output, self.reference("slow", SLOW, 4))

    def processes_of(self, job, node):
        """The ranks of a job on one node."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                name = (folder / "comm").read_text().strip()
            except OSError:  # it has ended, or is the kernel's
                continue
            if name == "slr_compress" and f"SLURM_JOB_ID={job}".encode() in environment and \
                    f"SLURM_NODEID={node}".encode() in environment:
                found.append(int(folder.name))
        return found

    def killed(self):
        options = ["--nodes=4", "--ntasks-per-node=1", "--time=20"]
        job = self.submit("single.sbatch", options, SLOW, "killed")
        self.cluster.wait((self.work / "killed/curves.json").exists, 600, "curves of the job that is to be killed")
        time.sleep(3)
        victims = self.processes_of(job, 2)
        expect(victims, "no rank was found on the third node")
        for process in victims:
            os.kill(process, signal.SIGKILL)
        record = self.cluster.finish(job, 120)[0]
        self.expect_state(record, "FAILED", "killed")
        expect(record["ExitCode"] != "0:0", "a job with a killed rank ends with 0")
        expect("killed" in self.log("killed").lower(), f"the log does not say what happened:\n{self.log('killed')[-2000:]}")
        expect(not (self.work / "killed/manifest.json").exists(), "a killed job counts as finished")
        job = self.submit("single.sbatch", options, SLOW, "killed")
        self.expect_state(self.cluster.finish(job, 1200)[0], "COMPLETED", "killed")
        self.expect_same("killed", self.reference("slow", SLOW, 4))


CASES = ("single", "mpirun", "array", "singletons", "killed", "requeue", "mpirun_requeue")


def main():
    binaries, work = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    chosen = sys.argv[3:] or CASES
    reason = missing()
    if reason:
        sys.exit(f"tests/slurm: {reason}")
    work.mkdir(parents=True, exist_ok=True)
    failures = []
    with Cluster(work / "cluster") as cluster:
        test = SlurmTest(cluster, binaries, work)
        for name in chosen:
            begin = time.monotonic()
            try:
                getattr(test, name)()
                print(f"{name}: as expected, {time.monotonic() - begin:.0f} s", flush=True)
            except (Failure, RuntimeError) as failure:
                failures.append(f"{name}: {failure}")
                print(failures[-1], flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
