# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What the benchmarks share: options, the machine's description, contenders in turns, and the files of results."""

import argparse
import csv
import datetime
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
import transformers


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository need not be installed

from modeling_gau import GAUConfig
from modeling_gau.runs.tables import write_csv


ROOT = Path(__file__).resolve().parents[1]


def make_parser(description: str, output: str | None = "CSV file to write") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if output:
        parser.add_argument("--output", type=Path, help=output)
    return parser


def add_plot_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", type=Path, metavar="CSV", help="measure nothing, draw this file (needs matplotlib)")


def load_preset(name: str, **changes) -> GAUConfig:
    return GAUConfig.from_pretrained(str(ROOT / "configuration" / "models" / name), **changes)


# The machine


def describe_machine(device: str = "cpu") -> dict[str, object]:
    return {
        "date": datetime.date.today().isoformat(), "hardware": processor_name(device),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip


def processor_name(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


# Measuring


def timed(call: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def time_in_turns(calls: Mapping, rounds: int, seconds_of: Callable = timed) -> dict[object, list[float]]:
    """Seconds of each call in each round, in random order, so that a noisy machine disturbs all alike."""
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name in random.sample(list(calls), len(calls)):
            seconds[name].append(seconds_of(calls[name]))
    return seconds


def make_training_step(model: torch.nn.Module, optimizer, inputs: Mapping, bf16: bool, max_norm: float | None = None):
    """A function that does one step on the inputs: forward, backward, optimizer."""
    model.train()
    device = next(model.parameters()).device.type

    def step(inputs: Mapping = inputs) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = model(**inputs).loss
        loss.backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def run_again(script: str, *words: object) -> list[int]:
    """Runs a script in a process of its own, and returns the numbers that it prints last."""
    command = [sys.executable, script, *map(str, words)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [int(number) for number in output.splitlines()[-1].split()]


# Results


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    return median(values), min(values), max(values)


def write_results(path: Path | None, rows: Sequence[Mapping[str, object]]) -> None:
    if path and rows:
        write_csv(path, rows)
        print(f"Wrote {path}")


def read_results(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save_figure(figure, path: Path) -> None:
    """Saves the figure of a CSV file beside it."""
    figure.savefig(path.with_suffix(".png"))
    print(f"Wrote {path.with_suffix('.png')}")
