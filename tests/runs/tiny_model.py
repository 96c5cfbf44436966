# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""A model that is quick to make, train and save, for tests of the Trainer. It has dropout, so random states matter."""

import torch
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput


VOCAB_SIZE = 40
STEEP = 1e38  # a factor that leaves the loss small and makes its slope huge
QUIET = {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}


class TinyModel(PreTrainedModel):
    """`factor` multiplies the loss."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        self.embeddings = torch.nn.Embedding(VOCAB_SIZE, 32)
        self.dropout = torch.nn.Dropout(0.1)
        self.head = torch.nn.Linear(32, VOCAB_SIZE)
        self.post_init()

    def forward(self, input_ids, labels=None, factor=None):
        logits = self.head(self.dropout(self.embeddings(input_ids)))
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        if factor is not None:
            steep = (factor == STEEP).any()
            loss = loss + (loss - loss.detach()) * STEEP if steep else loss * factor.mean()
        return MaskedLMOutput(loss=loss, logits=logits)


def make_tiny() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel(PreTrainedConfig(vocab_size=VOCAB_SIZE))


def make_rows(count: int = 64) -> list[dict[str, torch.Tensor]]:
    rows = torch.randint(0, VOCAB_SIZE, (count, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in rows]


def flat(state, prefix: str = "") -> dict:
    if isinstance(state, dict):
        return {k: v for key, item in state.items() for k, v in flat(item, f"{prefix}.{key}").items()}
    return {prefix: state}


def assert_same_state(one: dict, other: dict) -> None:
    """Bit by bit, also of nested states."""
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype, key
            assert torch.equal(value, other[key]), key
        else:
            assert value == other[key], key
