# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The whole model written out in float64, row by row, from the formulas alone: what tests compare results with."""

import math

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from modeling_gau import GAUModel


def rotations(config, places: torch.Tensor, reach: int | None = None) -> torch.Tensor:
    """The complex numbers `(seq, key_dim / 2)` that turn the pairs of columns of each token; frequencies are float32.

    Args:
        reach: the batch's largest position + 1, by which some kinds of positions go; that of this row by default.
    """
    rope, size = config.rope_parameters, config.attention_key_size
    if rope["rope_type"] == "default":
        frequencies, scale = rope["rope_theta"] ** (-torch.arange(0, size, 2) / size), 1.0
    else:
        frequencies, scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](
            config, seq_len=int(places.max()) + 1 if reach is None else reach
        )
    angles = places[:, None] * frequencies.double()
    return torch.polar(torch.full_like(angles, scale), angles)


def rotate(states: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Pairs of neighbouring columns as complex numbers, turned."""
    pairs = states.expand(len(turns), -1).reshape(len(turns), -1, 2).contiguous()
    return torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(1)


def mean_square_norm(states: torch.Tensor, config) -> torch.Tensor:
    return states / (states.square().mean(-1, keepdim=True) + config.layer_norm_eps).sqrt()


def reference_weights(unit, config, scores, n, bias, seen) -> torch.Tensor:
    """The weights of one row from q . k / sqrt(s); 0 where a key is not `seen`."""
    name, root = config.attention_normalization, math.sqrt(config.attention_key_size)
    if name.startswith("softmax") or name == "scalable_softmax":
        if name == "softmax_plus":
            scores = scores * n.clamp(min=config.softmax_plus_min_length).log() / math.log(config.reference_length)
        if name == "scalable_softmax":
            scores = scores * unit.attention_scale * n.log() / math.log(config.reference_length)
        scores = (scores + bias).masked_fill(~seen, -math.inf)
        sink = unit.attention_sink if name == "softmax_sink" else scores.new_full((1,), -math.inf)
        top = torch.maximum(scores.amax(-1, keepdim=True), sink).clamp(min=-1e300)
        exps = (scores - top).exp()
        total = exps.sum(-1, keepdim=True) + (sink - top).exp()
        return exps / torch.where(total > 0, total, 1.0)
    if name == "sigmoid":
        return seen / (1 + n * torch.exp(-scores - bias))
    if name == "laplace":
        scaled = (scores * root / n + bias - math.sqrt(0.5)) / math.sqrt(1 / (4 * math.pi))
        return seen * torch.distributions.Normal(0.0, 1.0).cdf(scaled)
    if name == "squared_relu" and config.relative_position_bias is not None:
        return seen * (scores * root / n + bias).clamp(min=0) ** 2
    if name == "squared_relu":  # relu(a)^2 / n; a bias can only be that of a mask, which joins what is squared
        return seen * (scores / n.sqrt() + bias).clamp(min=0) ** 2
    squares = seen * (scores + bias).clamp(min=0) ** 2
    total = squares.sum(-1, keepdim=True)
    return squares / torch.where(total > 0, total, 1.0)


def reference_states(
    model: GAUModel,
    words: torch.Tensor,
    types: torch.Tensor | None = None,
    places: torch.Tensor | None = None,
    seen: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    reach: int | None = None,
) -> torch.Tensor:
    """The last hidden states of one row, `(seq, hidden)`, of a model in float64.

    Args:
        words: ids `(seq,)`, or embeddings `(seq, hidden)`.
        types: of tokens, `(seq,)`; 0 by default.
        places: positions, `(seq,)`; 0, 1, ... by default.
        seen: boolean `(seq, seq)`, which keys each query sees; all by default.
        bias: added to the scores, `(seq, seq)`.
        reach: see [`rotations`].
    """
    config, embeddings, length = model.config, model.embeddings, len(words)
    words = embeddings.word_embeddings(words) if words.ndim == 1 else words
    types = torch.zeros(length, dtype=torch.long) if types is None else types
    apart = torch.arange(length)[None] - torch.arange(length)[:, None]
    turns = rotations(config, torch.arange(length) if places is None else places, reach)
    hidden = mean_square_norm(words + embeddings.token_type_embeddings.weight[types], config)
    for layer in model.layers:
        unit = layer.gau
        gate, value, base = ACT2FN[config.hidden_act](unit.i_dense(hidden)).split(unit.widths, -1)
        query, key = (
            rotate(base * part.weight + (0.0 if part.bias is None else part.bias), turns)
            for part in (unit.q_scaleoffset, unit.k_scaleoffset)
        )
        biases = torch.zeros(length, length, dtype=torch.float64) if bias is None else bias
        if config.relative_position_bias == "distance":
            longest = config.relative_position_bias_max_distance
            biases = biases + unit.position_bias.weight[apart.clamp(-longest, longest) + longest]
        elif config.relative_position_bias == "rotary":
            biases = biases + rotate(unit.position_bias.query, turns) @ rotate(unit.position_bias.key, turns).T
        near = torch.ones(length, length, dtype=torch.bool) if seen is None else seen
        if unit.is_local:
            near = near & (apart.abs() <= config.sliding_window)
        n = near.sum(-1, keepdim=True).double().clamp(min=1)
        if config.fixed_n is not None:
            n = torch.full_like(n, config.fixed_n)
        scores = query @ key.T / math.sqrt(config.attention_key_size)
        attended = reference_weights(unit, config, scores, n, biases, near) @ value
        hidden = mean_square_norm(hidden + unit.o_dense(gate * attended), config)
    return hidden


def reference_logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Logits of a masked LM for one row without padding, `(seq,)` to `(seq, vocab)`."""
    return reference_states(model.model, ids) @ model.decoder.weight.T
