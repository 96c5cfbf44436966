# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Runs that are killed at random moments, resumed, and killed again end as the run that nobody disturbed."""

import contextlib
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import DROPOUT, assert_bit_equal, command, history_of, write_rows

import run_pretrain
from modeling_gau.runs.checkpoints import find_whole_checkpoint


STEPS, SAVE_STEPS = 12, 2


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("modeling_gau.runs.figures.is_matplotlib_available", lambda: False)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("text") / "text.jsonl")


def start(text: Path, output_dir: Path, **more) -> multiprocessing.Process:
    """The script in a process that has everything imported, so that it is at work at once."""
    log = output_dir.with_suffix(".log")

    def run():
        with open(log, "a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                steps = {"max_steps": STEPS, "save_steps": SAVE_STEPS, "save_total_limit": 1, "eval_lengths": "16 32"}
                changes = {"config_overrides": DROPOUT, "fill_mask_example": "[MASK]"} | steps | more
                run_pretrain.main(command(text, output_dir, **changes))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def step_of(path: Path | None) -> int:
    return 0 if path is None else int(path.name.rpartition("-")[2])


def steps_logged(printed: str) -> int:
    return len(re.findall(r"^\{'loss'", printed, flags=re.MULTILINE))


def wait_for_step(process: multiprocessing.Process, log: Path, before: str, step: int) -> None:
    """Until that many steps are logged since `before`, or the process has ended."""
    while process.is_alive() and steps_logged(log.read_text().removeprefix(before)) < step:
        process.join(0.005)


def run_with_kills(text: Path, output_dir: Path, undisturbed: Path, seconds: float, kills: int, **more) -> int:
    """Kills a run until it comes to its end, at most `kills` times; returns how often.

    First when a step after the first save has been logged, so that there is something to resume from and to lose, and
    then at random moments.
    """
    generator, killed = random.Random(output_dir.name), 0
    while True:
        whole, skipped = find_whole_checkpoint(output_dir) if output_dir.is_dir() else (None, [])
        resume = {"resume_from_checkpoint": "last"} if whole else {"overwrite_output_dir": True}
        log = output_dir.with_suffix(".log")
        before = log.read_text() if log.is_file() else ""
        process = start(text, output_dir, **resume, **more)
        if killed == 0:
            log.touch()
            wait_for_step(process, log, before, SAVE_STEPS + 1)
        elif killed < kills:
            process.join(generator.uniform(0.05, seconds))
        else:
            process.join(120)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        printed = log.read_text().removeprefix(before)
        if whole and (found := re.search(r"Resuming from .*checkpoint-(\d+)\.", printed)):
            assert int(found[1]) == step_of(whole), printed
            for path, reason in skipped:
                assert f"Not resumed from: {path.name} ({reason})" in printed
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, printed[-3000:]
        killed += 1
        # No more is lost than the steps since the last save. A step is logged before it is saved: at most SAVE_STEPS,
        # where the kill came in between.
        after, _ = find_whole_checkpoint(output_dir) if output_dir.is_dir() else (None, [])
        assert step_of(after) >= step_of(whole)
        done = step_of(whole) + steps_logged(printed)
        assert step_of(after) >= done - SAVE_STEPS, printed[-3000:]
        if killed == 1:
            # Of the step after the first save: what was resumed from is deleted by the next save of the resumed run.
            assert done > SAVE_STEPS and step_of(after) >= SAVE_STEPS
    assert_bit_equal(output_dir, undisturbed)
    return killed


def finish(process: multiprocessing.Process, output_dir: Path, exit_code: int = 0) -> None:
    process.join(120)
    assert process.exitcode == exit_code, output_dir.with_suffix(".log").read_text()[-3000:]


def kill_runs(text: Path, folder: Path, kills: int, **more) -> None:
    begin, undisturbed = time.perf_counter(), folder / "undisturbed"
    finish(start(text, undisturbed, **more), undisturbed)
    seconds = time.perf_counter() - begin
    number = done = 0
    while done < kills:
        number += 1
        done += run_with_kills(text, folder / f"run-{number}", undisturbed, seconds, min(kills - done, 8), **more)
    print(f"{done} kills in {number} runs, each as the undisturbed one", file=sys.stderr)


def test_killed_runs_end_bit_equal(text, tmp_path):
    kill_runs(text, tmp_path, 5)


def test_terminated_run_ends_bit_equal(text, tmp_path):
    # Every step is evaluated, and so the one is that the signal leaves without.
    more = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "max_eval_tokens": 200}
    more["metric_for_best_model"] = "eval_accuracy"
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(start(text, whole, **more), whole)
    log = run.with_suffix(".log")
    log.touch()
    process = start(text, run, **more)
    wait_for_step(process, log, "", 3)
    os.kill(process.pid, signal.SIGTERM)
    finish(process, run, 128 + signal.SIGTERM)
    assert 3 <= step_of(find_whole_checkpoint(run)[0]) < STEPS
    finish(start(text, run, resume_from_checkpoint="last", **more), run)
    assert_bit_equal(run, whole)
    assert len([entry for entry in history_of(run) if "eval_loss" in entry]) == STEPS


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "more",
    [
        {"mixed_lengths": "8 16 32", "dataloader_num_workers": 2, "gradient_accumulation_steps": 2},
        {"streaming": True},
    ],
    ids=["indexed", "streaming"],
)
def test_fifty_kills(text, tmp_path, more):
    kill_runs(text, tmp_path, 50, packing="documents", **more)
