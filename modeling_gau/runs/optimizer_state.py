# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The state of a sharded optimizer in safetensors and JSON, by parameter name.

Each process writes its own shards. They load on any number of processes and under any strategy: one process, DDP or
FSDP2. torch's and accelerate's own formats are pickles (`optimizer.bin`, the `.metadata` of sharded directories) tied
to the strategy that wrote them.
"""

import json
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from ..configuration_gau import GAUError
from .state_files import content_of, read_own_json


SETTINGS_NAME = "settings.json"


def save_optimizer_state(directory: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes the state of `optimizer`. All processes call it; each writes its part.

    Args:
        directory: created if missing; shared by all processes and used for nothing else.
        model: owner of the parameters; plain, in DDP or sharded by FSDP2.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors, settings = _split(_flatten(get_optimizer_state_dict(model, optimizer)))
    if not dist.is_initialized() or dist.get_rank() == 0:
        # Python writes all digits of a float: it comes back bit by bit.
        (directory / SETTINGS_NAME).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    writer = dcp.HuggingFaceStorageWriter(str(directory), save_distributed=True)
    dcp.save(tensors, storage_writer=writer)


def load_optimizer_state(directory: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Loads what [`save_optimizer_state`] wrote, on any number of processes.

    Raises:
        ValueError: the directory holds no such state, or the state of another model or optimizer.
    """
    directory = Path(directory)
    if not (directory / SETTINGS_NAME).is_file():
        raise GAUError(f"{directory} holds no state of an optimizer: it has no {SETTINGS_NAME}.")
    with content_of(directory / SETTINGS_NAME):
        saved = dict(read_own_json(directory / SETTINGS_NAME))
    # The optimizer's own state (torch makes one by a step of length 0 if needed) says what to read, and where to.
    state = get_optimizer_state_dict(model, optimizer)
    tensors, settings = _split(_flatten(state))
    with content_of(directory):
        reader = dcp.HuggingFaceStorageReader(str(directory))
        shapes = {key: entry.size for key, entry in reader.read_metadata().state_dict_metadata.items()}
    odd = (shapes.keys() | saved.keys()) ^ (tensors.keys() | settings.keys())
    odd |= {key for key in tensors.keys() & shapes.keys() if tensors[key].shape != shapes[key]}
    odd |= {key for key in settings.keys() & saved.keys() if key.endswith("/params") and settings[key] != saved[key]}
    if odd:
        raise GAUError(
            f"The state in {directory} belongs to another model or optimizer: {len(odd)} entries differ, such as "
            f"{', '.join(sorted(odd)[:3])}. Resume with the settings of the run that wrote it."
        )
    with warnings.catch_warnings():
        # There may be only one process.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.load(tensors, storage_reader=reader)
    _unflatten(tensors | saved, state)
    set_optimizer_state_dict(model, optimizer, state)


def _flatten(state: dict) -> dict[str, object]:
    """`state/<parameter>/<name>` and `groups/<number>/<name>` -> value. A parameter's name has dots, but no slash."""
    flat = {f"state/{name}/{key}": value for name, values in state["state"].items() for key, value in values.items()}
    for number, group in enumerate(state["param_groups"]):
        flat |= {f"groups/{number}/{key}": value for key, value in group.items()}
    return flat


def _unflatten(flat: dict[str, object], state: dict) -> None:
    """Writes the values of [`_flatten`] back into `state`."""
    for path, value in flat.items():
        part, name, key = path.split("/")
        target = state["state"][name] if part == "state" else state["param_groups"][int(name)]
        target[key] = tuple(value) if isinstance(target[key], tuple) else value  # JSON has no tuples


def _split(flat: dict[str, object]) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    tensors = {key: value for key, value in flat.items() if isinstance(value, torch.Tensor)}
    return tensors, {key: value for key, value in flat.items() if key not in tensors}
