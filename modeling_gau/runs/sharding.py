# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Training with FSDP2: what `transformers.Trainer` on accelerate leaves to be wished for.

- Checkpoints. With `SHARDED_STATE_DICT` the Trainer's checkpoints hold neither configuration nor weights that
  `from_pretrained` reads, its `save_model` writes nothing at all and says nothing; with `FULL_STATE_DICT` every
  checkpoint holds the weights twice and the optimizer's state passes through one process. Here both write
  `model.safetensors`, and the optimizer's state in shards (`runs/optimizer_state.py`).
- Code files. `fully_shard` gives the model a class of its own, whose source are files of PyTorch: a checkpoint would
  bring those and name them in `auto_map`, and could not be loaded without this package.
- Precision. accelerate's policy for bfloat16 also rounds what enters and leaves each layer, among it the rotary
  angles, the factor that depends on n and the loss, and sums gradients over processes in bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, StateDictType
from transformers import PreTrainedModel, Trainer
from transformers.utils import SAFE_WEIGHTS_NAME


# Weights are gathered and layers computed in bfloat16; gradients are summed over processes in float32, as DDP does.
_BFLOAT16 = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)


@contextmanager
def plain_class(model: PreTrainedModel) -> Iterator[None]:
    """Gives a sharded model the class it was made with, for as long as its code files and configuration are saved."""
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
    """Loads `model.safetensors` of a checkpoint into a sharded model; each process reads the rows it holds.

    Raises:
        ValueError: the directory has no weights, or not all that the model needs.
    """
    reader = dcp.HuggingFaceStorageReader(str(directory))
    there = reader.read_metadata().state_dict_metadata if Path(directory).is_dir() else {}
    weights = get_model_state_dict(model)
    if missing := sorted(weights.keys() - there.keys() - _tied_names(model)):
        raise ValueError(
            f"The checkpoint {directory} does not hold the weights {', '.join(missing[:4])}"
            f"{'' if len(missing) <= 4 else f' and {len(missing) - 4} more'}: {SAFE_WEIGHTS_NAME} is missing or of "
            "another model."
        )
    weights = {name: weight for name, weight in weights.items() if name in there}
    dcp.load(weights, storage_reader=reader)
    set_model_state_dict(model, weights, options=StateDictOptions(strict=False))


def _tied_names(model: PreTrainedModel) -> set[str]:
    """Names of weights that are others as well, and saved under the other name only."""
    return set(model.all_tied_weights_keys)


class ShardedTrainer(Trainer):
    """[`Trainer`] whose FSDP2 runs leave checkpoints as other runs do, and resume on another number of processes.

    Without FSDP2 it is the Trainer. The checkpoints of an FSDP2 run are resumed under FSDP2, but the files of weights
    and optimizer are such that any strategy can read them.
    """

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled and self.args.bf16:
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = _BFLOAT16

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        plugin = self.accelerator.state.fsdp_plugin
        asked_for = plugin.state_dict_type
        plugin.state_dict_type = StateDictType.FULL_STATE_DICT
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            plugin.state_dict_type = asked_for

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.is_fsdp_enabled:
            # Gathered one by one, they no longer share memory, by which transformers would know them.
            state_dict = {name: state_dict[name] for name in state_dict if name not in _tied_names(self.model)}
        with plain_class(self.model):
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            load_sharded_weights(resume_from_checkpoint, model or self.model)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            load_sharded_weights(self.state.best_model_checkpoint, self.model)
        else:
            super()._load_best_model()
