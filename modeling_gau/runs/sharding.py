# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""FSDP2: what `transformers.Trainer` on accelerate does not handle.

- Checkpoints. With `SHARDED_STATE_DICT`, the Trainer's checkpoints hold neither a configuration nor weights that
  `from_pretrained` reads, and its `save_model` silently writes nothing; with `FULL_STATE_DICT`, each checkpoint holds
  the weights twice and the optimizer's state passes through one process. Here, both write `model.safetensors`, and the
  optimizer's state in shards (`optimizer_state.py`).
- Code files. `fully_shard` gives the model a new class whose source is PyTorch's: a checkpoint would bring those files
  and name them in `auto_map`, and would not load without this package.
- Precision. accelerate's policy for bfloat16 also rounds the inputs and outputs of each layer, such as rotary angles,
  the factor that depends on n, and the loss; and it sums gradients over processes in bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from ..configuration_gau import GAUError


# Weights are gathered and layers computed in bfloat16; gradients are summed over processes in float32, as DDP does.
BFLOAT16_POLICY = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)


@contextmanager
def plain_class(model: PreTrainedModel) -> Iterator[None]:
    """Gives a sharded model its original class while its code files and configuration are saved."""
    sharded = type(model)
    if not issubclass(sharded, FSDPModule):
        yield
        return
    model.__class__ = next(base for base in sharded.__bases__ if base is not FSDPModule)
    try:
        yield
    finally:
        model.__class__ = sharded


def load_sharded_weights(directory: str | Path, model: PreTrainedModel) -> None:
    """Loads `model.safetensors` of a checkpoint into a sharded model; each process reads its own rows.

    Raises:
        ValueError: the directory lacks weights that the model needs.
    """
    reader = dcp.HuggingFaceStorageReader(str(directory))
    there = reader.read_metadata().state_dict_metadata if Path(directory).is_dir() else {}
    weights = get_model_state_dict(model)
    if missing := sorted(weights.keys() - there.keys() - tied_names(model)):
        raise GAUError(
            f"The checkpoint {directory} does not hold the weights {', '.join(missing[:4])}"
            f"{'' if len(missing) <= 4 else f' and {len(missing) - 4} more'}: {SAFE_WEIGHTS_NAME} is missing or of "
            "another model."
        )
    weights = {name: weight for name, weight in weights.items() if name in there}
    dcp.load(weights, storage_reader=reader)
    set_model_state_dict(model, weights, options=StateDictOptions(strict=False))


def tied_names(model: PreTrainedModel) -> set[str]:
    """Names of tied weights that are saved under another name."""
    return set(model.all_tied_weights_keys)
