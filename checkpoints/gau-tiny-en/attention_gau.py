# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Attention of the gated attention unit: normalizations x backends, in two tables that nothing else repeats.

Legend of axes: `batch, seq, query, key`; widths: `hidden, key_dim, value_dim`. There is one head:
`query` is `(batch, 1, query, key_dim)`, `key` is `(batch, 1, key, key_dim)`, `value` is `(batch, 1, key, value_dim)`
and attention weights are `(batch, 1, query, key)`. Backends follow transformers' signature, `(module, query, key,
value, attention_mask, scaling, dropout, **kwargs) -> (output (batch, query, 1, value_dim), weights or None)`.

A normalization uses n, the number of real keys, in one of two ways. A factor multiplies the query (`query_factor`).
This serves squared ReLU, too: relu(c a)^2 = c^2 relu(a)^2, so c = n^(-1/2) divides the weights by n. Or a shift adds
to the query's scores (`score_shift`), through two more columns of query and key, as a rotary bias does. A backend
therefore needs to know only the family: softmax over the scores, or weights made from the scores one by one.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.utils import logging

from .configuration_gau import GAUError
from .kernels_gau import triton_attention
from .unpadding_gau import Segment, split_mask, within_window


logger = logging.get_logger(__name__)


# ----------------------------------------------------------------------------------------------------------- float16


def saturate(tensor: torch.Tensor) -> torch.Tensor:
    """Replaces infinity by the largest finite number, in float16 alone: products of large numbers leave its range,
    and infinity times 0 is NaN. The gradient is 0 there."""
    if tensor.dtype != torch.float16:
        return tensor
    limits = torch.finfo(tensor.dtype)
    return tensor.clamp(limits.min, limits.max)


# --------------------------------------------------------------------------------------------------- normalizations


def _softmax_plus_factor(n: torch.Tensor, config) -> torch.Tensor:
    """log(max(n, n_min)) / log(N), the entropy-invariant scale of kexue.fm/archives/8823 and 9034."""
    return n.clamp(min=config.softmax_plus_min_length).log() / math.log(config.reference_length)


def _scalable_softmax_factor(n: torch.Tensor, config) -> torch.Tensor:
    """log n / log N, which the unit multiplies by its learned scale (arXiv 2501.19399)."""
    return n.log() / math.log(config.reference_length)


def _squared_relu_factor(n: torch.Tensor, config) -> torch.Tensor:
    """n^(-1/2), so that relu(a)^2 is divided by n; with a bias, the paper's q . k / n."""
    return n.rsqrt() if config.relative_position_bias is None else _unscaled_by_n(n, config)


def _unscaled_by_n(n: torch.Tensor, config) -> torch.Tensor:
    return config.attention_key_size**0.5 / n


@dataclass(frozen=True)
class Activation:
    """A function that makes weights from scores one by one.

    Args:
        forward: weights from scores.
        gradient: the derivative by the score, from scores and weights.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    gradient: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


_LAPLACE_MEAN, _LAPLACE_STD = 0.5**0.5, (4 * math.pi) ** -0.5

# One for each family but the softmax. All are 0 at the lowest score, so hidden keys need nothing else.
_ACTIVATIONS = {
    "squared_relu": Activation(lambda scores: scores.relu().square(), lambda scores, weights: 2 * scores.relu()),
    "sigmoid": Activation(torch.sigmoid, lambda scores, weights: weights * (1 - weights)),
    "laplace": Activation(
        lambda scores: torch.special.erfc((_LAPLACE_MEAN - scores) / (_LAPLACE_STD * math.sqrt(2))) / 2,
        # The normal density, whose height is sqrt(2) at this deviation.
        lambda scores, weights: math.sqrt(2) * torch.exp(-((scores - _LAPLACE_MEAN) / _LAPLACE_STD).square() / 2),
    ),
}


@dataclass(frozen=True)
class AttentionNormalization:
    """How scores become weights.

    Args:
        family: `"softmax"` (softmax over scores), or `"squared_relu"`, `"sigmoid"` or `"laplace"` (weights made from
            scores one by one).
        query_factor: maps the number of real keys n (floating) and the configuration to the factor on the query;
            `None` if n is no factor.
        score_shift: maps n to a number that is added to the scores of its query; `None` for 0.
        sum_normalized: whether weights of the squared-ReLU family are divided by their row's sum.
        learned_scale: whether each layer multiplies its scores by a learned number, 1 at first.
        sink: whether a learned score joins the sum of the softmax, with a value of zeros.
    """

    family: str
    query_factor: Callable[[torch.Tensor, object], torch.Tensor] | None = None
    score_shift: Callable[[torch.Tensor], torch.Tensor] | None = None
    sum_normalized: bool = False
    learned_scale: bool = False
    sink: bool = False

    @property
    def uses_n(self) -> bool:
        return self.query_factor is not None or self.score_shift is not None

    def weights(
        self, scores: torch.Tensor, visible: torch.Tensor | None, sink: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention weights of whole rows.

        Args:
            scores: `(..., query, key)` in any floating dtype.
            visible: boolean, broadcastable to `scores`; `False` hides a key. `None`: every key is real.
            sink: the learned score, `(1,)`.

        Returns:
            Weights of the shape and dtype of `scores`; exactly 0 where hidden, so a row without a real key is 0.
        """
        if visible is not None:
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        if self.family != "softmax":
            weights = _ACTIVATIONS[self.family].forward(self._wide(scores))
            if self.sum_normalized:
                weights = weights / _positive_sum(weights)
            return saturate(weights.to(scores.dtype))
        if sink is not None:
            sink = sink.to(scores.dtype).expand(*scores.shape[:-1], 1)
            return torch.cat((scores, sink), -1).softmax(-1)[..., :-1]
        weights = scores.softmax(-1)  # reduces in float32 whatever the dtype
        # Softmax makes a row of equal minima uniform: zero hidden keys again for rows without a real key.
        return weights if visible is None else weights.masked_fill(~visible, 0.0)

    def scores_gradient(self, weights_gradient, weights, scores) -> torch.Tensor:
        """Gradient by the scores of whole rows from the gradient by the weights; shapes and dtypes as in `weights`.

        Hidden keys need no mask: their weight (softmax) or their derivative is 0, and so is their gradient.
        """
        if self.family == "softmax":
            # Also with a sink, whose weight has no gradient.
            gradient = torch._softmax_backward_data(weights_gradient, weights, -1, weights.dtype)
            return _without_saturated(gradient, weights, scores)
        wide = self._wide(scores)
        if not self.sum_normalized:
            gradient = _ACTIVATIONS[self.family].gradient(wide, weights) * weights_gradient
            return _without_saturated(gradient.to(scores.dtype), weights, scores)
        rectified = wide.relu()
        inner = (weights_gradient * weights).sum(-1, keepdim=True, dtype=_sum_dtype(weights))
        gradient = (weights_gradient - inner.to(weights.dtype)) * rectified
        gradient = (2 * gradient / _positive_sum(rectified.square())).to(scores.dtype)
        return _without_saturated(gradient, weights, scores)

    def _wide(self, scores: torch.Tensor) -> torch.Tensor:
        """Squares of float16 scores above 255 overflow. bfloat16 has the range, and its rounding is that of the
        products, but `laplace` subtracts from scores near 0 a number near 1."""
        narrow = (torch.float16, torch.bfloat16) if self.family == "laplace" else (torch.float16,)
        return scores.float() if scores.dtype in narrow else scores


def _without_saturated(gradient: torch.Tensor, weights: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """0 where [`saturate`] replaced a score or a weight."""
    if scores.dtype != torch.float16:
        return gradient
    limit = torch.finfo(scores.dtype).max
    return gradient.masked_fill((scores.abs() >= limit) | (weights >= limit), 0.0)


def _sum_dtype(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _positive_sum(weights: torch.Tensor) -> torch.Tensor:
    """Row sums, accumulated in float32; 1 for rows without a positive score, so that their weights stay 0."""
    total = weights.sum(-1, keepdim=True, dtype=_sum_dtype(weights))
    return total.masked_fill(total == 0, 1.0).to(weights.dtype)


ATTENTION_NORMALIZATIONS: dict[str, AttentionNormalization] = {
    "softmax": AttentionNormalization("softmax"),
    "softmax_plus": AttentionNormalization("softmax", _softmax_plus_factor),
    "scalable_softmax": AttentionNormalization("softmax", _scalable_softmax_factor, learned_scale=True),
    "softmax_sink": AttentionNormalization("softmax", sink=True),
    "sigmoid": AttentionNormalization("sigmoid", score_shift=lambda n: -n.log()),
    "squared_relu": AttentionNormalization("squared_relu", _squared_relu_factor),
    "normalized_squared_relu": AttentionNormalization("squared_relu", sum_normalized=True),
    "laplace": AttentionNormalization("laplace", _unscaled_by_n),
}


# ------------------------------------------------------------------------------------------------------------ masks


def key_padding_mask(
    batch_size: int, q_length: int, kv_length: int, attention_mask: torch.Tensor | None = None, **kwargs
) -> torch.Tensor | None:
    """The mask of our own backends for transformers' mask interface: `(batch, 1, 1, key)`, linear in the length."""
    if attention_mask is None:
        return None
    return attention_mask[:, None, None, :].to(torch.bool)


# ------------------------------------------------------------------------------------------ bias by distance


def distances(queries: int, keys: int, longest: int, device: torch.device, first: int = 0) -> torch.LongTensor:
    """min(max(j - i, -longest), longest) + longest for queries i = first, first + 1, ... and keys j = 0, 1, ...:
    the place of each pair in a table of `2 * longest + 1` distances, int64 `(query, key)`."""
    places = torch.arange(keys, device=device) - torch.arange(first, first + queries, device=device)[:, None]
    return places.clamp(-longest, longest) + longest


def _diagonal_sums(matrix: torch.Tensor) -> torch.Tensor:
    """Sums over the diagonals of `(rows, columns)`, from the lower left corner on: `(rows + columns - 1,)`."""
    rows, columns = matrix.shape
    # Each row is moved one place further to the right than the row below it, then columns are summed.
    moved = nn.functional.pad(matrix.flip(0), (0, rows)).flatten()[:-rows]
    return moved.view(rows, rows + columns - 1).sum(0)


# --------------------------------------------------------------------------------------------------------- backends
#
# As in transformers' own functions, `sliding_window` is the largest visible distance plus 1. Two arguments are ours:
# `distance_bias` `(2 * longest + 1,)` is added to the scores by distance, `sink` `(1,)` is a learned score.


def eager_attention_forward(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=1.0,
    dropout=0.0,
    sliding_window=None,
    distance_bias=None,
    sink=None,
    **kwargs,
):
    """Reference: plain PyTorch, every normalization, returns the weights (after normalization, before dropout)."""
    attention_mask = within_window(attention_mask, query.shape[2], key.shape[2], sliding_window, query.device)
    bias, visible = split_mask(attention_mask)
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if distance_bias is not None:
        scores = scores + _all_distances(distance_bias, query, key).to(scores.dtype)
    weights = ATTENTION_NORMALIZATIONS[module.config.attention_normalization].weights(saturate(scores), visible, sink)
    dropped = nn.functional.dropout(weights, p=dropout, training=module.training)
    return saturate(torch.matmul(dropped, value)).transpose(1, 2).contiguous(), weights


def _all_distances(distance_bias: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return distance_bias[distances(query.shape[2], key.shape[2], distance_bias.shape[0] // 2, query.device)]


def sdpa_attention_forward(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=1.0,
    dropout=0.0,
    sliding_window=None,
    distance_bias=None,
    sink=None,
    **kwargs,
):
    """`torch.nn.functional.scaled_dot_product_attention` with the wide value unsplit (softmax family)."""
    attention_mask = within_window(attention_mask, query.shape[2], key.shape[2], sliding_window, query.device)
    if distance_bias is not None:
        biases = _all_distances(distance_bias, query, key).to(query.dtype)
        bias, visible = split_mask(attention_mask)
        biases = biases if bias is None else biases + bias.to(query.dtype)
        attention_mask = biases if visible is None else biases.masked_fill(~visible, torch.finfo(query.dtype).min)
    if sink is not None:
        query, key, value, attention_mask = _with_sink(query, key, value, attention_mask, sink / scaling)
    empty = None
    if attention_mask is not None:
        bias, visible = split_mask(attention_mask)
        # Kernels return zeros, means or NaN for rows without a real key: show those rows everything, then zero
        # their output.
        empty = ~visible.any(-1, keepdim=True)
        attention_mask = visible | empty
        if bias is not None:
            floor = torch.finfo(query.dtype).min
            attention_mask = bias.to(query.dtype).masked_fill(~attention_mask, floor)
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
    )
    if empty is not None:
        output = output.masked_fill(empty, 0.0)
    return output.transpose(1, 2).contiguous(), None


def _with_sink(query, key, value, attention_mask, sink):
    """The sink as one more key with a value of zeros, exact: two more columns make its score `sink` for every query,
    the second of them what the first loses by rounding."""
    wide, (batch, _, queries, _), keys = sink.to(_sum_dtype(key)), query.shape, key.shape[2]
    rounded = wide.to(key.dtype)
    parts = torch.stack((rounded, (wide - rounded).to(key.dtype)), -1)
    columns = torch.cat((key.new_zeros(keys, 2), parts))
    query = torch.cat((query, query.new_ones(batch, 1, queries, 2)), -1)
    key = torch.cat((nn.functional.pad(key, (0, 0, 0, 1)), columns.expand(batch, 1, -1, -1)), -1)
    if attention_mask is not None:
        visible = attention_mask.dtype == torch.bool
        attention_mask = nn.functional.pad(attention_mask, (0, 1), value=True if visible else 0.0)
    return query, key, nn.functional.pad(value, (0, 0, 0, 1)), attention_mask


def split_value_heads(query, key, value):
    """Splits the wide value into heads of the key width, with query and key repeated, which is exact.

    Args:
        query, key: `(batch, 1, seq, key_dim)`; value: `(batch, 1, seq, value_dim)`.

    Returns:
        query, key, value of `(batch, heads, seq, key_dim)` with heads = ceil(value_dim / key_dim), the last head
        padded with zeros: kernels want equal widths, and transformers' flash path crops a value wider than the key.
    """
    key_dim, value_dim = key.shape[-1], value.shape[-1]
    heads = -(-value_dim // key_dim)
    value = nn.functional.pad(value, (0, heads * key_dim - value_dim))
    value = value.squeeze(1).unflatten(-1, (heads, key_dim)).transpose(1, 2)
    return query.expand(-1, heads, -1, -1), key.expand(-1, heads, -1, -1), value


def _split_heads_forward(name: str) -> Callable:
    """transformers' own function for a kernel of equal widths, called with the split value."""

    def forward(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **kwargs):
        if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 4:
            raise GAUError(
                f"attn_implementation='{name}' takes padding masks of shape (batch, seq) only, not a 4-D mask. "
                "Use attn_implementation='sdpa', 'gau_blocked' or 'eager' with such masks."
            )
        value_dim = value.shape[-1]
        heads = split_value_heads(query, key, value)
        kernel = AttentionInterface()[name]
        output, _ = kernel(module, *heads, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
        return output.flatten(2)[..., :value_dim].unsqueeze(2), None

    return forward


def flex_attention_forward(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **kwargs):
    """FlexAttention (softmax family): unsplit value on CPU, where it has no backward pass; split on accelerators."""
    if query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad:
        raise GAUError(
            "FlexAttention has no backward pass on CPU. Use attn_implementation='gau_blocked' (or 'eager', 'sdpa') "
            "for training, or run under torch.no_grad()."
        )
    name = "flex_attention"
    if isinstance(attention_mask, torch.Tensor):
        raise GAUError(
            "attn_implementation='flex_attention' takes padding masks of shape (batch, seq) only, not a 4-D mask. "
            "Use attn_implementation='sdpa', 'gau_blocked' or 'eager' with such masks."
        )
    if query.device.type != "cpu":
        return _split_heads_forward(name)(module, query, key, value, attention_mask, scaling, dropout, **kwargs)
    output, _ = AttentionInterface()[name](
        module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
    )
    return output, None


# ---------------------------------------------------------------------------------------- blocks of rows (gau_blocked)

# How many scores the blocked backend holds at once. On CPU, 8 MiB in bfloat16 keep memory small and products large;
# accelerators need more to be busy. Blocks with fewer rows than the minimum make products inefficient.
_BLOCK_ELEMENTS = {"cpu": 2**22}
_BLOCK_ELEMENTS_ACCELERATOR = 2**26
_MIN_BLOCK_ROWS = 256
_MIN_WINDOW_ROWS = 128


@dataclass(frozen=True)
class _Block:
    """Some sequences, some of their rows, and the keys that these rows see."""

    batch: slice
    rows: slice
    keys: slice

    def part(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """The block's part of a mask `(batch or 1, query or 1, key)`."""
        if mask is None:
            return None
        mask = mask if mask.shape[0] == 1 else mask[self.batch]
        return (mask if mask.shape[1] == 1 else mask[:, self.rows])[..., self.keys]

    def near(self, window: int, device: torch.device) -> torch.Tensor:
        """Boolean `(rows, keys)`, True at distances below the window."""
        near = torch.ones(
            self.rows.stop - self.rows.start, self.keys.stop - self.keys.start, dtype=torch.bool, device=device
        )
        offset = self.rows.start - self.keys.start
        return near.tril_(offset + window - 1).triu_(offset - window + 1)

    def distances(self, longest: int, device: torch.device) -> torch.LongTensor:
        rows, keys = self.rows.stop - self.rows.start, self.keys.stop - self.keys.start
        return distances(rows, keys, longest, device, first=self.rows.start - self.keys.start)

    def sum_by_distance(self, gradient: torch.Tensor, longest: int) -> torch.Tensor:
        """The gradient by a table of distances, `(2 * longest + 1,)`, from that by the block's scores."""
        wide = gradient.sum(0, dtype=_sum_dtype(gradient))
        rows, keys = wide.shape
        # From the lower left corner on: the last query with all keys, then the first key with the other queries.
        places = torch.arange(-(rows - 1), keys, device=wide.device) + self.keys.start - self.rows.start
        sums = wide.new_zeros(2 * longest + 1)
        return sums.index_add_(0, places.clamp(-longest, longest) + longest, _diagonal_sums(wide))


def _blocks(query: torch.Tensor, key: torch.Tensor, window: int) -> list[_Block]:
    """Cuts the (batch, query) plane into blocks: several short sequences, or some rows of one long sequence. With a
    window, a block holds some rows of several sequences and the keys near them."""
    batch, rows, keys = query.shape[0], query.shape[1], key.shape[1]
    budget = _BLOCK_ELEMENTS.get(query.device.type, _BLOCK_ELEMENTS_ACCELERATOR)
    if window:
        block_rows = min(rows, max(_MIN_WINDOW_ROWS, window))
        sequences = max(1, min(batch, budget // (block_rows * min(keys, block_rows + 2 * window))))
    else:
        sequences = max(1, min(batch, budget // max(1, rows * keys)))
        block_rows = rows if sequences > 1 else min(rows, max(_MIN_BLOCK_ROWS, budget // max(1, keys)))
    blocks = []
    for b in range(0, batch, sequences):
        for i in range(0, rows, block_rows):
            end = min(i + block_rows, rows)
            seen = slice(max(0, i - window + 1), min(keys, end + window - 1)) if window else slice(0, keys)
            blocks.append(_Block(slice(b, min(b + sequences, batch)), slice(i, end), seen))
    return blocks


def _keep_generator(query: torch.Tensor, seed: torch.Tensor | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator(query.device).manual_seed(int(seed))


def _block_weights(block, query, key, bias, distance_bias, sink, visible, normalization, dropout, generator, window):
    """Scores, weights and the (scaled) keep mask of one block, each `(sequences, rows, keys)`."""
    scores = torch.bmm(query[block.batch, block.rows], key[block.batch, block.keys].transpose(1, 2))
    if bias is not None:
        scores = scores + block.part(bias).to(scores.dtype)
    if distance_bias is not None:
        scores += distance_bias[block.distances(distance_bias.shape[0] // 2, scores.device)].to(scores.dtype)
    scores = saturate(scores)
    visible = block.part(visible)
    if window:
        near = block.near(window, scores.device)
        visible = near[None] if visible is None else visible & near
    if visible is not None:
        scores = scores.masked_fill_(~visible, torch.finfo(scores.dtype).min)
    weights = ATTENTION_NORMALIZATIONS[normalization].weights(scores, visible, sink)
    keep = None
    if generator is not None:
        keep = torch.empty_like(weights).bernoulli_(1 - dropout, generator=generator).div_(1 - dropout)
    return scores, weights, keep


# PyTorch's operators are global, and defining a name again replaces the first definition. The module's name keeps this
# copy apart from those that come with checkpoints (`trust_remote_code`), which may be of another version.
_OPERATORS = re.sub(r"\W", "_", f"gau_{__name__}", flags=re.ASCII)


class _GradientSum:
    """A gradient by keys or values, summed over blocks of rows. The sum is in float32: rounding each partial sum to a
    narrow type would lose more than the whole product does. With a window, only two or three consecutive blocks see a
    key, so keys that no later block sees are rounded and finished early."""

    def __init__(self, like: torch.Tensor, window: int):
        self.total = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        self.window = window
        self.partial = None
        self.last: tuple[int, torch.Tensor] | None = None

    def add(self, block: _Block, rows: int, left: torch.Tensor, right: torch.Tensor) -> None:
        """Adds left @ right, `(sequences, keys, rows) @ (sequences, rows, width)`, to the block's keys; `rows` are
        those of a sequence."""
        total = self.total[block.batch]
        if self.window:
            self._add_window(block, total, rows, torch.bmm(left, right))
            return
        if block.rows.stop - block.rows.start == rows:
            torch.bmm(left, right, out=total)
            return
        if self.partial is None:
            self.partial = torch.zeros_like(total, dtype=_sum_dtype(total))
        if self.partial.dtype == left.dtype:
            self.partial.baddbmm_(left, right)
        else:
            self.partial += torch.bmm(left, right)
        if block.rows.stop == rows:
            total.copy_(self.partial)
            self.partial = None

    def _add_window(self, block: _Block, total: torch.Tensor, rows: int, product: torch.Tensor) -> None:
        start, stop = block.keys.start, block.keys.stop
        if self.last is None:
            total[:, :start] = 0
        else:
            before, done = self.last[0], start - self.last[0]
            total[:, before:start] = self.last[1][:, :done]
            product[:, : self.last[1].shape[1] - done] += self.last[1][:, done:]
        self.last = (start, product)
        if block.rows.stop == rows:
            total[:, start:stop], total[:, stop:] = product, 0
            self.last = None


@torch.library.custom_op(f"{_OPERATORS}::blocked_attention", mutates_args=())
def _blocked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    distance_bias: torch.Tensor | None,
    sink: torch.Tensor | None,
    visible: torch.Tensor | None,
    seed: torch.Tensor | None,
    normalization: str,
    dropout: float,
    window: int,
) -> torch.Tensor:
    output = value.new_empty(query.shape[0], query.shape[1], value.shape[2])
    key, value = key.contiguous(), value.contiguous()
    generator = _keep_generator(query, seed)
    with torch.autocast(query.device.type, enabled=False):
        for block in _blocks(query, key, window):
            _, weights, keep = _block_weights(
                block, query, key, bias, distance_bias, sink, visible, normalization, dropout, generator, window
            )
            if keep is not None:
                weights = weights.mul_(keep)
            torch.bmm(weights, value[block.batch, block.keys], out=output[block.batch, block.rows])
    return output


@_blocked_attention.register_fake
def _(query, key, value, bias, distance_bias, sink, visible, seed, normalization, dropout, window):
    return value.new_empty(query.shape[0], query.shape[1], value.shape[2])


@torch.library.custom_op(f"{_OPERATORS}::blocked_attention_backward", mutates_args=())
def _blocked_attention_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    distance_bias: torch.Tensor | None,
    sink: torch.Tensor | None,
    visible: torch.Tensor | None,
    seed: torch.Tensor | None,
    normalization: str,
    dropout: float,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients by query, key, value, distance_bias and sink (empty if there is none). Recomputing the weights takes
    key_dim of the 3 (key_dim + value_dim) multiply-adds per pair."""
    gradient, key, value = gradient.contiguous(), key.contiguous(), value.contiguous()
    query_gradient = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    key_sum, value_sum = _GradientSum(key, window), _GradientSum(value, window)
    distance_gradient = query.new_zeros(0) if distance_bias is None else torch.zeros_like(distance_bias)
    sink_gradient = query.new_zeros(0) if sink is None else torch.zeros_like(sink)
    generator = _keep_generator(query, seed)
    with torch.autocast(query.device.type, enabled=False):
        for block in _blocks(query, key, window):
            scores, weights, keep = _block_weights(
                block, query, key, bias, distance_bias, sink, visible, normalization, dropout, generator, window
            )
            part = gradient[block.batch, block.rows]
            dropped = weights if keep is None else weights * keep
            value_sum.add(block, query.shape[1], dropped.transpose(1, 2), part)
            weights_gradient = torch.bmm(part, value[block.batch, block.keys].transpose(1, 2))
            if keep is not None:
                weights_gradient.mul_(keep)
            scores_gradient = ATTENTION_NORMALIZATIONS[normalization].scores_gradient(
                weights_gradient, weights, scores
            )
            if distance_bias is not None:
                distance_gradient += block.sum_by_distance(scores_gradient, distance_bias.shape[0] // 2)
            if sink is not None:
                share = torch.sigmoid(sink - scores.to(_sum_dtype(scores)).logsumexp(-1))
                sink_gradient -= (share * (weights_gradient * weights).sum(-1, dtype=_sum_dtype(scores))).sum()
            torch.bmm(scores_gradient, key[block.batch, block.keys], out=query_gradient[block.batch, block.rows])
            key_sum.add(block, query.shape[1], scores_gradient.transpose(1, 2), query[block.batch, block.rows])
    return query_gradient, key_sum.total, value_sum.total, distance_gradient, sink_gradient


@_blocked_attention_backward.register_fake
def _(gradient, query, key, value, bias, distance_bias, sink, visible, seed, normalization, dropout, window):
    learned = [query.new_empty(0) if tensor is None else torch.empty_like(tensor) for tensor in (distance_bias, sink)]
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), *learned


def _save_for_backward(ctx, inputs, output):
    *tensors, ctx.normalization, ctx.dropout, ctx.window = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, gradient):
    *gradients, distances, sink = _blocked_attention_backward(
        gradient, *ctx.saved_tensors, ctx.normalization, ctx.dropout, ctx.window
    )
    learned = [gradient if gradient.numel() else None for gradient in (distances, sink)]
    return *gradients, None, *learned, None, None, None, None, None


def _no_second_derivative(ctx, *gradients):
    raise RuntimeError(
        "attn_implementation='gau_blocked', which also serves long inputs by default, has no second derivative. Use "
        "attn_implementation='eager' to differentiate through gradients."
    )


_blocked_attention.register_autograd(_backward, setup_context=_save_for_backward)
_blocked_attention_backward.register_autograd(_no_second_derivative)


def blocked_attention_forward(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=1.0,
    dropout=0.0,
    sliding_window=None,
    distance_bias=None,
    sink=None,
    **kwargs,
):
    """Blocks of whole rows, weights recomputed in the backward pass: all normalizations, memory linear in length, and
    with a window, time as well."""
    bias, visible = split_mask(attention_mask)
    if bias is not None and bias.requires_grad:
        raise GAUError(
            "attn_implementation='gau_blocked' gives no gradient for an additive mask. "
            "Use attn_implementation='eager'."
        )
    # Forward and backward share the seed, not the mask of dropped weights. It comes from PyTorch's generator, so that
    # seeds and gradient checkpointing work as usual.
    seed = torch.randint(2**62, (1,)) if dropout > 0 else None
    output = _blocked_attention(
        query.squeeze(1) * scaling if scaling != 1.0 else query.squeeze(1),
        key.squeeze(1),
        value.squeeze(1),
        None if bias is None else bias.squeeze(1),
        distance_bias,
        sink,
        None if visible is None else visible.squeeze(1),
        seed,
        module.config.attention_normalization,
        dropout,
        sliding_window or 0,
    )
    return saturate(output).unsqueeze(2), None


# ----------------------------------------------------------------------------------------- Triton kernels (gau_triton)


def triton_attention_forward(
    module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, sliding_window=None, **kwargs
):
    """The kernels of `kernels_gau.py`: all normalizations, memory linear in length, padding skipped on both sides."""
    if sliding_window is not None:
        raise GAUError(
            "attn_implementation='gau_triton' has no sliding_window yet. With layers of local attention use "
            "attn_implementation='gau_blocked', 'sdpa' or FlashAttention (the last two for the softmax family)."
        )
    visible = None
    if attention_mask is not None:
        batch, keys = key.shape[0], key.shape[2]
        shape = tuple(attention_mask.shape)
        if attention_mask.dtype != torch.bool or shape not in ((batch, 1, 1, keys), (1, 1, 1, keys)):
            raise GAUError(
                "attn_implementation='gau_triton' takes padding masks only, of shape (batch, seq) or boolean ones "
                f"of shape {(batch, 1, 1, keys)}, but got {attention_mask.dtype} of shape {shape}. Use "
                "attn_implementation='gau_blocked', 'sdpa' (softmax family) or 'eager' with such masks."
            )
        visible = attention_mask[:, 0, 0].expand(batch, -1)
    normalization = ATTENTION_NORMALIZATIONS[module.config.attention_normalization]
    query = query.squeeze(1)
    output = triton_attention(
        query * scaling if scaling != 1.0 else query,
        key.squeeze(1),
        value.squeeze(1),
        visible,
        normalization.family == "softmax",
        normalization.sum_normalized,
        dropout,
    )
    return output.unsqueeze(2), None


# ------------------------------------------------------------------------------------- sequences without padding


def segmented_attention_forward(
    forward: Callable,
    segments: Sequence[Segment],
    module,
    query,
    key,
    value,
    attention_mask,
    **kwargs,
):
    """Computes sequences laid end to end, segment by segment, with a backend's function.

    Args:
        forward: the backend's function.
        segments: the sequences of each call.
        query, key, value: `(1, 1, tokens of all segments, width)`.
        attention_mask: unused; each segment has its own.
    """
    # `split` has one backward pass for all parts. Each slice would have its own, over the whole tensor.
    sizes = [segment.tokens for segment in segments]
    parts = zip(segments, *(tensor.split(sizes, 2) for tensor in (query, key, value)), strict=True)
    outputs = [forward(module, *part, segment.mask, **kwargs)[0] for segment, *part in parts]
    return torch.cat(outputs, dim=1), None


# ------------------------------------------------------------------------------------------------ choice and the table


_BLOCKED_FROM_LENGTH = 2048


def choose_attention_backend(query_length: int, exporting: bool = False, sliding_window: int | None = None) -> str:
    """The name of the backend that `gau_auto` uses.

    Measured on a CPU (`benchmarks/results`), forward and backward in bfloat16: plain products are a few percent faster
    up to 1024 tokens, blocks from 2048 on. The forward pass alone, and float32, differ little at short lengths. Not
    yet measured on accelerators, where the same rule keeps score matrices from filling the memory.

    Args:
        query_length: length of the rows with padding, or of one sequence if padding was removed.
        exporting: whether the model is being exported, which allows plain operations only.
        sliding_window: the layer's window, if any. Blocks compute only what it shows, plain products everything.
    """
    longest = _BLOCKED_FROM_LENGTH if sliding_window is None else min(_BLOCKED_FROM_LENGTH, 3 * sliding_window)
    return "eager" if exporting or query_length < longest else "gau_blocked"


def auto_attention_forward(
    module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, sliding_window=None, **kwargs
):
    """The default: runs the backend that [`choose_attention_backend`] names."""
    exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()
    name = choose_attention_backend(query.shape[2], exporting, sliding_window)
    if sliding_window is None and not torch.compiler.is_compiling():
        length = "below" if query.shape[2] < _BLOCKED_FROM_LENGTH else "from"
        logger.info_once(
            f"Attention backend for inputs {length} {_BLOCKED_FROM_LENGTH} tokens on {query.device.type}: '{name}'. "
            "Ask for one by name with attn_implementation=..."
        )
    return ATTENTION_BACKENDS[name].forward(
        module, query, key, value, attention_mask, scaling, dropout, sliding_window=sliding_window, **kwargs
    )


@dataclass(frozen=True)
class AttentionBackend:
    """An entry in the table of backends.

    Args:
        forward: its function.
        families: the families of normalizations that it computes.
        mask: its function for transformers' mask interface; `None` if transformers has one under the backend's name.
        takes_sequences: whether it computes packed sequences one by one, without a mask or with a boolean one that
            separates them, to the same result as in a padded batch.
        takes_lengths: whether it computes packed sequences in one call, given FlashAttention's arguments.
        separates_sequences: whether a mask can keep the sequences of one row apart.
        takes_learned_scores: whether it takes `distance_bias` and `sink`, with gradients.
        silent_about_weights: whether the eager function may replace it without a warning to return attention weights.
    """

    forward: Callable
    families: tuple[str, ...] = ("softmax",)
    mask: Callable | None = None
    takes_sequences: bool = False
    takes_lengths: bool = False
    separates_sequences: bool = True
    takes_learned_scores: bool = False
    silent_about_weights: bool = False


_ALL_FAMILIES = ("softmax", *_ACTIVATIONS)

ATTENTION_BACKENDS: dict[str, AttentionBackend] = {
    "eager": AttentionBackend(
        eager_attention_forward,
        _ALL_FAMILIES,
        takes_sequences=True,
        takes_learned_scores=True,
        silent_about_weights=True,
    ),
    "sdpa": AttentionBackend(sdpa_attention_forward, takes_sequences=True, takes_learned_scores=True),
    "flash_attention_2": AttentionBackend(_split_heads_forward("flash_attention_2"), takes_lengths=True),
    "flash_attention_3": AttentionBackend(_split_heads_forward("flash_attention_3"), takes_lengths=True),
    "flex_attention": AttentionBackend(flex_attention_forward, separates_sequences=False),
    "gau_blocked": AttentionBackend(
        blocked_attention_forward, _ALL_FAMILIES, key_padding_mask, takes_sequences=True, takes_learned_scores=True
    ),
    "gau_triton": AttentionBackend(
        triton_attention_forward, ("softmax", "squared_relu"), key_padding_mask, separates_sequences=False
    ),
    "gau_auto": AttentionBackend(
        auto_attention_forward,
        _ALL_FAMILIES,
        key_padding_mask,
        takes_sequences=True,
        takes_learned_scores=True,
        silent_about_weights=True,
    ),
}
DEFAULT_ATTENTION_BACKEND = "gau_auto"


class GAUAttentionInterface(AttentionInterface):
    """transformers' attention interface with this model's functions on top; other models keep theirs."""

    def get_interface(self, attn_implementation: str | None, default: Callable) -> Callable:
        """As in transformers, but the function comes from the table of backends."""
        return default if attn_implementation is None else attention_backend(attn_implementation).forward


ALL_ATTENTION_FUNCTIONS = GAUAttentionInterface()


def register_attention_backend(name: str, backend: AttentionBackend) -> None:
    """Registers a backend with this model and, if it brings its own mask function, with transformers.

    A function in transformers' attention interface alone would get no mask at all.
    """
    ATTENTION_BACKENDS[name] = backend
    ALL_ATTENTION_FUNCTIONS[name] = backend.forward
    if backend.mask is not None:
        AttentionInterface.register(name, backend.forward)
        AttentionMaskInterface.register(name, backend.mask)


for _name, _backend in list(ATTENTION_BACKENDS.items()):
    register_attention_backend(_name, _backend)


def attention_backend(name: str) -> AttentionBackend:
    """The backend's entry in the table. Functions registered with transformers or loaded from the Hub have none: they
    compute a softmax, and flash kernels among them want the split value and take lengths."""
    if name in ATTENTION_BACKENDS:
        return ATTENTION_BACKENDS[name]
    if "flash" in name:
        return AttentionBackend(_split_heads_forward(name), takes_lengths=True)
    return AttentionBackend(AttentionInterface().get_interface(name, eager_attention_forward))


def attention_with_weights(name: str, attention_mask: object) -> Callable:
    """The eager function, in place of the backend's: no other returns attention weights.

    Raises:
        ValueError: the backend's mask is not one that the eager function takes.
    """
    if attention_mask is not None and not (isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 4):
        raise GAUError(
            f"attn_implementation='{name}' returns no attention weights. Use 'eager' or leave attn_implementation out "
            "to get output_attentions."
        )
    if not attention_backend(name).silent_about_weights and not torch.compiler.is_compiling():
        logger.warning_once(
            f"attn_implementation='{name}' returns no attention weights: while output_attentions is on, 'eager' "
            "computes the same numbers, with memory quadratic in the length."
        )
    return eager_attention_forward


def check_attention_backend(name: str, config) -> None:
    """Raises a ValueError if a backend is unknown or cannot compute a model's attention, and names those that can."""
    known = isinstance(name, str) and (name in ALL_ATTENTION_FUNCTIONS or name in ATTENTION_BACKENDS or "/" in name)
    if not known:
        raise GAUError(
            # The first sentence is transformers' own: its common tests look for it.
            f'Specified `attn_implementation="{name}"` is not supported. Allowed: {", ".join(ATTENTION_BACKENDS)}; '
            "None leaves the choice to the model."
        )
    # Functions registered with transformers or loaded from the Hub all compute a softmax.
    backend = ATTENTION_BACKENDS.get(name, AttentionBackend(eager_attention_forward))
    problem = _cannot_compute(backend, config)
    if problem is not None:
        able = [other for other, entry in ATTENTION_BACKENDS.items() if _cannot_compute(entry, config) is None]
        unknown = "" if name in ATTENTION_BACKENDS else " (not in the table of backends, so taken for a softmax)"
        raise GAUError(
            f"attn_implementation='{name}'{unknown} cannot compute {problem}. Use one of {', '.join(able)}, or leave "
            "attn_implementation out."
        )


def _cannot_compute(backend: AttentionBackend, config) -> str | None:
    """The setting of a configuration that a backend cannot compute, if any."""
    normalization = ATTENTION_NORMALIZATIONS[config.attention_normalization]
    sinks = normalization.sink and not backend.takes_learned_scores
    if normalization.family not in backend.families or sinks:
        return f"attention_normalization='{config.attention_normalization}'"
    if config.relative_position_bias == "distance" and not backend.takes_learned_scores:
        return "relative_position_bias='distance' ('rotary' works in every backend)"
    return None
