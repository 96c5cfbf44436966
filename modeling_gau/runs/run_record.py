# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`run.json`: what a run was made with and what came of it, and what changed since a checkpoint."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, TrainingArguments

from .state_files import for_json, write_json


RECORD_NAME = "run.json"
_SECRETS = ("--token", "--hub_token", "--hub-token")
PACKAGES = ("transformers", "torch", "accelerate", "datasets", "tokenizers", "safetensors", "numpy", "modeling-gau")
# Arguments that decide what is computed: a run that is resumed with others is no longer the run it was.
RECIPE = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "data_seed", "decay_steps", "decay_type", "fp16",
    "gradient_accumulation_steps", "learning_rate", "length_schedule", "long_documents", "lr_scheduler_kwargs",
    "lr_scheduler_type", "mask_replace_prob", "max_grad_norm", "max_seq_length", "max_steps", "mixed_length_weights",
    "mixed_lengths", "mlm_probability", "non_finite", "optim", "optim_args", "packing", "per_device_train_batch_size",
    "random_replace_prob", "seed", "streaming", "warmup_steps", "weight_decay", "whole_word_masking",
    "word_segmenter",
)  # fmt: skip


def describe_run(
    parts: Sequence[object],
    args: TrainingArguments,
    config: PreTrainedConfig,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run is made of, for JSON.

    Args:
        parts: dataclasses of arguments beside `args`.
        data: fingerprints of text and tokenizer.
    """
    values = _plain(args.to_dict())
    values |= {entry.name: getattr(part, entry.name) for part in parts for entry in fields(part)}
    arguments = {name: value for name, value in sorted(values.items()) if not name.endswith("token")}
    description = {
        "command": [Path(sys.argv[0]).name, *_without_secrets(sys.argv[1:])],
        "arguments": arguments,
        "model": json.loads(config.to_json_string(use_diff=False)),
        "data": dict(data),
        "world_size": args.world_size,
        "software": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "hardware": describe_hardware(args),
    }
    return for_json(description)


def describe_hardware(args: TrainingArguments) -> dict[str, Any]:
    hardware = {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": args.device.type,
        "processes": args.world_size,
    }
    if args.device.type == "cuda":
        properties = torch.cuda.get_device_properties(args.device)
        hardware |= {"accelerator": properties.name, "accelerator_memory": properties.total_memory}
    return hardware


def describe_device(hardware: Mapping[str, Any]) -> str:
    """What [`describe_hardware`] found, in a few words."""
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''}"
    device = hardware.get("accelerator") or f"{hardware['processor'] or hardware['machine']}, {threads}"
    return f"{hardware['processes']} × {device}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a clone that is not installed
        return None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _without_secrets(words: list[str]) -> list[str]:
    shown = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, _ = word.partition("=")
        word = f"{name}=…" if equals and name in _SECRETS else word
        shown.append("…" if before in _SECRETS else word)
    return shown


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """What differs between two descriptions of a run, in words, as lists under `data` and `recipe`.

    Differences of the data mean that the resumed run reads another text; those of the recipe, that it goes on but is
    not the run it was.
    """
    labels = {"train": "training text", "validation": "validation text", "tokenizer": "tokenizer"}
    data = [labels[key] for key in labels if before["data"].get(key) != now["data"].get(key)]
    recipe = [
        f"{name} ({before['arguments'].get(name)} there, {now['arguments'].get(name)} here)"
        for name in RECIPE
        if before["arguments"].get(name) != now["arguments"].get(name)
    ]
    if before["world_size"] != now["world_size"]:
        recipe.append(f"number of processes ({before['world_size']} there, {now['world_size']} here)")
    return {"data": data, "recipe": recipe}


class RunRecord:
    """The file `run.json` of an output directory: a description, and what happens to the run."""

    def __init__(self, output_dir: str | Path, description: Mapping[str, Any], resumed_from: str | None):
        self.path = Path(output_dir) / RECORD_NAME
        self.content = {"status": "running", "started": _now()} | dict(description)
        if resumed_from is not None:
            earlier = self._earlier()
            self.content["started"] = earlier.get("started", self.content["started"])
            self.content["resumed"] = [
                *earlier.get("resumed", []),
                {"checkpoint": Path(resumed_from).name, "time": _now()},
            ]

    def _earlier(self) -> dict[str, Any]:
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def write(self, **values: Any) -> None:
        """Adds `values` and replaces the file in one step, so that a reader never sees half of it.

        Raises:
            OSError: the file cannot be written; the one before is still there, and nothing else.
        """
        self.content |= values | {"updated": _now()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, for_json(self.content))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
