# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""One plan per batch: where its tokens stand in the layers, which keys each token sees, and how many (n).

Layers compute either the batch as given, `(batch, seq)`, with a mask, or its sequences laid end to end in one row,
`(1, tokens)`, without padding and without pairs across sequences. Axes are named as in `attention_gau.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask
from transformers.utils import is_tracing

from .configuration_gau import GAUError


FLASH_ARGUMENTS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")

# The overhead of one more attention call, in floating-point operations of a core. Measured with
# benchmarks/benchmark_unpadding.py, and high enough that removing padding never costs time.
_OPERATIONS_OF_A_CALL = 20e6
# Estimated, not measured: a few microseconds of an accelerator.
_OPERATIONS_OF_A_CALL_ACCELERATOR = 10e9
# Libraries whose hooks move and shard weights or record outputs.
_LIBRARIES_WITH_HOOKS = ("accelerate", "deepspeed", "torch", "transformers")


# Masks, and n


def split_mask(attention_mask: torch.Tensor | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Splits a mask into a bias on the scores and the visible keys.

    Args:
        attention_mask: `(batch or 1, 1, query or 1, key)`: boolean (`True` is visible) or additive. Additive values of
            -10000 or less hide a key: transformers writes the dtype's minimum, others -inf, -1e9 or -1e4.

    Returns:
        (bias, visible), each of the mask's shape or `None`; `bias` is finite everywhere.
    """
    if attention_mask is None:
        return None, None
    if attention_mask.dtype == torch.bool:
        return None, attention_mask
    visible = attention_mask > -1e4
    return attention_mask.masked_fill(~visible, 0.0), visible


def key_count(attention_mask: torch.Tensor | None, seq_length: int, window: int | None = None) -> torch.Tensor:
    """The number n of keys that each query sees, int64 `(batch or 1, seq or 1, 1)`.

    Args:
        attention_mask: `(batch, seq)`, nonzero at real tokens, or as in [`split_mask`]; `None`: every key is real.
        window: how many tokens to either side a query sees; `None` for all.
    """
    if attention_mask is None:
        if window is None:
            return torch.full((1, 1, 1), seq_length)
        attention_mask = torch.ones(1, seq_length, dtype=torch.bool)
    if attention_mask.ndim == 4 and attention_mask.shape[2] == 1:
        attention_mask = split_mask(attention_mask)[1][:, 0, 0]  # a mask of pairs would be quadratic
    if attention_mask.ndim == 4:
        mask = within_window(attention_mask, seq_length, seq_length, window and window + 1, attention_mask.device)
        return split_mask(mask)[1].sum(-1).transpose(1, 2)
    real = attention_mask != 0
    if window is None:
        return real.sum(-1)[:, None, None]
    places = torch.arange(seq_length, device=real.device)
    before = nn.functional.pad(real.cumsum(-1), (1, 0))
    ends, begins = (places + window + 1).clamp(max=seq_length), (places - window).clamp(min=0)
    return (before[:, ends] - before[:, begins]).unsqueeze(-1)


def within_window(
    attention_mask: torch.Tensor | None, queries: int, keys: int, sliding_window: int | None, device: torch.device
) -> torch.Tensor | None:
    """A mask `(batch or 1, 1, query or 1, key)` that also hides keys at a distance of `sliding_window` or more."""
    # A traced model also runs at other lengths than this one.
    fixed = not (torch.compiler.is_exporting() or torch.jit.is_tracing())
    if sliding_window is None or (fixed and sliding_window >= max(queries, keys)):
        return attention_mask
    rows, columns = torch.arange(queries, device=device), torch.arange(keys, device=device)
    near = (rows[:, None] - columns).abs() < sliding_window
    if attention_mask is None:
        return near[None, None]
    if attention_mask.dtype == torch.bool:
        return attention_mask & near
    return attention_mask.masked_fill(~near, torch.finfo(attention_mask.dtype).min)


# Sequences laid end to end


@dataclass(frozen=True)
class LayerCost:
    """Floating-point operations of a layer per token, per pair of query and key, and per attention call."""

    token: float
    pair: float
    call: float

    @classmethod
    def of(cls, config, device: torch.device) -> "LayerCost":
        """The cost of one layer of a model. A call costs more when more cores wait for it."""
        token = 2.0 * config.hidden_size * (3 * config.intermediate_size + config.attention_key_size)
        pair = 2.0 * (config.attention_key_size + config.intermediate_size)
        if device.type == "cpu":
            return cls(token, pair, _OPERATIONS_OF_A_CALL * torch.get_num_threads())
        return cls(token, pair, _OPERATIONS_OF_A_CALL_ACCELERATOR)


class Segment(NamedTuple):
    """Neighbouring sequences computed in one attention call. A tuple, so that accelerate's hooks find the mask.

    Args:
        tokens: number of tokens.
        mask: boolean `(1, 1, tokens, tokens)`, True where query and key share a sequence; `None` for one sequence.
    """

    tokens: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class PackedSequences:
    """The real tokens of a batch, row by row.

    Args:
        lengths: number of tokens of each sequence, at least 1.
        shape: shape of the batch, (batch, seq).
        positions: indices of the real tokens in the flattened batch, int64 `(tokens,)`; `None` if all are real.
    """

    lengths: tuple[int, ...]
    shape: tuple[int, int]
    positions: torch.LongTensor | None = None

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(1, tokens, ...)` from `(batch, seq, ...)`."""
        flat = tensor.flatten(0, 1)
        return (flat if self.positions is None else flat.index_select(0, self.positions.to(flat.device))).unsqueeze(0)

    def put_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, seq, ...)` from `(1, tokens, ...)`, 0 where there is padding."""
        tokens = tensor.squeeze(0)
        if self.positions is not None:
            padded = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])
            # The last layer may be on another device than the first.
            tokens = padded.index_copy(0, self.positions.to(tokens.device), tokens)
        return tokens.unflatten(0, self.shape)

    def grouped(self, cost: LayerCost) -> list[tuple[int, ...]]:
        """The lengths in groups: short neighbours share a call where that is cheaper than another call."""
        groups: list[tuple[int, ...]] = []
        for length in self.lengths:
            if groups and 2 * sum(groups[-1]) * length * cost.pair < cost.call:
                groups[-1] += (length,)
            else:
                groups.append((length,))
        return groups

    def pays(self, cost: LayerCost) -> bool:
        """Whether computing the sequences in segments is cheaper than computing the padded batch."""
        groups, (rows, width) = self.grouped(cost), self.shape
        pairs = rows * width**2 - sum(sum(group) ** 2 for group in groups)
        saved = cost.token * (rows * width - sum(self.lengths)) + cost.pair * pairs
        return saved > cost.call * len(groups)

    def documents(self) -> torch.LongTensor:
        """The number of each token's sequence, int64 `(1, tokens)`."""
        return _numbers(self.lengths, torch.device("cpu"))

    def segments(self, cost: LayerCost, device: torch.device) -> tuple[Segment, ...]:
        """The segments for [`segmented_attention_forward`], with masks on `device`."""
        return tuple(
            Segment(sum(group), None if len(group) == 1 else same_document(_numbers(group, device)))
            for group in self.grouped(cost)
        )

    def flash_arguments(self, device: torch.device) -> dict[str, torch.Tensor | int]:
        """FlashAttention's arguments for sequences of different lengths."""
        ends = torch.tensor((0, *self.lengths)).cumsum(0).to(device, torch.int32)
        longest = max(self.lengths)
        return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def _numbers(lengths: Sequence[int], device: torch.device) -> torch.LongTensor:
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None].to(device)


def visible_keys(documents: torch.LongTensor, window: int | None = None) -> torch.Tensor:
    """The number of keys that each token of a row sees, int64 `(1, seq, 1)`: its whole document, or the part of it
    within `window` tokens to either side.

    Args:
        documents: the number of each token's document, increasing, `(1, seq)`.
    """
    places = torch.arange(documents.shape[1], device=documents.device)
    row = documents[0].contiguous()
    before = places - torch.searchsorted(row, row)
    behind = torch.searchsorted(row, row, right=True) - 1 - places
    if window is not None:
        before, behind = before.clamp(max=window), behind.clamp(max=window)
    return (before + 1 + behind)[None, :, None]


def same_document(numbers: torch.LongTensor) -> torch.Tensor:
    """Boolean mask `(batch, 1, seq, seq)`, True where query and key have equal `numbers` `(batch, seq)`."""
    return numbers[:, None, :, None] == numbers[:, None, None, :]


def has_holes(attention_mask: torch.Tensor) -> bool:
    """Whether a row of `attention_mask` `(batch, seq)` has padding between real tokens."""
    real = attention_mask != 0
    begins = (real[:, 1:] & ~real[:, :-1]).sum(-1) + real[:, 0]
    return bool((begins > 1).any())


def without_padding(attention_mask: torch.Tensor, cost: LayerCost, keep_holes: bool = False) -> PackedSequences | None:
    """The real tokens of a padded batch; `None` if computing the padding is cheaper than removing it.

    Args:
        attention_mask: `(batch, seq)`, nonzero at real tokens.
        cost: cost of a layer.
        keep_holes: also return `None` if there is padding between real tokens, so that their distances stay.
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
    """Whether all tensors hold readable values: none is traced, wrapped by `torch.func` or on the meta device."""
    return not any(
        is_tracing(tensor) or tensor.device.type == "meta" or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for tensor in tensors
    )


# Rows that the caller packed


def packed_documents(
    shape: tuple[int, int],
    attention_mask: torch.Tensor | None,
    position_ids: torch.LongTensor | None,
    arguments: Mapping[str, object],
) -> torch.LongTensor | None:
    """The number of each token's sequence in a packed row, int64 `(1, seq)`; `None` if each row is one sequence.

    `cu_seq_lens_q`, FlashAttention's argument, marks packed rows. Without an attention mask, so do `position_ids` that
    count up by 1 and jump back to their first value. A compiled or traced model cannot read positions: it relies on
    `cu_seq_lens_q` alone and does not check it.

    Args:
        shape: shape of the batch.
        arguments: arguments of the model's forward, which may hold `cu_seq_lens_q` and `cu_seq_lens_k`.

    Raises:
        ValueError: `cu_seq_lens_q` does not describe the batch.
    """
    edges, others = arguments.get("cu_seq_lens_q"), arguments.get("cu_seq_lens_k")
    if edges is not None:
        _check_edges(edges, others, shape, attention_mask)
        return torch.bucketize(torch.arange(shape[1], device=edges.device), edges[1:], right=True)[None]
    if others is not None:
        raise GAUError("cu_seq_lens_k is given without cu_seq_lens_q: give both, or cu_seq_lens_q alone.")
    if attention_mask is not None or position_ids is None or shape[0] != 1 or position_ids.shape != shape:
        return None
    if not has_values(position_ids):
        return None
    restarts = position_ids.diff(dim=-1) != 1
    # Constant positions do not mean sequences of one token: the caller switches positions off.
    if not restarts.any() or restarts.all() or (position_ids[:, 1:] != position_ids[:, :1])[restarts].any():
        return None
    return nn.functional.pad(restarts.cumsum(-1), (1, 0))


def _check_edges(edges: object, others: object, shape: tuple[int, int], attention_mask: torch.Tensor | None) -> None:
    for name, given in (("cu_seq_lens_q", edges), ("cu_seq_lens_k", others)):
        if given is not None and not isinstance(given, torch.Tensor):
            raise GAUError(f"{name} must be a tensor of integers, not {type(given).__name__}.")
        if given is not None and (given.ndim != 1 or given.is_floating_point()):
            raise GAUError(f"{name} must be one row of integers, but is {given.dtype} of shape {tuple(given.shape)}.")
    if not has_values(edges):
        return
    if attention_mask is not None and not (attention_mask.ndim == 2 and bool((attention_mask != 0).all())):
        raise GAUError(
            "Give an attention_mask that hides something or cu_seq_lens_q, not both: each says which tokens see each "
            "other."
        )
    ends = edges.tolist()
    increasing = all(start <= end for start, end in pairwise(ends))
    if shape[0] != 1 or len(ends) < 2 or not increasing or ends[0] != 0 or ends[-1] != shape[1]:
        raise GAUError(
            "cu_seq_lens_q must list where each sequence of a packed row begins: 0, increasing numbers, and "
            f"the length of the row. Got {ends} for a batch of shape {tuple(shape)}."
        )
    if others is not None and others.tolist() != ends:
        raise GAUError("cu_seq_lens_k differs from cu_seq_lens_q: the tokens of an encoder see their own sequence.")


def restarting_positions(documents: torch.LongTensor) -> torch.LongTensor:
    """Positions that restart with each document, int64 `(batch, seq)` like `documents`."""
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = nn.functional.pad(documents.diff(dim=-1) != 0, (1, 0), value=True)
    return places - torch.where(begins, places, 0).cummax(-1).values


def laid_end_to_end(documents: torch.LongTensor) -> PackedSequences:
    """The sequences of a row, `documents` `(1, seq)`."""
    lengths = torch.unique_consecutive(documents[0], return_counts=True)[1]
    return PackedSequences(tuple(lengths.tolist()), tuple(documents.shape))


def documents_end_to_end(document_ids: torch.LongTensor) -> PackedSequences | None:
    """The documents of a batch, row by row; `None` if there is none or one is not contiguous.

    Args:
        document_ids: `(batch, seq)`, equal for the tokens of a document, 0 at padding.
    """
    size = document_ids.max() + 1
    rows = torch.arange(document_ids.shape[0], device=document_ids.device)[:, None]
    numbers = (document_ids + rows * size).flatten()
    places = document_ids.flatten().nonzero().squeeze(1)
    found, lengths = torch.unique_consecutive(numbers[places], return_counts=True)
    pieces = (torch.unique_consecutive(numbers) % size != 0).sum()
    if not len(found) or not len(found.unique()) == len(found) == pieces:
        return None
    return PackedSequences(tuple(lengths.tolist()), tuple(document_ids.shape), places)


# The plan


class Backend(Protocol):
    """The properties of a backend (`attention_gau.AttentionBackend`) that a plan depends on."""

    takes_sequences: bool
    takes_lengths: bool
    separates_sequences: bool


@dataclass(frozen=True)
class Layers:
    """What a plan depends on besides the batch.

    Args:
        config: the model's configuration.
        types: the type of each layer, `"full_attention"` or `"sliding_attention"`. It comes from the layers, since
            some may have been removed after the configuration was made.
        backend: the attention backend.
        plain: no layer is compiled or wrapped. A compiled one would recompile for every new set of lengths.
        attentions, hidden_states: whether the caller asks for them.
        modules: the layers themselves. Users' hooks on them see the batch as given.
    """

    config: PreTrainedConfig
    types: tuple[str, ...]
    backend: Backend
    plain: bool
    attentions: bool
    hidden_states: bool
    modules: nn.ModuleList

    @property
    def takes_packed(self) -> bool:
        """Whether the layers can compute sequences laid end to end by their lengths."""
        return not self.attentions and (self.backend.takes_lengths or (self.backend.takes_sequences and self.plain))

    def are_watched(self) -> bool:
        """Whether somebody sees hidden states within the layers."""
        return self.hidden_states or any(map(_has_hooks, self.modules.modules()))

    def cost(self, device: torch.device) -> LayerCost:
        cost = LayerCost.of(self.config, device)
        # One call takes all lengths.
        return replace(cost, call=0.0) if self.backend.takes_lengths else cost

    def gain_on(self, device: torch.device) -> bool:
        """Whether laying rows end to end can save time. Elsewhere many small products cost more than the padding."""
        return self.backend.takes_lengths or device.type == "cpu"

    @property
    def windows(self) -> dict[str, int | None]:
        """Tokens to either side that layers of each type see; `None` for all."""
        windows = {"full_attention": None, "sliding_attention": self.config.sliding_window}
        return {kind: windows[kind] for kind in sorted(set(self.types))}

    def check_separation(self) -> None:
        if not self.backend.separates_sequences:
            raise GAUError(
                f"attn_implementation='{self.config._attn_implementation}' cannot keep sequences of one row apart. "
                "Use 'sdpa', 'gau_blocked', 'eager' or FlashAttention for packed sequences."
            )

    def check_holes(self, attention_mask: torch.Tensor) -> None:
        if not self.backend.takes_lengths or "sliding_attention" not in self.windows:
            return
        if has_values(attention_mask) and has_holes(attention_mask):
            raise GAUError(
                f"attn_implementation='{self.config._attn_implementation}' closes the gaps that an attention_mask has "
                "between real tokens, which changes what a sliding_window shows. Use 'sdpa', 'gau_blocked' or 'eager'."
            )


def _has_hooks(module: nn.Module) -> bool:
    """Whether a user's hooks see what passes through a module. Those of libraries (FSDP, recorded outputs) do not mind
    its form."""
    forward, backward = module._forward_hooks, module._backward_hooks
    return any(
        str(hook.__module__).partition(".")[0] not in _LIBRARIES_WITH_HOOKS
        for hooks in (forward, module._forward_pre_hooks, backward, module._backward_pre_hooks)
        for hook in hooks.values()
    )


@dataclass(frozen=True)
class BatchPlan:
    """Where the tokens of a batch stand in the layers, and which keys each token sees.

    Args:
        shape: shape of the batch as given, (batch, seq).
        position_ids: `(batch or 1, seq)`, or `(1, tokens)` with `takes_inputs`.
        attention_mask: `(batch, seq)` or 4-D; `None` if nothing is hidden, or if `packed` or `lengths` replaces it.
        packed: the sequences, if they are laid end to end.
        takes_inputs: whether tokens are taken before the embeddings rather than after.
        documents: the number of each token's sequence, `(1, tokens)`, with `lengths`.
        lengths: FlashAttention's arguments as given by the caller.
        padding: boolean `(batch, seq)`, True where the final hidden states become 0.
    """

    shape: tuple[int, int]
    position_ids: torch.LongTensor
    attention_mask: torch.Tensor | None = None
    packed: PackedSequences | None = None
    takes_inputs: bool = False
    documents: torch.LongTensor | None = None
    lengths: Mapping[str, object] | None = None
    padding: torch.Tensor | None = None

    def take_inputs(self, *tensors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """The inputs of the embeddings, from tensors `(batch or 1, seq, ...)`."""
        return tuple(map(self._taken, tensors)) if self.takes_inputs else tensors

    def take(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The inputs of the layers, from tensors `(batch or 1, seq, width)`."""
        return tensors if self.packed is None or self.takes_inputs else tuple(map(self._taken, tensors))

    def _taken(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else self.packed.take(tensor.expand(*self.shape, *tensor.shape[2:]))

    def put_back(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, seq, hidden)`, 0 at padding, computed or not."""
        if self.packed is not None:
            return self.packed.put_back(hidden_states)
        if self.padding is not None:
            return hidden_states.masked_fill(self.padding.to(hidden_states.device).unsqueeze(-1), 0.0)
        return hidden_states

    def key_count(self, window: int | None = None) -> torch.Tensor:
        """The number n of keys that each query sees, int64 `(batch or 1, seq or 1, 1)`.

        Counted from the caller's inputs, since masks of backends differ in form.
        """
        if self.packed is not None:
            return visible_keys(self.packed.documents(), window)
        if self.documents is not None:
            return visible_keys(self.documents, window)
        return key_count(self.attention_mask, self.shape[1], window)

    def attention_arguments(self, layers: Layers, hidden_states: torch.Tensor) -> dict[str, dict]:
        """The mask in the backend's form, or what replaces it, for each type of layer."""
        config, device = layers.config, hidden_states.device
        if self.packed is not None and layers.backend.takes_lengths:
            arguments = {"attention_mask": None, **self.packed.flash_arguments(device)}
            return dict.fromkeys(layers.windows, arguments)
        if self.packed is not None:
            segments = self.packed.segments(LayerCost.of(config, device), device)
            return {kind: {"segments": segments} for kind in layers.windows}
        if self.lengths is not None:
            return {kind: {"attention_mask": None, **self.lengths} for kind in layers.windows}
        make = {
            "full_attention": create_bidirectional_mask,
            "sliding_attention": create_bidirectional_sliding_window_mask,
        }
        return {
            kind: {"attention_mask": make[kind](config, hidden_states, self.attention_mask)} for kind in layers.windows
        }


def plan_batch(
    layers: Layers,
    inputs: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.LongTensor | None = None,
    document_ids: torch.LongTensor | None = None,
    **lengths: torch.Tensor | int | None,
) -> BatchPlan:
    """Plans a batch from what the model's caller gave.

    Args:
        layers: facts about the layers.
        inputs: `(batch, seq)` or `(batch, seq, hidden)`.
        attention_mask, position_ids, document_ids: see `GAUModel.forward`.
        lengths: FlashAttention's arguments, `cu_seq_lens_q` and so on; `None` if not given.

    Raises:
        ValueError: arguments contradict each other, or the backend cannot compute them.
    """
    shape, lengths = tuple(inputs.shape[:2]), {name: given for name, given in lengths.items() if given is not None}
    position_ids = checked_ids("position_ids", position_ids, shape)
    if attention_mask is not None:
        _check_attention_mask(attention_mask, *shape)
    if document_ids is not None:
        _check_document_ids(document_ids, attention_mask, shape, lengths, position_ids is not None)
        return _plan_of_documents(layers, inputs, document_ids, position_ids)
    documents = packed_documents(shape, attention_mask, position_ids, lengths)
    if documents is not None:
        return _plan_of_row(layers, inputs, documents.to(inputs.device), position_ids, lengths)
    if position_ids is None:
        position_ids = torch.arange(shape[1], device=inputs.device).unsqueeze(0)
    if attention_mask is None or attention_mask.ndim != 2:
        return BatchPlan(shape, position_ids, attention_mask)
    packed = _unpadded(layers, inputs, attention_mask)
    if packed is not None:
        return BatchPlan(shape, position_ids, packed=packed)
    layers.check_holes(attention_mask)
    return BatchPlan(shape, position_ids, attention_mask, padding=attention_mask == 0)


def _plan_of_documents(
    layers: Layers, inputs: torch.Tensor, document_ids: torch.LongTensor, position_ids: torch.LongTensor | None
) -> BatchPlan:
    shape = tuple(inputs.shape[:2])
    if position_ids is None:
        # 0 at padding: dynamic RoPE goes by the largest position.
        position_ids = restarting_positions(document_ids).masked_fill(document_ids == 0, 0)
    may = layers.takes_packed and layers.gain_on(inputs.device)
    if may and (layers.config.unpad_inputs or layers.backend.takes_lengths) and has_values(inputs, document_ids):
        packed = documents_end_to_end(document_ids)
        pays = packed is not None and (layers.backend.takes_lengths or packed.pays(layers.cost(inputs.device)))
        if pays and not layers.are_watched():
            position_ids = packed.take(position_ids.expand(shape))
            return BatchPlan(shape, position_ids, packed=packed, takes_inputs=True)
    layers.check_separation()
    if layers.backend.takes_lengths and not layers.attentions:
        raise GAUError(
            f"attn_implementation='{layers.config._attn_implementation}' takes document_ids only where the documents "
            "can be laid end to end: contiguous, in a model that is not compiled or traced, without "
            "output_hidden_states and hooks in its layers. Use 'sdpa', 'gau_blocked' or 'eager', or give "
            "cu_seq_lens_q."
        )
    return BatchPlan(shape, position_ids, same_document(document_ids), padding=document_ids == 0)


def _plan_of_row(
    layers: Layers,
    inputs: torch.Tensor,
    documents: torch.LongTensor,
    position_ids: torch.LongTensor | None,
    lengths: Mapping[str, object],
) -> BatchPlan:
    shape = tuple(inputs.shape[:2])
    if position_ids is None:
        position_ids = restarting_positions(documents)
    if layers.takes_packed and has_values(inputs, documents):
        return BatchPlan(shape, position_ids, packed=laid_end_to_end(documents))
    if layers.backend.takes_lengths and not layers.attentions:
        missing = [name for name in FLASH_ARGUMENTS if name not in lengths]
        if missing:
            raise GAUError(
                f"A compiled or traced model with attn_implementation='{layers.config._attn_implementation}' takes "
                f"{', '.join(FLASH_ARGUMENTS)} together, but {', '.join(missing)} is missing."
            )
        return BatchPlan(shape, position_ids, documents=documents, lengths=lengths)
    layers.check_separation()
    return BatchPlan(shape, position_ids, same_document(documents))


def _unpadded(layers: Layers, inputs: torch.Tensor, attention_mask: torch.Tensor) -> PackedSequences | None:
    may = layers.takes_packed and layers.plain and layers.gain_on(inputs.device)
    if not may or not layers.config.unpad_inputs or not has_values(inputs, attention_mask):
        return None
    # Closing a gap would bring its neighbours nearer to each other.
    keep_holes = "sliding_attention" in layers.windows or layers.config.relative_position_bias == "distance"
    packed = without_padding(attention_mask.to(inputs.device), layers.cost(inputs.device), keep_holes)
    return None if packed is None or layers.are_watched() else packed


def batch_shape(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> tuple[int, ...]:
    """The shape of a batch, from its ids or `(..., hidden)` embeddings; a ValueError unless one of them is given."""
    if (input_ids is None) == (inputs_embeds is None):
        raise GAUError("Give exactly one of input_ids and inputs_embeds.")
    for name, given in (("input_ids", input_ids), ("inputs_embeds", inputs_embeds)):
        if given is not None and not isinstance(given, torch.Tensor):
            raise GAUError(f"{name} must be a tensor, but got {type(given).__name__}.")
    return tuple(input_ids.shape if input_ids is not None else inputs_embeds.shape[:-1])


def row_shape(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> tuple[int, int]:
    """(batch, seq) of a batch, which has a sequence and a token at least."""
    shape = batch_shape(input_ids, inputs_embeds)
    if len(shape) != 2 or shape[0] == 0 or shape[1] == 0:
        raise GAUError(
            f"{'input_ids' if inputs_embeds is None else 'inputs_embeds'}: the batch is empty or not two-dimensional. "
            f"Its shape is {shape}, but must be (batch, seq), with at least one of each."
        )
    return shape


def checked_ids(name: str, ids: torch.Tensor | None, shape: tuple[int, int]) -> torch.Tensor | None:
    """Integers for every token of a batch, or of one row that stands for all of them, as `(batch or 1, seq)`; a
    ValueError for other ids, which would be broadcast without a word."""
    if ids is None:
        return None
    if not isinstance(ids, torch.Tensor) or ids.dtype not in (torch.int64, torch.int32):
        kind = ids.dtype if isinstance(ids, torch.Tensor) else type(ids).__name__
        raise GAUError(f"{name} must be a tensor of integers, int64 or int32, but got {kind}.")
    if tuple(ids.shape) not in (shape, (1, shape[1]), shape[1:]):
        raise GAUError(
            f"{name} has shape {tuple(ids.shape)}; for a batch of shape {shape} it must be {shape} or {(1, shape[1])}."
        )
    return ids if ids.ndim == 2 else ids.unsqueeze(0)


def _check_attention_mask(attention_mask: torch.Tensor, batch: int, seq: int) -> None:
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.is_complex():
        kind = attention_mask.dtype if isinstance(attention_mask, torch.Tensor) else type(attention_mask).__name__
        raise GAUError(f"attention_mask must be a tensor of real numbers, but got {kind}.")
    shape = tuple(attention_mask.shape)
    if shape == (batch, seq):
        _check_values_of_padding_mask(attention_mask)
        return
    allowed = ((1, batch), (1,), (1, seq), (seq,))
    if len(shape) != 4 or any(size not in sizes for size, sizes in zip(shape, allowed, strict=True)):
        raise GAUError(
            f"attention_mask has shape {shape}; for a batch of shape {(batch, seq)} it must be {(batch, seq)} or "
            f"(batch or 1, 1, {seq} or 1, {seq})."
        )
    if attention_mask.dtype != torch.bool and not attention_mask.is_floating_point():
        raise GAUError(
            "A 4-D attention_mask must be boolean (True is visible) or floating (added to the scores), but its "
            f"dtype is {attention_mask.dtype}. Convert 0 and 1 with attention_mask.bool()."
        )
    if attention_mask.is_floating_point() and attention_mask.device.type == "cpu" and has_values(attention_mask):
        _check_values_of_additive_mask(attention_mask)


def _check_values_of_padding_mask(attention_mask: torch.Tensor) -> None:
    # Accelerators would have to wait for the values, in every step: there, only the rare masks of floats are read.
    unread = attention_mask.device.type != "cpu" and not attention_mask.is_floating_point()
    if attention_mask.dtype == torch.bool or unread or not has_values(attention_mask):
        return
    if not bool(((attention_mask == 0) | (attention_mask == 1)).all()):
        raise GAUError(
            f"An attention_mask of shape {tuple(attention_mask.shape)} must be 1 (or True) for real tokens and 0 for "
            f"padding, but holds values from {attention_mask.min()} to {attention_mask.max()}. Give a mask that is "
            "added to the scores as (batch, 1, seq, seq) or (batch, 1, 1, seq); give numbers of documents as "
            "document_ids."
        )


def _check_values_of_additive_mask(attention_mask: torch.Tensor) -> None:
    if not bool((attention_mask < float("inf")).all()):
        raise GAUError("A floating attention_mask is added to the scores: it must not hold NaN or infinity.")
    if bool(((attention_mask == 0) | (attention_mask == 1)).all()) and bool(attention_mask.any()):
        raise GAUError(
            "A floating 4-D attention_mask is added to the scores, but holds only 0 and 1. Convert it with "
            "attention_mask.bool(), so that 1 is visible and 0 hidden."
        )


def _changes(numbers: torch.Tensor) -> torch.Tensor:
    """How often another number than 0 begins in each row, `(batch,)`."""
    begins = torch.ones_like(numbers, dtype=torch.bool)
    begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    return (begins & (numbers != 0)).sum(dim=1)


def _check_document_ids(
    document_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shape: tuple[int, int],
    lengths: Mapping,
    has_positions: bool,
) -> None:
    if not isinstance(document_ids, torch.Tensor):
        raise GAUError(f"document_ids must be a tensor, but got {type(document_ids).__name__}.")
    if tuple(document_ids.shape) != shape or document_ids.dtype not in (torch.int64, torch.int32):
        raise GAUError(
            f"document_ids must be integers of the batch's shape {shape}, but are {document_ids.dtype} of shape "
            f"{tuple(document_ids.shape)}."
        )
    if has_values(document_ids) and bool((document_ids < 0).any()):
        raise GAUError(f"document_ids must not be negative (0 marks padding), but go down to {document_ids.min()}.")
    restart = not has_positions and has_values(document_ids)
    if restart and not torch.equal(_changes(document_ids), _changes(document_ids.sort(dim=1).values)):
        raise GAUError(
            "document_ids: positions restart where a document begins, so its tokens must stand together, without "
            "those of others or padding between them. Give position_ids otherwise."
        )
    if lengths:
        raise GAUError(f"Give document_ids or {', '.join(lengths)}, not both: each says which tokens see each other.")
    if attention_mask is None or (attention_mask.ndim == 2 and not has_values(attention_mask, document_ids)):
        return
    if attention_mask.ndim != 2 or not torch.equal(attention_mask != 0, document_ids != 0):
        raise GAUError(
            "attention_mask contradicts document_ids, which are 0 at padding and different in different documents. "
            "Leave attention_mask out."
        )
