"""A Slurm of four virtual nodes on this host, for the time of a `with`: munge, slurmctld, four slurmd, all of its own.

Nothing of an installed Slurm is touched: configuration, keys, sockets, spool folders, logs and ports are those of the
folder given. Needs root, and what packages.txt lists.
"""
import os
import pathlib
import pwd
import secrets
import shutil
import socket
import subprocess
import time

NODES = 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "mpirun")
CONFIGURATION = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# A requeued job starts again when its credential has expired: 15 s instead of two minutes.
AuthInfo=socket={folder}/munge/socket,cred_expire=15
SlurmctldPort=26817
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
# Several slurmd on one host: %n is the node's name.
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
MinJobAge=7200
KillWait=10
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[27001-2700{nodes}] CPUs=2 State=UNKNOWN
PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
"""
# Nodes that share a host are not where Open MPI believes them to be: no shared memory between them.
MPI_ON_ONE_HOST = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_mpi_yield_when_idle": "1",
                   "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}


def missing():
    """Why no cluster can be started here, in a sentence; empty if one can."""
    if os.geteuid() != 0:
        return "a Slurm of virtual nodes needs root: its daemons start jobs for users"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"not installed: {', '.join(absent)}; run jobs/setup.sh tests/slurm/packages.txt" if absent else ""


class Cluster:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.environment = dict(os.environ, SLURM_CONF=str(self.folder / "slurm.conf"), **MPI_ON_ONE_HOST)
        self.daemons = []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.daemons:  # jobs must not outlive the daemons
            self.ask("scancel", "--user=root", "--signal=KILL", "--full")
            self.ask("scancel", "--user=root")
            end = time.monotonic() + 20
            while self.ask("squeue", "-h").strip() and time.monotonic() < end:
                time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def _start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        names = [f"{kind}.n{i}" for kind in ("spool", "tmp") for i in range(1, NODES + 1)]
        for name in ("state", "munge", *names):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=self.folder, nodes=NODES))
        self._start_munge()
        self._daemon("slurmctld", "-D")
        for i in range(1, NODES + 1):
            self._daemon("slurmd", "-D", "-N", f"n{i}")
        self.wait(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(NODES), 60, "idle nodes")

    def _start_munge(self):
        """As its own user, with a key of its own; munge wants nobody else to be able to write on the way to its files."""
        munge = self.folder / "munge"
        user = pwd.getpwnam("munge")
        (munge / "key").write_bytes(secrets.token_bytes(1024))
        for path in (munge / "key", munge):
            os.chown(path, user.pw_uid, user.pw_gid)
        (munge / "key").chmod(0o400)
        munge.chmod(0o755)
        words = ["munged", "--foreground", f"--socket={munge}/socket", f"--key-file={munge}/key", f"--pid-file={munge}/pid",
                 f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--force"]
        with open(self.folder / "munged.out", "w") as out:
            self.daemons.append(subprocess.Popen(words, stdout=out, stderr=out, user=user.pw_uid, group=user.pw_gid))
        self.wait((munge / "socket").exists, 20, "munge")

    def _daemon(self, name, *arguments):
        with open(self.folder / f"{name}{''.join(arguments[2:])}.out", "w") as out:
            self.daemons.append(subprocess.Popen([name, *arguments], env=self.environment, stdout=out, stderr=out,
                                                 cwd=self.folder))

    def wait(self, condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            for daemon in self.daemons:
                if daemon.poll() is not None:
                    raise RuntimeError(f"{daemon.args[0]} ended; see the logs in {self.folder}")
            if time.monotonic() > end:
                raise RuntimeError(f"no {what} within {seconds} s; see the logs in {self.folder}")
            time.sleep(0.5)

    def ask(self, *words, **options):
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, **options).stdout

    def submit(self, *words, cwd, **variables):
        """Submits a batch script; returns the job's number."""
        done = subprocess.run(["sbatch", "--parsable", *map(str, words)], cwd=cwd, capture_output=True, text=True,
                              env=dict(self.environment, **variables))
        if done.returncode != 0:
            raise RuntimeError(f"sbatch failed: {done.stderr}")
        return done.stdout.strip()

    def records(self, job):
        """What Slurm knows about a job, a dictionary per task of an array."""
        text = self.ask("scontrol", "--oneliner", "show", "job", job)
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines() if line]

    def finish(self, job, seconds):
        """Waits for a job and returns its records."""
        done = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        self.wait(lambda: all(record["JobState"] in done for record in self.records(job)), seconds, f"end of job {job}")
        return self.records(job)
