# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""How many cores a process may use, and what PyTorch makes of it."""

import os

import pytest
import torch

from modeling_gau.runs import jobs
from modeling_gau.runs.jobs import count_cores, limit_threads


@pytest.fixture
def cores(tmp_path, monkeypatch):
    """Counts cores of a machine with eight, given files of control groups and the groups of the process."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def count(membership: str | None, **files: str) -> int:
        if membership is not None:
            (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return count_cores(tmp_path / "cgroup", tmp_path / "membership")

    return count


V1 = "12:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n"
OTHER_ORDER = V1.replace("cpu,cpuacct", "cpuacct,cpu")
LINKED = {"cpu/job/cpu.cfs_quota_us": "200000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (None, {}, 8),
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/slice/job\n", {"slice/cpu.max": "300000 100000\n", "slice/job/cpu.max": "max 100000\n"}, 3),
        ("0::/name/outside\n", {"cpu.max": "400000 100000\n"}, 4),
        (V1, {"cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 8),
        (OTHER_ORDER, LINKED, 2),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "500000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 5),
        (V1, {"memory/job/cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_the_quota_of_a_container_counts(cores, membership, files, expected):
    assert cores(membership, **files) == expected


def test_affinity_counts_too(cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert cores("0::/\n", **{"cpu.max": "600000 100000\n"}) == 2


@pytest.mark.parametrize(
    ("environment", "threads", "expected"),
    [({}, 8, [2]), ({}, 1, [1]), ({"OMP_NUM_THREADS": "8"}, 8, []), ({"MKL_NUM_THREADS": "8"}, 8, [])],
)
def test_threads_are_as_many_as_cores_unless_the_user_says(monkeypatch, environment, threads, expected):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    used = []
    monkeypatch.setattr(jobs, "count_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    limit_threads()
    assert used == expected
