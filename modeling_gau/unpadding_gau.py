# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Sequences laid end to end in one row, `(1, tokens)`: a batch without its padding, or what a caller packed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from transformers.utils import is_tracing


# What one more call of the attention costs beside its arithmetic, in floating-point operations of a core, such that
# taking out padding never costs time (benchmarks/benchmark_unpadding.py).
_OPERATIONS_OF_A_CALL = 20e6
# Estimated, not measured: some microseconds of an accelerator.
_OPERATIONS_OF_A_CALL_ACCELERATOR = 10e9


@dataclass(frozen=True)
class LayerCost:
    """Floating-point operations of a layer: for each token, for each pair of query and key, for each call."""

    token: float
    pair: float
    call: float

    @classmethod
    def of(cls, config, device: torch.device) -> "LayerCost":
        """Of a layer of a model; a call costs the more, the more cores wait for it."""
        token = 2.0 * config.hidden_size * (3 * config.intermediate_size + config.attention_key_size)
        pair = 2.0 * (config.attention_key_size + config.intermediate_size)
        if device.type == "cpu":
            return cls(token, pair, _OPERATIONS_OF_A_CALL * torch.get_num_threads())
        return cls(token, pair, _OPERATIONS_OF_A_CALL_ACCELERATOR)


class Segment(NamedTuple):
    """Neighbouring sequences whose attention is computed at once. A tuple, so that accelerate's hooks find the mask.

    Args:
        tokens: how many.
        mask: boolean `(1, 1, tokens, tokens)`, True where query and key are of one sequence; `None` for one sequence.
    """

    tokens: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class PackedSequences:
    """The real tokens of a batch, in the order of its rows.

    Args:
        lengths: tokens of each sequence, none of them 0.
        shape: of the batch, (batch, seq).
        positions: of the real tokens in the flattened batch, int64 `(tokens,)`; `None` where all are real.
    """

    lengths: tuple[int, ...]
    shape: tuple[int, int]
    positions: torch.LongTensor | None = None

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(1, tokens, ...)` from `(batch, seq, ...)`."""
        flat = tensor.flatten(0, 1)
        return (flat if self.positions is None else flat.index_select(0, self.positions)).unsqueeze(0)

    def put_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, seq, ...)` from `(1, tokens, ...)`, 0 where there is padding."""
        tokens = tensor.squeeze(0)
        if self.positions is not None:
            padded = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])
            # Layers may lie on several devices, the last one on another than the first.
            tokens = padded.index_copy(0, self.positions.to(tokens.device), tokens)
        return tokens.unflatten(0, self.shape)

    def grouped(self, cost: LayerCost) -> list[tuple[int, ...]]:
        """The lengths, short neighbours together wherever that costs less than one more call."""
        groups: list[tuple[int, ...]] = []
        for length in self.lengths:
            if groups and 2 * sum(groups[-1]) * length * cost.pair < cost.call:
                groups[-1] += (length,)
            else:
                groups.append((length,))
        return groups

    def pays(self, cost: LayerCost) -> bool:
        """Whether computing the sequences in segments costs less than the batch of that shape as it is."""
        groups, (rows, width) = self.grouped(cost), self.shape
        pairs = rows * width**2 - sum(sum(group) ** 2 for group in groups)
        saved = cost.token * (rows * width - sum(self.lengths)) + cost.pair * pairs
        return saved > cost.call * len(groups)

    def documents(self) -> torch.LongTensor:
        """Which sequence each token is of, int64 `(1, tokens)`."""
        return _numbers(self.lengths, torch.device("cpu"))

    def segments(self, cost: LayerCost, device: torch.device) -> tuple[Segment, ...]:
        """What [`segmented_attention_forward`] computes, masks on `device`."""
        return tuple(
            Segment(sum(group), None if len(group) == 1 else same_document(_numbers(group, device)))
            for group in self.grouped(cost)
        )

    def flash_arguments(self, device: torch.device) -> dict[str, torch.Tensor | int]:
        """What FlashAttention takes of sequences of different lengths."""
        ends = torch.tensor((0, *self.lengths)).cumsum(0).to(device, torch.int32)
        longest = max(self.lengths)
        return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def _numbers(lengths: Sequence[int], device: torch.device) -> torch.LongTensor:
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None].to(device)


def visible_keys(documents: torch.LongTensor, window: int | None = None) -> torch.Tensor:
    """For each token of a row the number of keys that it sees, int64 `(1, seq, 1)`: its document, or what of it is
    within `window` tokens to either side.

    Args:
        documents: which one each token is of, increasing, `(1, seq)`.
    """
    places = torch.arange(documents.shape[1], device=documents.device)
    row = documents[0].contiguous()
    before = places - torch.searchsorted(row, row)
    behind = torch.searchsorted(row, row, right=True) - 1 - places
    if window is not None:
        before, behind = before.clamp(max=window), behind.clamp(max=window)
    return (before + 1 + behind)[None, :, None]


def same_document(numbers: torch.LongTensor) -> torch.Tensor:
    """Boolean mask `(batch, 1, seq, seq)`, True where query and key have the same of the `numbers` `(batch, seq)`."""
    return numbers[:, None, :, None] == numbers[:, None, None, :]


def has_holes(attention_mask: torch.Tensor) -> bool:
    """Whether padding stands between real tokens of a row; `attention_mask` `(batch, seq)`."""
    real = attention_mask != 0
    begins = (real[:, 1:] & ~real[:, :-1]).sum(-1) + real[:, 0]
    return bool((begins > 1).any())


def without_padding(attention_mask: torch.Tensor, cost: LayerCost, keep_holes: bool = False) -> PackedSequences | None:
    """The real tokens of a padded batch; `None` where computing the padding costs less than going without.

    Args:
        attention_mask: `(batch, seq)`, not 0 for real tokens.
        cost: of a layer.
        keep_holes: `None` also where padding stands between real tokens, whose distance counts.
    """
    real = attention_mask != 0
    if keep_holes and has_holes(attention_mask):
        return None
    lengths = tuple(length for length in real.sum(-1).tolist() if length)
    if not lengths or sum(lengths) == real.numel():
        return None
    packed = PackedSequences(lengths, tuple(real.shape), real.flatten().nonzero().squeeze(1))
    return packed if packed.pays(cost) else None


def has_values(*tensors: torch.Tensor) -> bool:
    """Whether tensors hold numbers that can be looked at: nothing is traced, of `torch.func`, or without memory."""
    return not any(
        is_tracing(tensor) or tensor.device.type == "meta" or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for tensor in tensors
    )


# What a caller packed


def packed_documents(
    shape: tuple[int, int],
    attention_mask: torch.Tensor | None,
    position_ids: torch.LongTensor | None,
    arguments: Mapping[str, object],
) -> torch.LongTensor | None:
    """Which sequence each token of a single row is of, int64 `(1, seq)`; `None` where each row is one sequence.

    That several are laid end to end, `cu_seq_lens_q` says, FlashAttention's argument, or, without an attention mask,
    `position_ids` whose steps are all 1 but for those back to the first value. Those have to be looked at, so that a
    model that is compiled or traced goes by `cu_seq_lens_q` alone, which it does not check.

    Args:
        shape: of the batch.
        arguments: of the model's forward, where `cu_seq_lens_q` and `cu_seq_lens_k` are looked for.

    Raises:
        ValueError: `cu_seq_lens_q` does not describe the batch.
    """
    edges, others = arguments.get("cu_seq_lens_q"), arguments.get("cu_seq_lens_k")
    if edges is not None:
        _check_edges(edges, others, shape, attention_mask)
        return torch.bucketize(torch.arange(shape[1], device=edges.device), edges[1:], right=True)[None]
    if others is not None:
        raise ValueError("cu_seq_lens_k is given without cu_seq_lens_q: give both, or cu_seq_lens_q alone.")
    if attention_mask is not None or position_ids is None or shape[0] != 1 or position_ids.shape != shape:
        return None
    if not has_values(position_ids):
        return None
    restarts = position_ids.diff(dim=-1) != 1
    # Constant positions are no sequences of one token each: somebody leaves positions out.
    if not restarts.any() or restarts.all() or (position_ids[:, 1:] != position_ids[:, :1])[restarts].any():
        return None
    return torch.nn.functional.pad(restarts.cumsum(-1), (1, 0))


def _check_edges(edges: object, others: object, shape: tuple[int, int], attention_mask: torch.Tensor | None) -> None:
    for name, given in (("cu_seq_lens_q", edges), ("cu_seq_lens_k", others)):
        if given is not None and not isinstance(given, torch.Tensor):
            raise ValueError(f"{name} must be a tensor of integers, not {type(given).__name__}.")
    if not has_values(edges):
        return
    if attention_mask is not None and not (attention_mask.ndim == 2 and bool((attention_mask != 0).all())):
        raise ValueError(
            "Give an attention_mask that hides something or cu_seq_lens_q, not both: each says which tokens see each "
            "other."
        )
    ends = edges.tolist()
    increasing = all(start <= end for start, end in pairwise(ends))
    if shape[0] != 1 or len(ends) < 2 or not increasing or ends[0] != 0 or ends[-1] != shape[1]:
        raise ValueError(
            "cu_seq_lens_q says where sequences begin that are laid end to end in one row: 0, increasing numbers, and "
            f"the length of the row. Got {ends} for a batch of shape {tuple(shape)}."
        )
    if others is not None and others.tolist() != ends:
        raise ValueError("cu_seq_lens_k differs from cu_seq_lens_q: the tokens of an encoder see their own sequence.")


def restarting_positions(documents: torch.LongTensor) -> torch.LongTensor:
    """Positions that begin anew with each document, int64 `(1, seq)` for `documents` `(1, seq)`."""
    places = torch.arange(documents.shape[1], device=documents.device)
    return (places - torch.searchsorted(documents[0], documents[0]))[None]


def laid_end_to_end(documents: torch.LongTensor) -> PackedSequences:
    """The sequences of a row, `documents` `(1, seq)`."""
    lengths = torch.unique_consecutive(documents[0], return_counts=True)[1]
    return PackedSequences(tuple(lengths.tolist()), tuple(documents.shape))
