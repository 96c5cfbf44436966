# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""State in files without pickles: JSON that is always whole, state dictionaries as safetensors and JSON, and the
states of random number generators."""

import errno
import json
import math
import os
import pickle
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..configuration_gau import GAUError


# What content that is damaged, or has another form, raises. RuntimeError: RecursionError and torch's own.
_UNREADABLE = (
    AttributeError, EOFError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError,
    SafetensorError, pickle.UnpicklingError,
)  # fmt: skip


class StateError(GAUError):
    """A saved state cannot be used. The message names the file."""


@contextmanager
def content_of(path: Path) -> Iterator[None]:
    """Around the reading and the use of a saved state: an error of its content becomes a StateError that names it."""
    try:
        yield
    except (StateError, torch.OutOfMemoryError):
        raise
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # torch's for an archive that is cut short
            raise
        # The first sentence: torch goes on to suggest `weights_only=False`, which may run code that the file holds.
        said = (str(error).splitlines() or [""])[0].partition(". ")[0]
        raise StateError(
            f"{path} cannot be used: it is damaged or was saved by another program ({type(error).__name__}: {said}). "
            "Resume from an earlier checkpoint."
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Writes `content` so that the file is always whole: the old one or the new one."""
    # Other readers refuse NaN and infinity, which JSON does not have.
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any | None:
    """Returns what a JSON file holds; None if there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_own_json(path: Path) -> Any | None:
    """Returns what a JSON file of a checkpoint holds; None if the plain Trainer saved it, without such a file.

    Raises:
        OSError, ValueError: the file cannot be read. To go on as if it were missing would change the run.
    """
    if not path.is_file():
        return None
    with content_of(path):
        return json.loads(path.read_text(encoding="utf-8"))


def for_json(content: Any) -> Any:
    """Replaces what JSON does not have by strings: infinity, NaN and other objects."""
    return json.loads(json.dumps(content, default=str), parse_constant=str)


# ---- State dicts as safetensors and JSON ----


def save_state(folder: Path, name: str, state: Any) -> None:
    """Writes a nested state as `<name>.json`, and its tensors, if any, as `<name>.safetensors`.

    Args:
        state: dicts, lists, tuples, numbers, strings, None and dense tensors, nested at will. [`load_state`] returns
            every number and every bit.

    Raises:
        TypeError: `state` holds something else; the message says where.
    """
    tensors: dict[str, torch.Tensor] = {}
    content = state_to_json(state, name, tensors)
    if tensors:
        save_file(_apart(tensors), folder / f"{name}.safetensors", metadata={"format": "pt"})
    write_json(folder / f"{name}.json", content)
    if tensors:  # safetensors may leave them to their owner
        shutil.copymode(folder / f"{name}.json", folder / f"{name}.safetensors")


def load_state(folder: Path, name: str) -> Any:
    """Reads what [`save_state`] wrote; tensors are on the CPU."""
    path, tensors = folder / f"{name}.safetensors", {}
    if path.is_file():
        with content_of(path), safe_open(path, framework="pt", device="cpu") as file:
            # Copies, because a mapped tensor would keep a deleted checkpoint on the disk.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
    path = folder / f"{name}.json"
    with content_of(path):
        return state_from_json(json.loads(path.read_text(encoding="utf-8")), tensors)


def state_to_json(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": repr(float(value))}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        tensors[place] = value.detach()
        return {"__tensor__": place}
    if isinstance(value, (list, tuple)):
        items = [state_to_json(item, f"{place}.{i}", tensors) for i, item in enumerate(value)]
        return {"__tuple__": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        items = [(key, state_to_json(item, f"{place}.{key}", tensors)) for key, item in value.items()]
        plain = all(isinstance(key, str) and not key.startswith("__") for key in value)
        return dict(items) if plain else {"__items__": [list(item) for item in items]}
    raise TypeError(
        f"{place} is a {type(value).__name__}, which a checkpoint of safetensors and JSON cannot hold. Take "
        "another optimizer or scheduler, or --save_only_model, which cannot resume."
    )


def state_from_json(content: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(content, list):
        return [state_from_json(item, tensors) for item in content]
    if not isinstance(content, dict):
        return content
    if "__tensor__" in content:
        return tensors[content["__tensor__"]]
    if "__float__" in content:
        return float(content["__float__"])
    if "__tuple__" in content:
        return tuple(state_from_json(content["__tuple__"], tensors))
    if "__items__" in content:
        return {key: state_from_json(item, tensors) for key, item in content["__items__"]}
    return {key: state_from_json(item, tensors) for key, item in content.items()}


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Makes tensors fit for safetensors: contiguous, and no two in one piece of memory."""
    seen, apart = set(), {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone(memory_format=torch.contiguous_format) if storage in seen else tensor.contiguous()
        seen.add(storage)
    return apart


def without_callables(state: Any) -> Any:
    """Drops the functions of a scheduler's state; its constructor restores them."""
    if isinstance(state, dict):
        return {key: without_callables(value) for key, value in state.items() if not callable(value)}
    if isinstance(state, (list, tuple)):
        return type(state)(without_callables(value) for value in state)
    return state


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Calls `optimizer.load_state_dict`, but keeps the saved precision of every tensor.

    torch casts the state to the precision of the parameter: float32 statistics of bfloat16 weights (Adafactor) would
    lose bits at every resume.
    """
    optimizer.load_state_dict(state)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    indices = [index for group in state["param_groups"] for index in group["params"]]
    for index, parameter in zip(indices, parameters, strict=True):
        for key, saved in state["state"].get(index, {}).items():
            loaded = optimizer.state[parameter].get(key)
            both = isinstance(saved, torch.Tensor) and isinstance(loaded, torch.Tensor)
            if both and loaded.dtype != saved.dtype:
                optimizer.state[parameter][key] = saved.to(loaded.device)


# ---- Random numbers ----


def random_state(device: torch.device, all_devices: bool = False) -> dict[str, Any]:
    """Returns the generator states of Python, numpy, torch and `device` (or all of its kind), as JSON."""
    name, keys, *rest = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "cpu": _bytes_to_hex(torch.get_rng_state()),
    }
    if device.type != "cpu":
        module = torch.get_device_module(device)
        devices = range(module.device_count()) if all_devices else [device]
        # Apple's backend has one device and takes no argument.
        states = [module.get_rng_state()] if device.type == "mps" else [module.get_rng_state(d) for d in devices]
        state[device.type] = [_bytes_to_hex(one) for one in states]
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device, all_devices: bool = False) -> None:
    """Restores what [`random_state`] returned. Leaves generators of other kinds of device alone."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_hex_to_bytes(state["cpu"]))
    if device.type == "cpu" or device.type not in state:
        return
    module = torch.get_device_module(device)
    devices = range(module.device_count()) if all_devices else [device]
    for one, hexadecimal in zip(devices, state[device.type], strict=False):
        place = () if device.type == "mps" else (one,)
        module.set_rng_state(_hex_to_bytes(hexadecimal), *place)


def _bytes_to_hex(tensor: torch.Tensor) -> str:
    return tensor.cpu().numpy().tobytes().hex()


def _hex_to_bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
