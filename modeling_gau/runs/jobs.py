# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Many runs as one: processes that need each other's results, as many at a time as there are devices."""

import math
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..configuration_gau import GAUError


ROOT = Path(__file__).resolve().parents[2]
_LOG_LINES = 30


@dataclass(frozen=True)
class Job:
    """One process.

    Args:
        name: also its folder in the output directory, or its file without the suffix.
        arguments: those of its script.
        record: file in the output directory that describes the finished job.
        needs: names of jobs that must finish first.
        tuned_as: the training whose learning rate it takes.
    """

    name: str
    stage: str
    arguments: Mapping[str, Any]
    record: str
    needs: tuple[str, ...] = ()
    tuned_as: str | None = None


def check_needs(jobs: Sequence[Job], finished: set[str]) -> None:
    """Raises ValueError if a job needs one that is neither finished nor among `jobs`."""
    names = {job.name for job in jobs}
    for job in jobs:
        if missing := [name for name in job.needs if name not in finished and name not in names]:
            stage = missing[0].split("/")[0]
            raise GAUError(f"{job.name} needs {missing[0]}, which is not finished: add {stage} to --stages.")


def device_environments(jobs: int | None, needs_cpu: bool) -> list[dict[str, str]]:
    """One environment for each job that runs at a time: a GPU, or a share of the cores."""
    gpus = 0 if needs_cpu else torch.cuda.device_count()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        return [{"CUDA_VISIBLE_DEVICES": visible[number % gpus]} for number in range(jobs or gpus)]
    cores = count_cores()
    threads = str(max(1, cores // (jobs or cores)))
    cpu = {"OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}
    return [cpu] * (jobs or cores)


def count_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that this process may use, by its affinity and by the quota of its container or job, rounded down.

    Args:
        cgroups: where Linux mounts control groups, of version 1 or 2.
        membership: names the groups of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = min(_quotas(cgroups, membership), default=math.inf)
    return max(1, math.floor(min(cores, quota)))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The cores that each control group above this process grants, as far as it limits them."""
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, name = line.split(":", 2)  # no controllers are named in version 2
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 1 mounts controllers together in any order, with links by their single names.
        root = cgroups / controllers
        root = root if root.is_dir() else cgroups / "cpu"
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        group = root / name.lstrip("/")
        # In a container, the group may have the name it has outside: then the root alone is there.
        for folder in (group, *group.parents):
            files = [folder / file for file in names]
            if folder.is_relative_to(root) and all(file.is_file() for file in files):
                quota, period = " ".join(file.read_text() for file in files).split()
                if quota not in ("max", "-1"):
                    yield int(quota) / int(period)


def limit_threads() -> None:
    """Gives PyTorch one thread a core where the user has not set their number: it does not see a container's quota."""
    if {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        return
    torch.set_num_threads(min(torch.get_num_threads(), count_cores()))


@dataclass
class Process:
    job: Job
    process: subprocess.Popen
    slot: int
    started: float
    signals_sent: int = 0


@dataclass
class Runner:
    """Runs jobs in their order once their needs are finished, one in each environment at a time.

    Args:
        finished: names of jobs that need not run; grows.
        is_finished: asked again before a job starts, as the answer may depend on its needs; may raise ValueError.
        words: returns the command of a job when it starts; may raise ValueError.
        ended: called with every job that succeeded and with `finished`; returns its main number in words.
        locks: file descriptors that the processes inherit; None stands for no lock.
    """

    jobs: Sequence[Job]
    finished: set[str]
    is_finished: Callable[[Job], bool]
    words: Callable[[Job], list[str]]
    environments: Sequence[Mapping[str, str]]
    output_dir: Path
    ended: Callable[[Job, set[str]], str]
    locks: Sequence[int | None] = ()

    def __post_init__(self):
        self.waiting = [job for job in self.jobs if job.name not in self.finished]
        self.running: list[Process] = []
        self.failures: list[str] = []
        self.signals: list[int] = []

    def run(self) -> int:
        """Returns 0, 1 if a job failed, or 128 + the signal that stopped the study."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup asks for
            numbers.append(signal.SIGHUP)
        handlers = {number: signal.signal(number, lambda got, _: self.signals.append(got)) for number in numbers}
        try:
            with tqdm(total=len(self.waiting), unit="run", disable=None) as bar:
                while self._start_ready() or self.running:
                    bar.set_description_str(", ".join(process.job.name for process in self.running))
                    time.sleep(0.2)
                    self._pass_signals_on()
                    bar.update(self._collect())
        finally:
            for process in self.running:  # after an error of this program itself
                process.process.terminate()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        for failure in self.failures:
            print(failure)
        return 128 + self.signals[0] if self.signals else int(bool(self.failures))

    def _start_ready(self) -> bool:
        """Starts the jobs that are ready; returns whether there were any."""
        started = False
        while not (self.signals or self.failures) and len(self.running) < len(self.environments):
            ready = (job for job in self.waiting if all(need in self.finished for need in job.needs))
            job = next(ready, None)
            if job is None:
                break
            self.waiting.remove(job)
            try:
                if self.is_finished(job):
                    self.finished.add(job.name)
                    continue
                self.running.append(self._start(job))
                started = True
            except ValueError as error:
                self._fail(job, f"{job.name}: {error}")
        return started

    def _start(self, job: Job) -> Process:
        words, log = self.words(job), self.log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(len(self.environments))) - {process.slot for process in self.running})
        with log.open("a", encoding="utf-8") as file:
            print(f"$ {shlex.join(words)}", file=file, flush=True)
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=os.environ | self.environments[slot],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal reaches this program alone, which passes it on
                pass_fds=[one for one in self.locks if one is not None],
            )
        return Process(job, process, slot, time.monotonic())

    def _pass_signals_on(self) -> None:
        """The first as SIGTERM, on which the scripts save a checkpoint; a second one kills them."""
        for running in self.running:
            while running.signals_sent < min(len(self.signals), 2) and running.process.poll() is None:
                running.signals_sent += 1
                if running.signals_sent == 1:
                    running.process.terminate()
                else:
                    os.killpg(running.process.pid, signal.SIGKILL)

    def _collect(self) -> int:
        """Removes the jobs that ended from those that run; returns how many succeeded."""
        ended = [running for running in self.running if running.process.poll() is not None]
        self.running = [running for running in self.running if running not in ended]
        well = [running for running in ended if running.process.returncode == 0]
        for running in ended:
            job, minutes = running.job, (time.monotonic() - running.started) / 60
            if running in well:
                self.finished.add(job.name)
                tqdm.write(f"{job.name}: {minutes:.1f} minutes, {self.ended(job, self.finished)}")
            elif self.signals:
                self.waiting.insert(0, job)
                tqdm.write(f"{job.name}: stopped after {minutes:.1f} minutes")
            else:
                self._fail(job, f"{job.name} failed with {running.process.returncode}:\n{self._end_of_log(job)}")
        return len(well)

    def _fail(self, job: Job, message: str) -> None:
        self.waiting.insert(0, job)
        self.failures.append(message)
        left = f"; {len(self.running)} others run to their end" if self.running else ""
        tqdm.write(f"{job.name}: failed{left}")

    def _end_of_log(self, job: Job) -> str:
        # A progress bar counts with its last state only.
        lines = self.log(job).read_bytes().decode("utf-8", "replace").rstrip("\n").split("\n")
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        return "\n".join([*lines[-_LOG_LINES:], f"The whole log: {self.log(job)}"])

    def log(self, job: Job) -> Path:
        return self.output_dir / f"{job.name}.log"
