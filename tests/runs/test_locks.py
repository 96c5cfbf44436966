# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""One owner at a time for a folder and for a file of results."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import TrainingArguments

from modeling_gau.runs import locks
from modeling_gau.runs.locks import lock, lock_results, sole_owner


@pytest.fixture
def owner():
    """Starts a process that locks a folder, and perhaps leaves a worker with the lock; returns it and what it said."""
    started = []

    def start(folder: Path, worker: str = "") -> tuple[subprocess.Popen, str]:
        code = (
            "import os, sys, time, pathlib\nfrom modeling_gau.runs.locks import lock\n"
            f"with lock(pathlib.Path({str(folder)!r}), removes=True):\n"
            f"    {worker or 'pass'}\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_is_told_who_holds_the_folder_and_a_killed_owner_holds_nothing(tmp_path, owner):
    process, number = owner(tmp_path / "out")
    started = time.monotonic()
    with (
        pytest.raises(ValueError, match=rf"at work in .*out: process {number} on {socket.gethostname()}\. [^\n]*$"),
        lock(tmp_path / "out"),
    ):
        pass
    assert time.monotonic() - started < 5
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "out" / "_lock").exists()
    with lock(tmp_path / "out", removes=True):
        assert (tmp_path / "out" / "_lock").read_text() == f"{os.getpid()} {socket.gethostname()}"
    assert not (tmp_path / "out" / "_lock").exists()


def test_workers_of_a_killed_owner_are_waited_for(tmp_path, owner, monkeypatch):
    # The worker that the fork leaves behind has the lock for two more seconds.
    process, _ = owner(tmp_path, worker="os.fork() or (os.close(1), time.sleep(2), os._exit(0))")
    process.kill()
    process.wait()
    monkeypatch.setattr(locks, "_SECONDS_FOR_ORPHANS", 0.0)
    with pytest.raises(ValueError, match=r"which ended, but not its workers"), lock(tmp_path):
        pass
    monkeypatch.undo()
    with lock(tmp_path):
        pass


def test_a_folder_that_was_made_for_the_lock_goes_with_it(tmp_path):
    with lock(tmp_path / "a" / "b", removes=True):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), lock(tmp_path / "a" / "b", removes=True):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with lock(tmp_path / "a" / "b", removes=True):
        (tmp_path / "a" / "notes.txt").write_text("mine")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notes.txt"]


def test_a_lock_whose_file_its_owner_removed_is_taken_anew(tmp_path, monkeypatch):
    opened = os.open

    def removed(path, *arguments):
        monkeypatch.setattr(os, "open", opened)
        descriptor = opened(path, *arguments)
        os.unlink(path)
        return descriptor

    monkeypatch.setattr(os, "open", removed)
    with lock(tmp_path) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / "_lock"))
        with pytest.raises(ValueError, match="at work"), lock(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, number, caplog):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.logging.get_logger("transformers"), "propagate", True)
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with lock(tmp_path / "out", removes=True) as descriptor:
        assert descriptor is None
    assert "has no locks: make sure that nothing else writes there" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with lock(tmp_path, removes=True) as descriptor:
        assert descriptor is None


def test_places_that_cannot_be_locked_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/out"):
        with pytest.raises(ValueError, match="file"), lock(tmp_path / place):
            pass


def test_damaged_names_of_owners_do_no_harm(tmp_path):
    with lock(tmp_path):
        for content in (b"", b"\xff\xfe", b"9" * 300, b"-1 host", b"0 " + b"h" * 500, b"99999999999999999999 "):
            (tmp_path / "_lock").write_bytes(content + socket.gethostname().encode())
            with pytest.raises(ValueError, match="is at work in"), lock(tmp_path):
                pass


def test_a_file_of_results_has_one_owner(tmp_path):
    with lock_results(tmp_path / "one.csv"), lock_results(tmp_path / "other.csv"):
        with pytest.raises(ValueError, match=r"at work in .*one\.csv: process"), lock_results(tmp_path / "one.csv"):
            pass
    assert list(tmp_path.iterdir()) == []


def own_a_folder(argv: list[str]) -> None:
    args = TrainingArguments(argv[0], use_cpu=True)
    with sole_owner(args):
        args.distributed_state.wait_for_everyone()
        print(f"process {args.process_index}: {Path(argv[0], '_lock').read_text()}", flush=True)
        args.distributed_state.wait_for_everyone()


def test_processes_of_one_run_share_the_lock(tmp_path, in_two_processes):
    printed = in_two_processes(own_a_folder, [str(tmp_path / "run")])
    said = [line.partition(": ")[2] for line in printed.splitlines() if line.startswith("process ")]
    assert len(said) == 2 and said[0] == said[1]
