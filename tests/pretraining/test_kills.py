# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Runs that are killed at random moments, resumed, and killed again end as the run that nobody disturbed."""

import contextlib
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import run_pretrain
from modeling_gau.runs.checkpoints import find_whole_checkpoint


STEPS, SAVE_STEPS = 12, 2
WORDS = "the cat dog house garden sees likes builds leaves small green old quickly never often and or with".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    generator = random.Random(0)
    lines = (json.dumps({"text": " ".join(generator.choices(WORDS, k=generator.randint(5, 200)))}) for _ in range(80))
    path.write_text("\n".join(lines))
    return path


def arguments(text: Path, output_dir: Path, *more: str) -> list[str]:
    options = (
        f"--config_name gau-tiny --train_file {text} --validation_split_percentage 20 --vocab_size 120 "
        "--config_overrides hidden_size=32,intermediate_size=64,attention_key_size=16,num_hidden_layers=2,"
        "hidden_dropout_prob=0.1 "
        f"--max_seq_length 32 --eval_lengths 16 32 --max_steps {STEPS} --save_steps {SAVE_STEPS} --save_total_limit 1 "
        f"--per_device_train_batch_size 4 --logging_steps 1 --use_cpu --disable_tqdm true --output_dir {output_dir} "
        f"--cache_dir {text.parent / 'cache'} --fill_mask_example [MASK] --learning_rate 1e-2"
    )
    return [*options.split(), *more]


def start(text: Path, output_dir: Path, *more: str) -> multiprocessing.Process:
    """The script in a process that has everything imported, so that it is at work at once."""
    log = output_dir.with_suffix(".log")

    def run():
        with open(log, "a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                run_pretrain.main(arguments(text, output_dir, *more))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def final_state(output_dir: Path) -> tuple[dict[str, torch.Tensor], list, dict]:
    """Weights and optimizer states, the logged losses, and the totals of a finished run."""
    checkpoint = output_dir / f"checkpoint-{STEPS}"
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    losses = [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in history if "loss" in entry]
    tensors = load_file(output_dir / "model.safetensors") | load_file(checkpoint / "optimizer.safetensors")
    return tensors, losses, json.loads((output_dir / "run.json").read_text())["totals"]


def step_of(path: Path | None) -> int:
    return 0 if path is None else int(path.name.rpartition("-")[2])


def steps_logged(printed: str) -> int:
    return len(re.findall(r"^\{'loss'", printed, flags=re.MULTILINE))


def wait_for_step(process: multiprocessing.Process, log: Path, before: str, step: int) -> None:
    """Until that many steps are logged since `before`, or the process has ended."""
    while process.is_alive() and steps_logged(log.read_text().removeprefix(before)) < step:
        process.join(0.005)


def run_with_kills(text: Path, output_dir: Path, undisturbed: Path, seconds: float, kills: int, *more: str) -> int:
    """Kills a run until it comes to its end, at most `kills` times; returns how often.

    First when a step after the first save has been logged, so that there is something to resume from and to lose, and
    then at random moments.
    """
    generator, killed = random.Random(output_dir.name), 0
    while True:
        whole, skipped = find_whole_checkpoint(output_dir) if output_dir.is_dir() else (None, [])
        resume = ["--resume_from_checkpoint", "last"] if whole else ["--overwrite_output_dir"]
        log = output_dir.with_suffix(".log")
        before = log.read_text() if log.is_file() else ""
        process = start(text, output_dir, *resume, *more)
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
    tensors, losses, totals = final_state(output_dir)
    expected, expected_losses, expected_totals = final_state(undisturbed)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    assert losses == expected_losses and totals == expected_totals
    return killed


def kill_runs(text: Path, folder: Path, kills: int, *more: str) -> None:
    begin = time.perf_counter()
    process = start(text, folder / "undisturbed", *more)
    process.join(120)
    assert process.exitcode == 0, (folder / "undisturbed.log").read_text()[-3000:]
    seconds = time.perf_counter() - begin
    number = done = 0
    while done < kills:
        number += 1
        done += run_with_kills(
            text, folder / f"run-{number}", folder / "undisturbed", seconds, min(kills - done, 8), *more
        )
    print(f"{done} kills in {number} runs, each as the undisturbed one", file=sys.stderr)


def test_killed_runs_end_bit_equal(text, tmp_path):
    kill_runs(text, tmp_path, 5)


def evaluations(output_dir: Path) -> list[tuple[int, float]]:
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]


def test_terminated_run_ends_bit_equal(text, tmp_path):
    # Every step is evaluated, and so the one is that the signal leaves without.
    more = (
        "--eval_strategy steps --eval_steps 1 --load_best_model_at_end --metric_for_best_model eval_accuracy".split()
    )
    whole, run = tmp_path / "whole", tmp_path / "run"
    process = start(text, whole, *more)
    process.join(120)
    assert process.exitcode == 0, whole.with_suffix(".log").read_text()[-3000:]
    log = run.with_suffix(".log")
    log.touch()
    process = start(text, run, *more)
    wait_for_step(process, log, "", 3)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM, log.read_text()[-3000:]
    stopped_at = step_of(find_whole_checkpoint(run)[0])
    assert 3 <= stopped_at < STEPS
    process = start(text, run, "--resume_from_checkpoint", "last", *more)
    process.join(120)
    assert process.exitcode == 0, log.read_text()[-3000:]
    tensors, *rest = final_state(run)
    expected, *expected_rest = final_state(whole)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert rest == expected_rest
    assert len(evaluations(run)) == STEPS
    assert evaluations(run) == evaluations(whole)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "more",
    [
        "--packing documents --mixed_lengths 8 16 32 --dataloader_num_workers 2 --gradient_accumulation_steps 2",
        "--streaming --packing documents",
    ],
    ids=["indexed", "streaming"],
)
def test_fifty_kills(text, tmp_path, more):
    kill_runs(text, tmp_path, 50, *more.split())
