# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Command lines of quick pretraining runs, a text for them, and the comparison of two runs bit by bit."""

import json
import random
import re
from pathlib import Path

import torch
from safetensors.torch import load_file


WORDS = "the cat dog house garden sees likes builds leaves small green old quickly never often and or with".split()
TINY = "hidden_size=32,intermediate_size=64,attention_key_size=16,num_hidden_layers=2"
DROPOUT = f"{TINY},hidden_dropout_prob=0.1,attention_probs_dropout_prob=0.1"
LENGTH = 32


def write_rows(path: Path) -> Path:
    """Documents of many sizes, one to a line."""
    generator = random.Random(1)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(1, 80))) for _ in range(90)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def command(text: Path, output_dir: Path, **changes) -> list[str]:
    """A command line of six quick steps; a value of None leaves the option out, True makes it a flag."""
    options = {
        "config_name": "gau-tiny",
        "config_overrides": TINY,
        "train_file": text,
        "validation_split_percentage": 20,
        "vocab_size": 120,
        "max_seq_length": LENGTH,
        "eval_lengths": "16 32 64",
        "output_dir": output_dir,
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 3,
        "use_cpu": True,
        "disable_tqdm": "true",
        "cache_dir": text.parent / "cache",
    } | changes
    argv = []
    for name, value in options.items():
        if value is not None:
            argv += [f"--{name}", *([] if value is True else str(value).split(" "))]
    return argv


def history_of(output_dir: Path) -> list[dict]:
    """What was logged, but for what depends on time."""
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    left_out = re.compile("runtime|second|mfu")
    return [{name: value for name, value in entry.items() if not left_out.search(name)} for entry in history]


def state_of(output_dir: Path) -> tuple[dict[str, torch.Tensor], list[dict], dict]:
    """Weights and optimizer states, what was logged, and the totals of a finished run."""
    last = max(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    tensors = load_file(output_dir / "model.safetensors") | load_file(last / "optimizer.safetensors")
    return tensors, history_of(output_dir), json.loads((output_dir / "run.json").read_text())["totals"]


def assert_bit_equal(one: Path, other: Path) -> None:
    (tensors, logs, totals), (expected, expected_logs, expected_totals) = state_of(one), state_of(other)
    assert tensors.keys() == expected.keys() and any("." in name for name in tensors)
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []
    assert logs == expected_logs and any("loss" in entry for entry in logs)
    assert totals == expected_totals and totals["tokens"] > 0
