#!/usr/bin/env python3
"""A job that is stopped or killed, started again until it is done, and held against one that ran through.

    tests/jobs/survive.py BIN_DIR WORK_DIR signals KIND           SIGUSR1 as each stage begins, and within it
    tests/jobs/survive.py BIN_DIR WORK_DIR kill KIND COUNT [SEED]  kill -9 of a rank at a random moment, COUNT jobs
    tests/jobs/survive.py BIN_DIR WORK_DIR checkpoints KIND       other ranks, damage, another job's, --max-hours
    tests/jobs/survive.py BIN_DIR WORK_DIR neighbours KIND        a second job in the folder, a rank that stands still
    tests/jobs/survive.py BIN_DIR WORK_DIR disk KIND              a full and a read-only disk (root only: mounts a tmpfs)
KIND: constrained, relaxed or lmvm (constrained with the other optimiser of the refinement)

compressed.onnx and factors.h5 must have the same bytes, report.json the same values but times and memory.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
STOPPED, RANKS = 75, 2
STAGES = {"constrained": ["pack", "calibrate", "curves", "solve", "correct", "refine", "evaluate"],
          "lmvm": ["refine"],
          "relaxed": ["calibrate", "budget", "solve", "refine", "evaluate"]}
SETTINGS = ["calibration.images=160", "calibration.positions=4", "method.iterations=7", "data.validation.count=200",
            "data.calibration.count=160", "budget.parameters=4.9", "budget.corrections=1", "refine.epochs=3", "checkpoint.every=0.2"]


class Job:
    """slr_compress on some ranks; its words on standard error, and when they came."""

    def __init__(self, binaries, kind, output, *more, ranks=RANKS):
        settings = SETTINGS + [f"output={output}", f"method.kind={'relaxed' if kind == 'relaxed' else 'constrained'}"]
        if kind == "lmvm":
            settings.append("refine.optimizer=lmvm")
        command = ["mpirun", "--oversubscribe", "-n", str(ranks), str(binaries / "slr_compress"),
                   str(ROOT / "configs/fashion_mnist.yaml"), *[w for s in settings for w in ("--set", s)], *more]
        self.begin = time.monotonic()
        self.lines, self.arrived = [], threading.Condition()
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.arrived:
                self.lines.append(line.rstrip("\n"))
                self.arrived.notify_all()

    def wait_for_stage(self, stage, limit=600):
        with self.arrived:
            return self.arrived.wait_for(lambda: stage in self.lines or self.process.poll() is not None, limit) \
                and stage in self.lines

    def ranks(self):
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)
                if entry.name.isdigit() and int(fields[1].split()[1]) == self.process.pid and "slr_comp" in fields[0]:
                    found.append(int(entry.name))
            except (OSError, IndexError, ValueError):
                pass
        return found

    def end(self, limit=600):
        code = self.process.wait(limit)
        self.reader.join(10)
        self.seconds = time.monotonic() - self.begin
        return code

    def text(self):
        return "\n".join(self.lines[-25:])


def without_times(report):
    report.pop("run")
    report.pop("latency", None)
    report.pop("schedule", None)
    for part in report["layers"] + [report.get("refine") or {}]:
        part.pop("seconds", None)
    return report


class Check:
    def __init__(self, binaries, work, kind):
        self.binaries, self.work, self.kind = binaries, work, kind
        self.failures = []
        self.reference = work / "reference"
        job = Job(binaries, kind, self.reference)
        self.expect(job, 0, "the run that is not stopped")
        self.seconds = job.seconds

    def expect(self, job, code, what):
        got = job.end()
        if got != code:
            sys.exit(f"{what} ended with {got} instead of {code}:\n{job.text()}")

    def compare(self, output, what):
        for name in ("compressed.onnx", "factors.h5"):
            if (output / name).read_bytes() != (self.reference / name).read_bytes():
                self.failures.append(f"{what}: {name} has other bytes")
        reports = [without_times(json.loads((folder / "report.json").read_text())) for folder in (output, self.reference)]
        if reports[0] != reports[1]:
            keys = [key for key in reports[1] if reports[0].get(key) != reports[1][key]]
            self.failures.append(f"{what}: report.json differs in {', '.join(keys)}")
        litter = [p.name for p in output.rglob("*") if p.name.endswith(".part") or p.name.startswith("checkpoint")]
        if litter:
            self.failures.append(f"{what}: left behind {litter}")

    def finish(self, output, what, ranks=RANKS):
        job = Job(self.binaries, self.kind, output, ranks=ranks)
        self.expect(job, 0, what)
        self.compare(output, what)
        shutil.rmtree(output)
        return job

    def signals(self):
        for stage in STAGES[self.kind]:
            for delay in (0, 0.2):
                what = f"SIGUSR1 {delay} s into {stage}"
                output = self.work / f"{stage}-{delay}"
                job = Job(self.binaries, self.kind, output)
                if not job.wait_for_stage(stage):
                    sys.exit(f"{what}: the stage never came:\n{job.text()}")
                time.sleep(delay)
                job.process.send_signal(signal.SIGUSR1)
                code = job.end()
                if code == 0 and delay > 0:  # it was quicker
                    self.compare(output, what)
                    shutil.rmtree(output)
                    continue
                if code != STOPPED:
                    sys.exit(f"{what}: ended with {code} instead of {STOPPED}:\n{job.text()}")
                sentences = [line for line in job.lines if line.startswith("slr_compress: ")]
                if len(sentences) != 1:
                    self.failures.append(f"{what}: said {sentences} instead of one sentence")
                self.finish(output, what)

    def stopped(self, name, stage="solve"):
        """A folder of a job that was stopped there."""
        output = self.work / name
        job = Job(self.binaries, self.kind, output)
        if not job.wait_for_stage(stage):
            sys.exit(f"{name}: the stage {stage} never came:\n{job.text()}")
        job.process.send_signal(signal.SIGUSR1)
        self.expect(job, STOPPED, name)
        return output

    def checkpoints(self):
        self.finish(self.stopped("other-ranks"), "2 ranks, then 3", ranks=3)
        output = self.stopped("torn")
        shutil.copy(output / "checkpoint.h5", output / "checkpoint.previous.h5")
        with open(output / "checkpoint.h5", "r+b") as file:
            file.truncate(1000)
        job = self.finish(output, "a torn checkpoint")
        if not any("no usable checkpoint" in line or "truncated" in line or "damaged" in line for line in job.lines):
            self.failures.append("a torn checkpoint: nothing was said")
        output = self.stopped("both-torn")
        for name in ("checkpoint.h5", "checkpoint.previous.h5"):
            (output / name).write_bytes(b"no HDF5")
        self.finish(output, "two torn checkpoints")
        output, other = self.stopped("another"), self.work / "other"
        job = Job(self.binaries, self.kind, other, "--set", "calibration.seed=2")
        job.wait_for_stage("solve")
        job.process.send_signal(signal.SIGUSR1)
        self.expect(job, STOPPED, "another seed")
        shutil.copy(other / "checkpoint.h5", output / "checkpoint.h5")
        job = Job(self.binaries, self.kind, output)
        self.expect(job, 78, "another job's checkpoint")
        if "differs in calibration.seed" not in job.text():
            self.failures.append(f"another job's checkpoint: {job.text()}")
        output = self.work / "hours"
        job = Job(self.binaries, self.kind, output, "--max-hours", "0.0003")
        self.expect(job, STOPPED, "--max-hours")
        self.finish(output, "--max-hours")

    def neighbours(self):
        output = self.work / "shared"
        job = Job(self.binaries, self.kind, output)
        job.wait_for_stage("calibrate")
        for rank in job.ranks():
            os.kill(rank, signal.SIGSTOP)
        second = Job(self.binaries, self.kind, output)
        self.expect(second, 78, "a second job")
        if "is in use by process" not in second.text():
            self.failures.append(f"a second job: {second.text()}")
        for rank in job.ranks():
            os.kill(rank, signal.SIGCONT)
        self.expect(job, 0, "the first job")
        self.compare(output, "the first job")
        output = self.work / "still"
        job = Job(self.binaries, self.kind, output, "--set", "watchdog.seconds=3")
        job.wait_for_stage("curves" if self.kind != "relaxed" else "budget")
        time.sleep(0.5)
        os.kill(max(job.ranks()), signal.SIGSTOP)
        self.expect(job, 74, "a rank that stands still")
        if not any("for rank 1, which did not arrive" in line or "for rank 0, which did not" in line
                   for line in job.lines):
            self.failures.append(f"a rank that stands still: {job.text()}")
        self.finish(output, "a rank that stood still")

    def disk(self):
        disk = self.work / "disk"
        disk.mkdir()

        def mount(*options):
            return subprocess.run(["mount", *options], stderr=subprocess.DEVNULL).returncode == 0

        if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)):
            print("skipped: a full disk needs root and mount")
            sys.exit(77)
        try:
            output = disk / "run"
            codes = []
            for kilobytes in (64, 120, 200, 700, 1500, 3000, 5000, 8000, 12000):
                mount("-o", f"remount,size={kilobytes}k", str(disk))
                job = Job(self.binaries, self.kind, output)
                codes.append(job.end())
                sentences = [line for line in job.lines if line.startswith("slr_compress: ")]
                if codes[-1] not in (0, 74) or (codes[-1] == 74 and len(sentences) != 1):
                    self.failures.append(f"{kilobytes} kB: ended with {codes[-1]}: {job.text()}")
                if codes[-1] == 0:
                    break
            if 74 not in codes:
                self.failures.append(f"the disk was never full: {codes}")
            mount("-o", "remount,size=100m", str(disk))
            if codes[-1] != 0:
                self.expect(Job(self.binaries, self.kind, output), 0, "more room")
            self.compare(output, "a disk that was full")
            mount("-o", "remount,ro", str(disk))
            job = Job(self.binaries, self.kind, disk / "other")
            self.expect(job, 74, "a read-only folder")
        finally:
            subprocess.run(["umount", str(disk)])

    def kill(self, count, seed):
        chance = random.Random(seed)
        kills = 0
        for trial in range(count):
            output, what = self.work / f"killed-{trial}", f"seed {seed}, job {trial}"
            for attempt in range(12):
                job = Job(self.binaries, self.kind, output)
                moment = chance.uniform(0.3, 1.1 * self.seconds)
                try:
                    job.process.wait(moment)
                except subprocess.TimeoutExpired:
                    ranks = job.ranks()
                    if ranks:
                        os.kill(chance.choice(ranks), signal.SIGKILL)
                        kills += 1
                code = job.end()
                if code == 0:
                    break
                if attempt == 0:
                    what += f", killed after {moment:.2f} s"
                elif attempt > 3:
                    break
            if code != 0:
                self.finish(output, what)
            else:
                self.compare(output, what)
                shutil.rmtree(output)
        print(f"{count} jobs, {kills} kills")


def main():
    binaries, work, mode, kind = (pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3],
                                  sys.argv[4])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    check = Check(binaries, work, kind)
    if mode == "signals":
        check.signals()
    elif mode == "kill":
        check.kill(int(sys.argv[5]), int(sys.argv[6]) if len(sys.argv) > 6 else 1)
    else:
        getattr(check, mode)()
    if check.failures:
        sys.exit("\n".join(check.failures))
    print(f"{mode} {kind}: the same bits as a run that was not stopped ({check.seconds:.1f} s)")


if __name__ == "__main__":
    main()
