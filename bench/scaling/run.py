#!/usr/bin/python3
"""How one layer's solution scales over ranks: what it communicates, what two ranks gain, and 1,024 ranks in SimGrid.

    bench/scaling/run.py [count] [time] [project] [--bin build/bin/bench_scaling] [--out run/scaling]

count    calls and bytes per rank and iteration, counted through MPI's profiling interface at 2 to 64 ranks, beside those
         of the cost model (within 20 %) and the bound 2 (p - 1) / p (n |S| + 2 r (n + k)) * 8 (within 1.5 times)
time     the solve on 1 and 2 ranks, 512 x 4608 with 20,000 samples, and what two independent matrix products gain in
         the same run: at least 0.93 of that; with --trace the timelines of one solve more in trace-1.json, trace-2.json
project  the cost model's calls, replayed in SimGrid on a described cluster, to 1,024 ranks: seconds per iteration,
         efficiency, a plot. Needs smpirun and matplotlib (bench/scaling/packages.txt); without, one line says so

All three if none is named. Writes counts.csv, projection.csv and projection.svg to the folder.

What the projection assumes: 64 nodes of 16 cores, one rank per core; a fat tree of two levels (8 leaf switches of 8
nodes, 8 spines) whose links carry 100 Gb/s with 1 us each; 20 GB/s and 0.5 us within a node; a core does 20 Gflop/s in
single and 10 in double precision whatever its neighbours do; Open MPI's choice of algorithms for the sums; recursive
doubling for allgathers (for long ones Open MPI goes around by neighbours, which takes as many steps as ranks, and a
quarter of an hour to simulate on 1,024), and a scatter and such an allgather for broadcasts (SimGrid 3.32 crashes in the
segmented ones); the ranks fill node after node. The iteration alone, 512 x 4608, rank 115 and 25 of 512 channels kept:
second moments and factors are not in it.
"""
import argparse
import csv
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
ENVIRONMENT.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                   OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1")
# The first has its factor on one rank, the others share it; what a rank holds limits the ranks of one machine.
COUNTED = [({"rows": 256, "cols": 1152, "rank": 48, "groups": 12}, 64),
           ({"rows": 128, "cols": 2304, "rank": 24, "groups": 10}, 64),
           ({"rows": 512, "cols": 4608, "rank": 115, "groups": 0}, 16)]
LAYER = {"rows": 512, "cols": 4608, "rank": 115, "groups": 25}
NODES, CORES = 64, 16
REPLAYED = 6  # iterations that bench_scaling replays
PLATFORM = """<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="cluster" prefix="node-" radical="0-63" suffix="" speed="1Gf" core="16" bw="12.5GBps" lat="1us"
           loopback_bw="20GBps" loopback_lat="0.5us" topology="FAT_TREE" topo_parameters="2;8,8;1,8;1,1"/>
</platform>
"""


def words(layer, **more):
    return [word for key, value in {**layer, **more}.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def count(options):
    rows, worst, farthest = [], 0, 0
    print(f"{'layer':>16} ranks   calls  model      bytes      model  of the bound")
    for layer, most in COUNTED:
        ranks = 2
        while ranks <= most:
            done = subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), options.bin,
                                   *words(layer, mode="count", samples=1024, iterations=8)],
                                  env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True)
            here = list(csv.DictReader(done.stdout.splitlines()))
            rows += [{**layer, **row} for row in here]
            total = {(source, key): sum(float(row[key]) for row in here if row["source"] == source)
                     for source in ("measured", "forecast") for key in ("calls", "bytes")}
            bound = float(next(row["bytes"] for row in here if row["source"] == "bound"))
            share = total["measured", "bytes"] / bound
            print(f"{layer['rows']:>7} x {layer['cols']:<6} {ranks:5} {total['measured', 'calls']:7.0f} "
                  f"{total['forecast', 'calls']:6.0f} {total['measured', 'bytes']:10,.0f} "
                  f"{total['forecast', 'bytes']:10,.0f}  {share:.2f}", flush=True)
            worst = max(worst, share)
            if ranks >= 4:
                farthest = max([farthest] + [abs(total["forecast", key] / total["measured", key] - 1)
                                             for key in ("calls", "bytes")])
            ranks *= 2
    with open(options.out / "counts.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    print(f"at most {worst:.2f} times the bound (limit 1.5); model and measurement differ by at most "
          f"{100 * farthest:.1f} % (limit 20)")
    return worst <= 1.5 and farthest <= 0.2


def time(options):
    more = {"trace": options.out / "trace"} if options.trace else {}
    done = subprocess.run(["mpirun", "-n", "2", options.bin, *words({**LAYER, "groups": 0}, mode="time", samples=20000,
                           iterations=30, repetitions=options.repetitions, **more)],
                          env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    return float(re.search(r"median.* ratio ([0-9.]+)", done.stdout).group(1)) >= 0.93


def simulated_seconds(options, ranks, samples, work):
    """Seconds of one iteration, on average over those that are replayed: in one of them the row space moves."""
    trace, hosts = work / "trace.ti", work / "hosts"
    (work / "traces").write_text(f"{trace}\n")  # one for all ranks
    with open(trace, "w") as file:
        subprocess.run([options.bin, *words(LAYER, mode="replay", samples=samples, simulated_ranks=ranks)],
                       env=ENVIRONMENT, check=True, stdout=file)
    if ranks == 1:  # nothing to exchange, and smpirun takes the trace of one rank for a list of traces
        done = sum(int(line.split()[2]) for line in trace.read_text().splitlines() if " compute " in line)
        return done / 1e9 / REPLAYED
    hosts.write_text("".join(f"node-{p // CORES}\n" for p in range(ranks)))
    replay = pathlib.Path(shutil.which("smpirun")).parent.parent
    program = next(replay.glob("lib/**/simgrid/smpireplaymain"))
    done = subprocess.run(["smpirun", "-np", str(ranks), "-platform", str(work / "platform.xml"), "-hostfile",
                           str(hosts), "-replay", str(work / "traces"), str(program), "--cfg=smpi/coll-selector:ompi",
                           "--cfg=smpi/bcast:scatter_rdb_allgather", "--cfg=smpi/allgather:rdb",
                           "--cfg=smpi/host-speed:1Gf", "--cfg=smpi/display-timing:yes"],
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return float(re.search(r"Simulated time: ([0-9.eE+-]+)", done.stdout).group(1)) / REPLAYED


def project(options):
    if not shutil.which("smpirun"):
        print("no projection: SimGrid is not installed (bench/scaling/packages.txt)")
        return True
    work = options.out / "replay"
    work.mkdir(exist_ok=True)
    (work / "platform.xml").write_text(PLATFORM)
    series = {f"{samples:,} samples": samples for samples in (20000, 500000)}
    rows = []
    print(f"{'ranks':>5} " + " ".join(f"{name:>32}" for name in series))
    alone = {}
    for ranks in [2**i for i in range(11)]:
        for name, samples in series.items():
            seconds = simulated_seconds(options, ranks, samples, work)
            alone.setdefault(name, seconds)
            rows.append({"series": name, "ranks": ranks, "seconds_per_iteration": seconds,
                         "efficiency": alone[name] / (ranks * seconds)})
        print(f"{ranks:5} " + " ".join(f"{row['seconds_per_iteration']:15.4f} s, efficiency {row['efficiency']:.2f}"
                                       for row in rows[-len(series):]), flush=True)
    with open(options.out / "projection.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, options.out / "projection.svg")
    return True


def plot(rows, file):
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed (bench/scaling/packages.txt)")
        return
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name in dict.fromkeys(row["series"] for row in rows):
        mine = [row for row in rows if row["series"] == name]
        axes.plot([row["ranks"] for row in mine], [row["efficiency"] for row in mine], marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("ranks")
    axes.set_ylabel("efficiency of an iteration")
    axes.set_title("512 x 4608 on a simulated fat tree (100 Gb/s)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)


def main():
    modes = {"count": count, "time": time, "project": project}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", default=[], help="count, time, project")
    parser.add_argument("--bin", default=HERE.parents[1] / "build/bin/bench_scaling")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[1] / "run/scaling")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--trace", action="store_true", help="timelines of the timed solve")
    options = parser.parse_args()
    unknown = [mode for mode in options.modes if mode not in modes]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(modes)}")
    if not pathlib.Path(options.bin).exists():
        sys.exit(f"{options.bin} is missing: build the target bench_scaling first")
    options.bin = str(pathlib.Path(options.bin).resolve())
    options.out.mkdir(parents=True, exist_ok=True)
    good = True
    for mode in options.modes or modes:
        print(f"=== {mode} ===", flush=True)
        good = modes[mode](options) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
