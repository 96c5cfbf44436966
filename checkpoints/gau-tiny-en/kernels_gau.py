# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Triton kernels for attention with one head, a narrow key and a wide value. Axes and widths are named as in
`attention_gau.py`; the query includes every factor.

A row of the output is value_dim columns wide, 1536 at the base size. As float32 sums, 128 rows of it are 196,608
numbers, and a multiprocessor of an H100 has 65,536 registers. A kernel in the manner of FlashAttention must therefore
compute the scores again for every 256 columns of the value, or take so few rows at a time that reading the value from
the L2 cache limits it: 16 rows would ask for 256 bytes per clock and multiprocessor, 128 rows for 32. With one head
there is a third way. The weight of a pair is one number, against the 1664 multiply-adds that use it. So these kernels
compute it once, round it to the inputs' type, keep it in a bounded buffer and multiply it as a matrix, in tiles of any
shape. Exponentials and random numbers are also computed once per pair, not once per 256 columns.

Multiply-adds per pair of positions, with s = key_dim and e = value_dim, at s = 128 and e = 1536:

| | useful | executed here | with scores per 256 columns |
|---|---|---|---|
| forward, `squared_relu` | s + e: 1664 | s + e: 1664, 100 % useful | s e / 256 + e: 2304, 72 % |
| forward, others | s + e: 1664 | 2 s + e: 1792, 93 %; sums of rows come first | 2304, 72 % |
| backward | 2 s + 2 e: 3328 | 3 s + 2 e: 3456, 96 % | s e / 256 + 2 e + 3 s: 4224, 79 %, with atomic sums |

The cost is traffic. In 16-bit types a weight is written and read once forward, 4 bytes per pair (the
column tiles that share a panel of weights run side by side and find it in the L2 cache); backward, weights and
gradients by the scores move 10 bytes, and 4 more that should stay in the cache. An H200 moves 16 bytes in the time of
1664 multiply-adds, so most of this hides behind the products. The exceptions are the weights kernel and the
products for the gradients of query and key: each moves 2 bytes per pair, the time of 200 multiply-adds, for 128.

The buffer holds `_STRIP_ELEMENTS` pairs, or `_MIN_STRIP` rows or columns of longer sequences, so memory is linear in
the length. The forward pass cuts strips of queries and the backward pass strips of keys, so that each tile of the wide
sums, the output and the gradient by the value, is finished by one program: in float32, in the same order each time.

Kernels skip tiles of keys before the first and after the last visible one of a sequence. They skip no queries, since
they do not know which of them are padding.

The gate u of the unit, u * (A v), stays outside. In inference, fusing it would save the output's round trip to memory,
4 bytes a column. Training must keep A v for the gradient by u, and the products of the backward pass would read the
gate with the gradient three times.

Compiled for the H100 and run in Triton's interpreter, but not yet timed; `benchmarks/benchmark_attention.py` would.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers.utils.import_utils import is_triton_available

from .configuration_gau import GAUError


# Number of pairs whose weights the buffer holds. The smallest strip has 44 tiles of 128 rows: times the 6 tiles of 256
# columns of a value of 1536, they keep the 132 multiprocessors of an H100 busy for exactly two rounds.
_STRIP_ELEMENTS = 2**26
_MIN_STRIP = 5632

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


if is_triton_available():
    import triton
    import triton.language as tl

    _LOG2_E = tl.constexpr(1.4426950408889634)
    _SMALLEST_NORMAL = tl.constexpr(1.1754943508222875e-38)
    _LOWEST = tl.constexpr(-3.4028234663852886e38)

    @triton.jit
    def _store_tile(pointer, tile, rows, columns, row_stride, row_mask, column_mask):
        """Stores a float32 tile of a matrix whose columns are neighbours, in the matrix's type."""
        offsets = rows.to(tl.int64)[:, None] * row_stride + columns[None, :]
        mask = row_mask[:, None] & column_mask[None, :]
        tl.store(pointer + offsets, tile.to(pointer.dtype.element_ty), mask=mask)

    # Triton reads TRITON_INTERPRET when it defines a function, and makes another kind of function then.
    INTERPRETED: bool | None = not isinstance(_store_tile, triton.JITFunction)

    @triton.jit
    def _load_tile(pointer, rows, columns, row_stride, column_stride, row_mask, column_mask):
        """A tile of a matrix, with zeros outside. Offsets take 64 bits: a strip may hold more than 2^31 elements."""
        offsets = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
        return tl.load(pointer + offsets, mask=row_mask[:, None] & column_mask[None, :], other=0.0)

    @triton.jit
    def _tile_of(rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
        """Sequence (64 bits), first row and first column of this program's tile: neighbours share their rows."""
        tiles_n = tl.cdiv(columns, BLOCK_N)
        tiles = tl.cdiv(rows, BLOCK_M) * tiles_n
        tile = tl.program_id(0) % tiles
        return (tl.program_id(0) // tiles).to(tl.int64), tile // tiles_n * BLOCK_M, tile % tiles_n * BLOCK_N

    @triton.jit
    def _bounds_of(bounds, batch, size):
        """First visible key of a sequence and the one after the last; (0, size) without a mask."""
        begin = 0
        end = size
        if bounds is not None:
            begin = tl.load(bounds + 2 * batch)
            end = tl.load(bounds + 2 * batch + 1)
        return begin, end

    @triton.jit
    def _visible_keys(visible, batch, stride, columns, begin, end):
        seen = (columns >= begin) & (columns < end)
        if visible is not None:
            seen = seen & (tl.load(visible + batch * stride + columns, mask=seen, other=0) != 0)
        return seen

    @triton.jit
    def _scores_of(
        query, key, rows, columns, key_dim, query_row, query_column, key_row, key_column, row_mask, column_mask,
        PRECISION: tl.constexpr, BLOCK_D: tl.constexpr,
    ):  # fmt: skip
        depth = tl.arange(0, BLOCK_D)
        q = _load_tile(query, rows, depth, query_row, query_column, row_mask, depth < key_dim)
        k = _load_tile(key, columns, depth, key_row, key_column, column_mask, depth < key_dim)
        return tl.dot(q, tl.trans(k), input_precision=PRECISION)

    @triton.jit
    def _weights_gradient_of(
        gradient, value, rows, columns, value_dim, gradient_row, gradient_column, value_row, value_column, row_mask,
        column_mask, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
    ):  # fmt: skip
        total = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
        for start in range(0, value_dim, BLOCK_V):
            width = start + tl.arange(0, BLOCK_V)
            g = _load_tile(gradient, rows, width, gradient_row, gradient_column, row_mask, width < value_dim)
            v = _load_tile(value, columns, width, value_row, value_column, column_mask, width < value_dim)
            total = tl.dot(g, tl.trans(v), total, input_precision=PRECISION)
        return total

    @triton.jit
    def _activation(scores, shift, SOFTMAX: tl.constexpr):
        """exp(score - shift), where shift comes in units of log 2, or relu(score); NaN stays NaN."""
        if SOFTMAX:
            return tl.exp2(scores * _LOG2_E - shift[:, None])
        return tl.maximum(scores, 0.0, propagate_nan=tl.PropagateNan.ALL)

    @triton.jit
    def _statistics_of(statistics, batch, all_queries, rows, row_mask, BLOCK_M: tl.constexpr):
        """What is subtracted from a row's scores and what multiplies its activations; 0 and 1 without statistics."""
        shift, factor = tl.zeros([BLOCK_M], tl.float32), tl.full([BLOCK_M], 1.0, tl.float32)
        if statistics is not None:
            start = statistics + 2 * batch * all_queries + rows
            shift = tl.load(start, mask=row_mask, other=0.0)
            factor = tl.load(start + all_queries, mask=row_mask, other=1.0)
        return shift, factor

    @triton.jit
    def _halves(bits):
        return tl.join(bits & 0xFFFF, bits >> 16)

    @triton.jit
    def _kept(seed, row_numbers, first_group, threshold, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
        """Which weights of a tile dropout keeps.

        A call of Philox gives eight numbers of 16 bits, for eight neighbouring keys. Its counter is the position in
        the whole batch: a weight meets the same number whatever strips and tiles it is computed in.
        """
        groups = first_group + tl.arange(0, BLOCK_N // 8)
        zeros = tl.zeros([BLOCK_M, BLOCK_N // 8], dtype=tl.int32)
        a, b, c, d = tl.philox(tl.load(seed), zeros + groups[None, :], zeros + row_numbers[:, None], zeros, zeros)
        numbers = tl.join(tl.join(_halves(a), _halves(b)), tl.join(_halves(c), _halves(d)))
        return tl.reshape(numbers, [BLOCK_M, BLOCK_N]).to(tl.int32) >= threshold

    def _configurations(names: str, *choices: tuple[int, ...]) -> list:
        """Launch configurations `(sizes..., num_warps, num_stages)`.

        The interpreter gets only the last one: Triton would time a choice on a GPU, which the interpreter replaces.
        """
        made = [
            triton.Config(dict(zip(names.split(), sizes, strict=True)), num_warps=warps, num_stages=stages)
            for *sizes, warps, stages in choices
        ]
        return made[-1:] if INTERPRETED else made

    def _fitting(configurations: list, arguments: dict, PRECISION: str, **kwargs) -> list:
        """Drops configurations that need more shared memory than an H100 has: finding out would take seconds of
        compiling each. Products of float32 in three parts hold every part of a tile."""
        largest = 64 * 128 if PRECISION == "tf32x3" else 128 * 256
        return [c for c in configurations if c.kwargs["BLOCK_M"] * c.kwargs["BLOCK_N"] <= largest]

    @triton.autotune(
        configs=_configurations(
            "BLOCK_M BLOCK_N", (128, 128, 8, 3), (128, 128, 8, 2), (64, 256, 8, 2), (64, 128, 4, 3), (64, 64, 4, 2)
        ),
        key=["size_class", "key_dim", "SOFTMAX", "PRECISION"],
        prune_configs_by={"early_config_prune": _fitting},
    )
    @triton.jit
    def _statistics_kernel(
        query, key, visible, bounds, statistics, queries, keys, key_dim,
        query_batch, query_row, query_column, key_batch, key_row, key_column, visible_batch, size_class,
        SOFTMAX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
        BLOCK_N: tl.constexpr,
    ):  # fmt: skip
        """Statistics `(batch, 2, query)` of whole rows: the maximum of the scores, in units of log 2 (softmax family),
        and 1 / the sum of the activations, or of their squares (squared-ReLU family)."""
        tiles = tl.cdiv(queries, BLOCK_M)
        batch = (tl.program_id(0) // tiles).to(tl.int64)
        rows = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
        depth = tl.arange(0, BLOCK_D)
        inside = rows < queries
        q = _load_tile(query + batch * query_batch, rows, depth, query_row, query_column, inside, depth < key_dim)
        begin, end = _bounds_of(bounds, batch, keys)
        maximum = tl.full([BLOCK_M], _LOWEST, dtype=tl.float32)
        total = tl.zeros([BLOCK_M], dtype=tl.float32)
        for start in range(begin // BLOCK_N * BLOCK_N, end, BLOCK_N):
            columns = start + tl.arange(0, BLOCK_N)
            seen = _visible_keys(visible, batch, visible_batch, columns, begin, end)
            k = _load_tile(key + batch * key_batch, columns, depth, key_row, key_column, seen, depth < key_dim)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
            if SOFTMAX:
                scores = tl.where(seen[None, :], scores * _LOG2_E, float("-inf"))
                new_maximum = tl.maximum(maximum, tl.max(scores, 1))
                total = total * tl.exp2(maximum - new_maximum) + tl.sum(tl.exp2(scores - new_maximum[:, None]), 1)
                maximum = new_maximum
            else:
                rectified = _activation(scores, maximum, SOFTMAX)  # scores of hidden keys, read as zeros, are 0
                total += tl.sum(rectified * rectified, 1)
        # Rows without a visible key or a positive score have no weights to divide; their quotient must not be NaN.
        factor = 1.0 / tl.where(total <= _SMALLEST_NORMAL, 1.0, total)
        start = statistics + 2 * batch * queries + rows
        tl.store(start, maximum, mask=inside)
        tl.store(start + queries, factor, mask=inside)

    @triton.autotune(
        configs=_configurations(
            "BLOCK_M BLOCK_N", (128, 256, 8, 1), (128, 128, 8, 1), (64, 128, 4, 1), (64, 64, 4, 1)
        ),
        key=["size_class", "key_dim", "SOFTMAX", "PRECISION"],
        prune_configs_by={"early_config_prune": _fitting},
    )
    @triton.jit
    def _weights_kernel(
        query, key, visible, bounds, statistics, seed, weights, queries, keys, stored_keys, key_dim, all_queries,
        first_row, threshold, keep_scale,
        query_batch, query_row, query_column, key_batch, key_row, key_column, visible_batch, weights_batch,
        weights_row, size_class,
        SOFTMAX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
        BLOCK_N: tl.constexpr,
    ):  # fmt: skip
        """Weights `(batch, query, key)` after normalization and dropout, 0 from the last key to `stored_keys`. Tiles
        without a visible key are not written."""
        batch, tile_row, first_column = _tile_of(queries, keys, BLOCK_M, BLOCK_N)
        rows, columns = tile_row + tl.arange(0, BLOCK_M), first_column + tl.arange(0, BLOCK_N)
        begin, end = _bounds_of(bounds, batch, keys)
        if (first_column < end) & (first_column + BLOCK_N > begin):
            inside = rows < queries
            seen = _visible_keys(visible, batch, visible_batch, columns, begin, end)
            scores = _scores_of(
                query + batch * query_batch, key + batch * key_batch, rows, columns, key_dim, query_row, query_column,
                key_row, key_column, inside, seen, PRECISION, BLOCK_D,
            )  # fmt: skip
            shift, factor = _statistics_of(statistics, batch, all_queries, rows, inside, BLOCK_M)
            tile_weights = _activation(scores, shift, SOFTMAX)
            if not SOFTMAX:
                tile_weights = tile_weights * tile_weights
            tile_weights = tl.where(seen[None, :], tile_weights * factor[:, None], 0.0)
            if seed is not None:
                row_numbers = (first_row + batch * all_queries).to(tl.int32) + rows
                kept = _kept(seed, row_numbers, first_column // 8, threshold, BLOCK_M, BLOCK_N)
                tile_weights = tl.where(kept, tile_weights * keep_scale, 0.0)
            weights += batch * weights_batch
            _store_tile(weights, tile_weights, rows, columns, weights_row, inside, columns < stored_keys)

    @triton.autotune(
        configs=_configurations(
            "BLOCK_M BLOCK_N BLOCK_V", (128, 256, 64, 8, 3), (128, 128, 64, 8, 4), (64, 128, 64, 4, 4),
            (64, 64, 128, 4, 2),
        ),
        key=["size_class", "key_dim", "value_dim", "SOFTMAX", "PRECISION"],
        prune_configs_by={"early_config_prune": _fitting},
    )  # fmt: skip
    @triton.jit
    def _scores_gradient_kernel(
        query, key, value, gradient, visible, bounds, statistics, inner, seed, weights, scores_gradient,
        queries, keys, stored_keys, key_dim, value_dim, all_queries, first_row, first_group, threshold, keep_scale,
        query_batch, query_row, query_column, key_batch, key_row, key_column, value_batch, value_row, value_column,
        gradient_batch, gradient_row, gradient_column, visible_batch, weights_batch, weights_row, size_class,
        SOFTMAX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
        BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
    ):  # fmt: skip
        """Weights after dropout and the gradient by the scores, both `(batch, query, key)`.

        With A the weights, D = dO V^T the gradient by the weights and i the inner product of a row of dO with its
        output: dS = A (D - i) for softmax, 2 relu(S) factor (D - i) for squared ReLU, where i is 0 without a row sum;
        with dropout, D is 0 where a weight was dropped and D / (1 - p) elsewhere.
        """
        batch, tile_row, first_column = _tile_of(queries, keys, BLOCK_M, BLOCK_N)
        rows, columns = tile_row + tl.arange(0, BLOCK_M), first_column + tl.arange(0, BLOCK_N)
        begin, end = _bounds_of(bounds, batch, keys)
        if (first_column < end) & (first_column + BLOCK_N > begin):
            inside = rows < queries
            seen = _visible_keys(visible, batch, visible_batch, columns, begin, end)
            scores = _scores_of(
                query + batch * query_batch, key + batch * key_batch, rows, columns, key_dim, query_row, query_column,
                key_row, key_column, inside, seen, PRECISION, BLOCK_D,
            )  # fmt: skip
            shift, factor = _statistics_of(statistics, batch, all_queries, rows, inside, BLOCK_M)
            activation = tl.where(seen[None, :], _activation(scores, shift, SOFTMAX), 0.0)
            tile_weights = activation * factor[:, None]
            if not SOFTMAX:
                tile_weights = tile_weights * activation
            if seed is not None:
                row_numbers = (first_row + batch * all_queries).to(tl.int32) + rows
                kept = _kept(seed, row_numbers, first_group + first_column // 8, threshold, BLOCK_M, BLOCK_N)
                tile_weights = tl.where(kept, tile_weights * keep_scale, 0.0)
                # Activations are not negative: the sign has room for what was dropped.
                activation = tl.where(kept, activation, -activation)
            weights += batch * weights_batch
            _store_tile(weights, tile_weights, rows, columns, weights_row, inside, columns < stored_keys)

            # Registers hold one sum of 128 x 256, not two, so activations wait where their gradient will be written.
            scores_gradient += batch * weights_batch
            _store_tile(scores_gradient, activation, rows, columns, weights_row, inside, columns < stored_keys)
            tl.debug_barrier()
            weights_gradient = _weights_gradient_of(
                gradient + batch * gradient_batch, value + batch * value_batch, rows, columns, value_dim,
                gradient_row, gradient_column, value_row, value_column, inside, seen, PRECISION, BLOCK_M, BLOCK_N,
                BLOCK_V,
            )  # fmt: skip
            activation = _load_tile(scores_gradient, rows, columns, weights_row, 1, inside, columns < stored_keys)
            activation = activation.to(tl.float32)
            if seed is not None:
                weights_gradient = tl.where(activation > 0.0, weights_gradient * keep_scale, 0.0)
                activation = tl.abs(activation)
            if statistics is not None:
                weights_gradient -= tl.load(inner + batch * queries + rows, mask=inside, other=0.0)[:, None]
            if not SOFTMAX:
                factor = 2.0 * factor
            tile_gradient = activation * factor[:, None] * weights_gradient
            _store_tile(scores_gradient, tile_gradient, rows, columns, weights_row, inside, columns < stored_keys)

    @triton.autotune(
        configs=_configurations(
            "BLOCK_M BLOCK_N BLOCK_K", (128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (128, 128, 64, 8, 4),
            (128, 128, 64, 4, 4), (64, 128, 64, 4, 4), (64, 64, 64, 4, 4), (64, 256, 64, 4, 4),
        ),
        key=["size_class", "columns", "BOUNDED_ROWS", "PRECISION"],
        prune_configs_by={"early_config_prune": _fitting},
    )  # fmt: skip
    @triton.jit
    def _product_kernel(
        left, right, product, bounds, rows, inner, columns, left_keys,
        left_batch, left_row, left_column, right_batch, right_row, right_column, product_batch, product_row,
        size_class,
        BOUNDED_ROWS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
        BLOCK_K: tl.constexpr,
    ):  # fmt: skip
        """left @ right, batch by batch. Keys are the rows of the product (BOUNDED_ROWS) or the axis of the sum; `left`
        counts as 0 at keys outside the bounds.

        Tiles of `left` are masked at `left_keys` only, a multiple of 16: a mask from any key on would forbid wide
        loads. Stored tiles with a visible key hold zeros at hidden keys, and this kernel's are no larger along the
        sum.
        """
        batch, first_row, first_column = _tile_of(rows, columns, BLOCK_M, BLOCK_N)
        m, n = first_row + tl.arange(0, BLOCK_M), first_column + tl.arange(0, BLOCK_N)
        first_key, last_key = _bounds_of(bounds, batch, rows if BOUNDED_ROWS else inner)
        begin, end = first_key, last_key
        if BOUNDED_ROWS:
            begin, end = 0, inner
            if (first_row >= last_key) | (first_row + BLOCK_M <= first_key):
                end = 0
        left_rows = left_keys if BOUNDED_ROWS else rows
        left_columns = inner if BOUNDED_ROWS else left_keys
        total = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
        for start in range(begin // BLOCK_K * BLOCK_K, end, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            a = _load_tile(left + batch * left_batch, m, k, left_row, left_column, m < left_rows, k < left_columns)
            b = _load_tile(
                right + batch * right_batch, k, n, right_row, right_column, (k >= begin) & (k < end), n < columns
            )  # fmt: skip
            total = tl.dot(a, b, total, input_precision=PRECISION)
        if BOUNDED_ROWS:  # rows of tiles that were not written
            total = tl.where(((m >= first_key) & (m < last_key))[:, None], total, 0.0)
        _store_tile(product + batch * product_batch, total, m, n, product_row, m < rows, n < columns)

    @triton.jit
    def _inner_products_kernel(
        left, right, products, rows, columns, left_batch, left_row, left_column, right_batch, right_row, right_column,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    ):  # fmt: skip
        """Inner products `(batch, row)` of the rows of two matrices, in float32."""
        tiles = tl.cdiv(rows, BLOCK_M)
        batch = (tl.program_id(0) // tiles).to(tl.int64)
        m = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
        total = tl.zeros([BLOCK_M], dtype=tl.float32)
        for start in range(0, columns, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)
            a = _load_tile(left + batch * left_batch, m, n, left_row, left_column, m < rows, n < columns)
            b = _load_tile(right + batch * right_batch, m, n, right_row, right_column, m < rows, n < columns)
            total += tl.sum(a.to(tl.float32) * b.to(tl.float32), 1)
        tl.store(products + batch * rows + m, total, mask=m < rows)

else:
    INTERPRETED = None


# ----------------------------------------------------------------------------------------------------------- launching


@dataclass(frozen=True)
class _Rule:
    """How scores become weights, in the kernels' terms."""

    softmax: bool
    sum_normalized: bool
    dropout: float

    @property
    def has_statistics(self) -> bool:
        return self.softmax or self.sum_normalized

    @property
    def threshold(self) -> int:
        """16-bit numbers below it drop their weight."""
        return round(self.dropout * 2**16)

    @property
    def keep_scale(self) -> float:
        """1 / the share of numbers that keep their weight."""
        return 2**16 / max(2**16 - self.threshold, 1)


def _strips(batch: int, cut: int, other: int) -> list[tuple[slice, slice]]:
    """Parts of the batch and of its axis `cut` whose pairs with the axis `other` fit into the buffer: several
    sequences, or a part of one."""
    sequences = max(1, min(batch, _STRIP_ELEMENTS // (cut * other)))
    length = cut
    if cut * other > _STRIP_ELEMENTS:
        length = min(cut, max(_MIN_STRIP, _STRIP_ELEMENTS // other // 128 * 128))
    return [
        (slice(b, min(b + sequences, batch)), slice(i, min(i + length, cut)))
        for b in range(0, batch, sequences)
        for i in range(0, cut, length)
    ]


def _stored(keys: int) -> int:
    """Columns stored for the weights of `keys` keys: wide loads need rows that start at multiples of 16 elements."""
    return -(-keys // 16) * 16


def _visible_bounds(visible: torch.Tensor) -> torch.Tensor:
    """`(batch, 2)`, int32: the first visible key of each sequence and the one after the last, equal without any."""
    positions = torch.arange(visible.shape[1], dtype=torch.int32, device=visible.device)
    end = torch.where(visible, positions + 1, 0).amax(1)
    begin = torch.where(visible, positions, end[:, None]).amin(1)
    return torch.stack((begin, end), 1)


def _precision(tensor: torch.Tensor) -> str:
    """How tensor cores multiply float32: as TF32 where PyTorch's own products may, otherwise as three products of
    TF32, whose errors are about those of float32. (Exact ones run outside the tensor cores, as thousands of
    instructions per tile, which take minutes to compile.)"""
    if tensor.dtype != torch.float32:
        return "tf32"  # ignored for other types
    # PyTorch 2.9 renamed the setting, and refuses to read the old name once the new one was set.
    if hasattr(torch.backends, "fp32_precision"):
        return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"


def _device(tensor: torch.Tensor):
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _tiles(batch: int, rows: int, columns: int) -> Callable:
    return lambda meta: (batch * triton.cdiv(rows, meta["BLOCK_M"]) * triton.cdiv(columns, meta["BLOCK_N"]),)


def _row_tiles(batch: int, rows: int) -> Callable:
    return lambda meta: (batch * triton.cdiv(rows, meta["BLOCK_M"]),)


def _scores_arguments(query, key, rule: _Rule) -> dict:
    """The common arguments of kernels that compute scores. Kernels are tuned by length, rounded up to a power of two:
    otherwise every new padded length would tune them again."""
    return {
        "size_class": triton.next_power_of_2(key.shape[1]),
        "SOFTMAX": rule.softmax,
        "PRECISION": _precision(query),
        "BLOCK_D": max(16, triton.next_power_of_2(key.shape[2])),
    }


def _visible_stride(visible: torch.Tensor | None) -> int:
    return 0 if visible is None else visible.stride(0)


def _compute_statistics(query, key, visible, bounds, rule: _Rule) -> torch.Tensor:
    batch, queries, key_dim = query.shape
    statistics = torch.empty(batch, 2, queries, dtype=torch.float32, device=query.device)
    _statistics_kernel[_row_tiles(batch, queries)](
        query, key, visible, bounds, statistics, queries, key.shape[1], key_dim,
        *query.stride(), *key.stride(), _visible_stride(visible), **_scores_arguments(query, key, rule),
    )  # fmt: skip
    return statistics


def _multiply(left, right, product, bounds, bounded_rows: bool) -> None:
    """product = left @ right, where left is a part of a buffer; see `_product_kernel`."""
    batch, rows, inner = left.shape
    columns = right.shape[2]
    _product_kernel[_tiles(batch, rows, columns)](
        left, right, product, bounds, rows, inner, columns, _stored(rows if bounded_rows else inner),
        *left.stride(), *right.stride(), product.stride(0), product.stride(1),
        size_class=triton.next_power_of_2(rows), BOUNDED_ROWS=bounded_rows, PRECISION=_precision(right),
    )  # fmt: skip


def _inner_products(left, right) -> torch.Tensor:
    batch, rows, columns = left.shape
    products = torch.empty(batch, rows, dtype=torch.float32, device=left.device)
    grid = _row_tiles(batch, rows)({"BLOCK_M": 16})
    _inner_products_kernel[grid](
        left, right, products, rows, columns, *left.stride(), *right.stride(), BLOCK_M=16, BLOCK_N=256
    )
    return products


def _attention(query, key, value, visible, bounds, seed, rule: _Rule) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Output and, where the rule has them, statistics of the rows."""
    batch, queries, key_dim = query.shape
    keys, value_dim = value.shape[1:]
    output = value.new_empty(batch, queries, value_dim)
    statistics = _compute_statistics(query, key, visible, bounds, rule) if rule.has_statistics else None
    strips = _strips(batch, queries, keys)
    buffer = value.new_empty(strips[0][0].stop, strips[0][1].stop, _stored(keys))
    for sequences, rows in strips:
        q, k, v = query[sequences, rows], key[sequences], value[sequences]
        weights = buffer[: q.shape[0], : q.shape[1], :keys]
        seen = None if visible is None else visible[sequences]
        limits = None if bounds is None else bounds[sequences]
        _weights_kernel[_tiles(*weights.shape)](
            q, k, seen, limits, None if statistics is None else statistics[sequences, :, rows], seed, weights,
            q.shape[1], keys, _stored(keys), key_dim, queries, sequences.start * queries + rows.start,
            rule.threshold, rule.keep_scale,
            query_batch=q.stride(0), query_row=q.stride(1), query_column=q.stride(2),
            key_batch=k.stride(0), key_row=k.stride(1), key_column=k.stride(2), visible_batch=_visible_stride(seen),
            weights_batch=weights.stride(0), weights_row=weights.stride(1), **_scores_arguments(q, k, rule),
        )  # fmt: skip
        _multiply(weights, v, output[sequences, rows], limits, bounded_rows=False)
    return output, statistics


def _attention_gradients(
    gradient, query, key, value, output, statistics, visible, bounds, seed, rule: _Rule
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, queries, key_dim = query.shape
    keys, value_dim = value.shape[1:]
    strips = _strips(batch, keys, queries)
    cut = strips[0][1].stop < keys
    key_gradient, value_gradient = key.new_empty(key.shape), value.new_empty(value.shape)
    query_gradient = query.new_empty(query.shape)
    if cut:  # the sum over strips is taken in float32 and rounded once
        query_gradient = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
    inner = _inner_products(gradient, output) if rule.has_statistics else None
    buffers = [value.new_empty(strips[0][0].stop, queries, _stored(strips[0][1].stop)) for _ in range(2)]
    for sequences, part in strips:
        q, k, v, g = query[sequences], key[sequences, part], value[sequences, part], gradient[sequences]
        weights, scores_gradient = (buffer[: q.shape[0], :, : k.shape[1]] for buffer in buffers)
        seen = None if visible is None else visible[sequences, part]
        limits = None if bounds is None else (bounds[sequences] - part.start).clamp(0, k.shape[1])
        _scores_gradient_kernel[_tiles(*weights.shape)](
            q, k, v, g, seen, limits, None if statistics is None else statistics[sequences],
            None if inner is None else inner[sequences], seed, weights, scores_gradient,
            queries, k.shape[1], _stored(k.shape[1]), key_dim, value_dim, queries, sequences.start * queries,
            part.start // 8, rule.threshold, rule.keep_scale,
            query_batch=q.stride(0), query_row=q.stride(1), query_column=q.stride(2),
            key_batch=k.stride(0), key_row=k.stride(1), key_column=k.stride(2),
            value_batch=v.stride(0), value_row=v.stride(1), value_column=v.stride(2),
            gradient_batch=g.stride(0), gradient_row=g.stride(1), gradient_column=g.stride(2),
            visible_batch=_visible_stride(seen), weights_batch=weights.stride(0), weights_row=weights.stride(1),
            **_scores_arguments(q, k, rule),
        )  # fmt: skip
        _multiply(weights.mT, g, value_gradient[sequences, part], limits, bounded_rows=True)
        _multiply(scores_gradient.mT, q, key_gradient[sequences, part], limits, bounded_rows=True)
        if cut:
            partial = torch.empty(q.shape, dtype=torch.float32, device=q.device)
            _multiply(scores_gradient, k, partial, limits, bounded_rows=False)
            query_gradient[sequences] += partial
        else:
            _multiply(scores_gradient, k, query_gradient[sequences], limits, bounded_rows=False)
    return query_gradient.to(query.dtype), key_gradient, value_gradient


# ----------------------------------------------------------------------------------------------------------- operators

# PyTorch's operators are global: the module's name keeps this copy apart from those that come with checkpoints.
_OPERATORS = re.sub(r"\W", "_", f"gau_{__name__}", flags=re.ASCII)


@torch.library.custom_op(f"{_OPERATORS}::triton_attention", mutates_args=())
def _triton_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor | None,
    bounds: torch.Tensor | None,
    seed: torch.Tensor | None,
    softmax: bool,
    sum_normalized: bool,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    with _device(query):
        rule = _Rule(softmax, sum_normalized, dropout)
        output, statistics = _attention(query, key, value, visible, bounds, seed, rule)
    return output, query.new_empty(0, dtype=torch.float32) if statistics is None else statistics


@_triton_attention.register_fake
def _(query, key, value, visible, bounds, seed, softmax, sum_normalized, dropout):
    batch, queries, _ = query.shape
    statistics = (batch, 2, queries) if softmax or sum_normalized else (0,)
    return value.new_empty(batch, queries, value.shape[2]), query.new_empty(statistics, dtype=torch.float32)


@torch.library.custom_op(f"{_OPERATORS}::triton_attention_backward", mutates_args=())
def _triton_attention_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    statistics: torch.Tensor,
    visible: torch.Tensor | None,
    bounds: torch.Tensor | None,
    seed: torch.Tensor | None,
    softmax: bool,
    sum_normalized: bool,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients by query, key and value."""
    rule = _Rule(softmax, sum_normalized, dropout)
    statistics = statistics if rule.has_statistics else None
    with _device(query):
        return _attention_gradients(gradient, query, key, value, output, statistics, visible, bounds, seed, rule)


@_triton_attention_backward.register_fake
def _(gradient, query, key, value, output, statistics, visible, bounds, seed, softmax, sum_normalized, dropout):
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save_for_backward(ctx, inputs, output):
    *tensors, ctx.softmax, ctx.sum_normalized, ctx.dropout = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, gradient, _):
    query, key, value, visible, bounds, seed, output, statistics = ctx.saved_tensors
    gradients = _triton_attention_backward(
        gradient, query, key, value, output, statistics, visible, bounds, seed,
        ctx.softmax, ctx.sum_normalized, ctx.dropout,
    )  # fmt: skip
    return *gradients, None, None, None, None, None, None


def _no_second_derivative(ctx, *gradients):
    raise RuntimeError(
        "attn_implementation='gau_triton' has no second derivative. Use attn_implementation='eager' to differentiate "
        "through gradients."
    )


_triton_attention.register_autograd(_backward, setup_context=_save_for_backward)
_triton_attention_backward.register_autograd(_no_second_derivative)


def triton_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor | None,
    softmax: bool,
    sum_normalized: bool,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention with one head, differentiable once.

    Args:
        query: `(batch, query, key_dim)`, multiplied by every factor; float32, bfloat16 or float16.
        key, value: `(batch, key, key_dim)` and `(batch, key, value_dim)`, of the query's type and device.
        visible: `(batch, key)`, boolean: which keys are real, in any pattern; `None` for all.
        softmax: weights are the softmax of the scores, otherwise the squares of the positive ones.
        sum_normalized: squares are divided by their row's sum.
        dropout: share of the weights that is dropped, in steps of 2^-16.

    Returns:
        `(batch, query, value_dim)`; 0 in the rows of a sequence without a visible key.

    Raises:
        ValueError: Triton is missing, or the tensors' device or type is not one that the kernels run on.
    """
    _check_inputs(query, key, value)
    if query.shape[0] == 0:  # no program to launch
        return query @ key.mT @ value
    if visible is not None:
        visible = visible.contiguous()
    # Outside the operator, so that a compiled model computes them once for all layers and both passes.
    bounds = None if visible is None else _visible_bounds(visible)
    # From PyTorch's generator, so that seeds and gradient checkpointing work as usual; made on the device, which then
    # need not wait for it.
    seed = torch.randint(2**62, (1,), device=query.device) if dropout > 0 else None
    return _triton_attention(query, key, value, visible, bounds, seed, softmax, sum_normalized, dropout)[0]


def _check_inputs(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    instead = "Use attn_implementation='gau_blocked' or 'eager', or leave attn_implementation out."
    if INTERPRETED is None:
        raise GAUError(
            f"attn_implementation='gau_triton' needs Triton, which is not installed (pip install triton). {instead}"
        )
    if query.device.type == "cpu" and not INTERPRETED:
        raise GAUError(
            "attn_implementation='gau_triton' runs on GPUs, but the tensors are on the CPU (for tests, Triton's "
            f"interpreter takes them if TRITON_INTERPRET=1 is set before Python starts). {instead}"
        )
    dtypes = {tensor.dtype for tensor in (query, key, value)}
    if len(dtypes) > 1 or query.dtype not in _DTYPES:
        allowed = ", ".join(map(str, _DTYPES))
        raise GAUError(
            f"attn_implementation='gau_triton' takes query, key and value of one type of {allowed}, but got "
            f"{', '.join(sorted(map(str, dtypes)))}. {instead}"
        )
