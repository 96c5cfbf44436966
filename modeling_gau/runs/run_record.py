# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`run.json`: what went into a run and what it gave; and whether the same went into two runs.

A description has the arguments, digests of the local files they name, the number of processes, and for a record also
the model, the text, software and hardware. `compare_runs` is the one place that decides which differences count.
"""

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, TrainingArguments

from ..configuration_gau import GAUError
from .state_files import for_json, read_json, write_json


RECORD_NAME = "run.json"
PACKAGES = ("transformers", "torch", "accelerate", "datasets", "tokenizers", "safetensors", "numpy", "modeling-gau")
_SECRETS = ("--token", "--hub_token", "--hub-token")
# Arguments that change where, how fast or how visibly a run is made, but not its results.
_INCIDENTAL = re.compile(
    "accept_.*|(activation|gradient)_checkpointing.*|cache_dir|config|dataloader_(multiprocessing_context|num_workers|"
    "persistent_workers|pin_memory|prefetch_factor)|ddp_.*|debug|disable_tqdm|do_(train|eval|predict)|"
    "enable_jit_checkpoint|hub_.*|ignore_data_skip|include_.*|language|license|local_rank|log_.*|logging_.*|"
    "output_dir|overwrite_.*|per_device_eval_batch_size|preprocessing_num_workers|project|push_to_hub|report_to|"
    "restore_callback_states_from_checkpoint|resume_from_checkpoint|run_name|save_(on_each_node|only_model|"
    "safetensors|total_limit)|skip_memory_metrics|torch_empty_cache_steps|trackio_.*|use_cache"
)
# Arguments that name the text, tokenizer and model, or that concern evaluation: a resumed pretraining run compares the
# things, not their names, and evaluation changes nothing in what it learns.
_NOT_OF_A_RECIPE = re.compile(
    "attention_normalization|batch_eval_metrics|(bf16|fp16)_full_eval|config_.*|dataset_.*|eval_.*|"
    "fill_mask_example|fixed_n|greater_is_better|load_best_model_at_end|max_(eval|train)_.*|metric_for_best_model|"
    "model_.*|num_train_epochs|revision|save_.*|skip_bad_rows|text_.*|tokenizer_.*|train_file|"
    "trust_remote_code|validation_.*|vocab_size"
)
# What the best model is chosen from, where it is chosen.
_CHOICES_OF_CHECKPOINTS = ("save_steps", "save_strategy")
_PATHS = (
    "config_name",
    "data_dir",
    "dataset_path",
    "model_name_or_path",
    "test_file",
    "tokenizer_name",
    "train_file",
    "validation_file",
)


# Descriptions


def describe_arguments(
    parts: Sequence[object], args: TrainingArguments, files: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """What decides the results of a run, for JSON and for [`compare_runs`].

    Args:
        parts: dataclasses of arguments beside `args`.
        files: local files that the run reads, by the name they have in messages ("weights of the checkpoint"); their
            contents are compared. Missing ones are left out.
    """
    values = args.to_dict() | {entry.name: getattr(part, entry.name) for part in parts for entry in fields(part)}
    present = {name: path.expanduser() for name, path in (files or {}).items() if path.expanduser().is_file()}
    description = {
        "arguments": {name: value for name, value in sorted(values.items()) if not name.endswith("token")},
        "contents": {name: digest_of(path) for name, path in present.items()},
        "world_size": args.world_size,
    }
    return for_json(description)


def describe_run(
    parts: Sequence[object],
    args: TrainingArguments,
    config: PreTrainedConfig,
    data: Mapping[str, Any],
    files: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """The beginning of a record: [`describe_arguments`] and all else that a run is made of, for JSON.

    Args:
        data: fingerprints of text and tokenizer.
    """
    description = {
        "command": [Path(sys.argv[0]).name, *_without_secrets(sys.argv[1:])],
        **describe_arguments(parts, args, files),
        "model": json.loads(config.to_json_string(use_diff=False)),
        "data": dict(data),
        "software": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "hardware": describe_hardware(args),
        "mixed_precision": args.mixed_precision,  # also says what a launcher set
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
    """[`describe_hardware`] in a few words."""
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''}"
    device = hardware.get("accelerator") or f"{hardware['processor'] or hardware['machine']}, {threads}"
    return f"{hardware['processes']} × {device}"


def describe_precision(record: Mapping[str, Any]) -> str:
    """The number format that the training of a record was computed in."""
    arguments, weights = record["arguments"], record["model"].get("dtype")
    mixed = record.get("mixed_precision")
    if mixed is None:  # a record of an earlier version; float16 has never had an effect on a CPU
        has_float16 = arguments["fp16"] and record["hardware"]["device"] != "cpu"
        mixed = "bf16" if arguments["bf16"] else "fp16" if has_float16 else "no"
    if weights in _SHORT_NAMES:
        return f"{_SHORT_NAMES[weights] if mixed == 'no' else mixed}, weights in {_SHORT_NAMES[weights]}"
    return "fp32" if mixed == "no" else mixed


_SHORT_NAMES = {"bfloat16": "bf16", "float16": "fp16"}


def digest_of(path: Path) -> str:
    """32 hexadecimal digits that depend on the contents of a file alone."""
    state = path.stat()
    return _digest(path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))


@cache  # a study asks for the same files before every run
def _digest(path: Path, state: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


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


def _without_secrets(words: list[str]) -> list[str]:
    shown = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, _ = word.partition("=")
        word = f"{name}=…" if equals and name in _SECRETS else word
        shown.append("…" if before in _SECRETS else word)
    return shown


# Comparison


def compare_values(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """name -> "name (1 there, 2 here)" for the values that differ.

    A name that only one side has is passed over: options come and go with versions.
    """
    return {
        name: f"{name} ({there[name]} there, {here[name]} here)"
        for name in sorted(there.keys() & here.keys())
        if there[name] != here[name]
    }


def compare_runs(there: Mapping[str, Any], here: Mapping[str, Any], folder: Path = Path()) -> dict[str, str]:
    """What differs between two runs that changes their results, as [`compare_values`] words it; empty if nothing does.

    Every study asks this before it takes a finished run for its own, and every resumed run before it goes on.

    Args:
        there: record of the earlier run (`read_record`), or its description.
        here: description of this one ([`describe_arguments`] is enough).
        folder: where relative paths begin.
    """
    if "arguments" not in there:
        return {"": f"its {RECORD_NAME} does not say what it was made with"}
    found = compare_values(_facts(there), _facts(here))
    picks_a_checkpoint = any(side["arguments"].get("load_best_model_at_end") for side in (there, here))
    return {
        name: text
        for name, text in found.items()
        if not _INCIDENTAL.fullmatch(name)
        and (picks_a_checkpoint or name not in _CHOICES_OF_CHECKPOINTS)
        and not (name in _PATHS and _places(there, name, folder) == _places(here, name, folder))
    }


def _facts(description: Mapping[str, Any]) -> dict[str, Any]:
    facts = description["arguments"] | description.get("contents", {})
    return facts | ({"number of processes": description["world_size"]} if "world_size" in description else {})


def _places(description: Mapping[str, Any], name: str, folder: Path) -> list[str] | None:
    paths = description["arguments"][name]
    if paths is None:
        return None
    paths = paths if isinstance(paths, list) else [paths]
    return [os.path.realpath(folder / os.path.expanduser(path)) for path in paths]


def check_resumed(
    checkpoint: str, before: Mapping[str, Any] | None, now: Mapping[str, Any], args: TrainingArguments
) -> None:
    """Says what a resumed pretraining run changes.

    Args:
        before: description that the checkpoint holds, if it does.
        now: description of the resumed run.

    Raises:
        ValueError: it would go on with other text or another tokenizer, without `args.accept_changed_data`.
    """
    if before is None:
        notes = [f"{checkpoint} does not say what its run was made with, so nothing was compared."]
    else:
        data = _changed_data(before, now)
        if data and not args.accept_changed_data:
            raise GAUError(
                f"{checkpoint} was trained with another {' and another '.join(data)}. Resume with the same data, "
                "begin a new run with --model_name_or_path, or go on with the new data: --accept_changed_data."
            )
        recipe = [text for name, text in compare_runs(before, now).items() if not _NOT_OF_A_RECIPE.fullmatch(name)]
        notes = [f"Changed since {checkpoint}: {text}." for text in [*(f"the {name}" for name in data), *recipe]]
        if recipe:
            notes.append("The run goes on with the new values; an unbroken run may have given another model.")
    if args.should_log:
        for note in notes:
            print(note)


def check_resumed_files(checkpoint: str, now: Mapping[str, Any]) -> None:
    """Raises ValueError if a fine-tuning run would go on with files that hold something else than before.

    Args:
        now: description of the resumed run. The record beside the checkpoint describes the run so far.
    """
    before = (read_record(Path(checkpoint).parent) or {}).get("contents")
    changed = compare_values(before, now["contents"]) if isinstance(before, dict) else {}
    # The weights that it began with are no longer read, and predictions come at the end.
    read = [text for name, text in changed.items() if name.startswith("contents of ") and "test" not in name]
    if read:
        raise GAUError(
            f"{checkpoint} was trained with other files: {'; '.join(read)}. Resume with the same files, or begin anew "
            "with --overwrite_output_dir or another --output_dir."
        )


def _changed_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    labels = {"train": "training text", "validation": "validation text", "tokenizer": "tokenizer"}
    changed = [label for key, label in labels.items() if before["data"].get(key) != now["data"].get(key)]
    # Of a stream. Earlier versions compared only the sizes of its files.
    contents = [side["data"].get("contents of the files") for side in (before, now)]
    if None not in contents and contents[0] != contents[1] and "training text" not in changed:
        changed.insert(0, "content of its files")
    return changed


# The file


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """The record of the run in `folder`; None if there is none that can be read."""
    record = read_json(Path(folder) / RECORD_NAME)
    return record if isinstance(record, dict) else None


class RunRecord:
    """The file `run.json` of an output directory: a description, and what happens to the run."""

    def __init__(self, output_dir: str | Path, description: Mapping[str, Any], resumed_from: str | None):
        self.folder = Path(output_dir)
        self.content = {"status": "running", "started": _now()} | dict(description)
        if resumed_from is not None:
            earlier = read_record(output_dir) or {}
            self.content["started"] = earlier.get("started", self.content["started"])
            resumed = {"checkpoint": Path(resumed_from).name, "time": _now()}
            self.content["resumed"] = [*earlier.get("resumed", []), resumed]

    def write(self, **values: Any) -> None:
        """Adds `values` and replaces the file in one step, so that a reader never sees half of it.

        Raises:
            OSError: the file cannot be written; the one before is still there, and nothing else.
        """
        self.content |= values | {"updated": _now()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / RECORD_NAME, for_json(self.content))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
