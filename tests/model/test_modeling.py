# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The encoder and its heads against an independent NumPy model of the formulas, and what transformers expects.

Weights are drawn large: at the usual scale every row of attention is nearly uniform, and a wrong scale or a dropped
mask would not show.
"""

import math
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM

from modeling_gau import (
    GAUConfig,
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
    unpadding_gau,
)
from modeling_gau.attention_gau import attention_with_weights, eager_attention_forward


NORMALIZATIONS = ("softmax", "softmax_plus", "squared_relu", "normalized_squared_relu")
USING_N = ("softmax_plus", "squared_relu")
ALL_MODELS = (
    GAUModel,
    GAUForMaskedLM,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUForQuestionAnswering,
    GAUForMultipleChoice,
)
VOCABULARY = 60


# Value width 36 is no multiple of the key width 8; the clamp of n is between the tested lengths.
FIELDS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 36,
    "attention_key_size": 8,
    "num_hidden_layers": 3,
    "max_position_embeddings": 16,
    "reference_length": 20,
    "softmax_plus_min_length": 5,
    "type_vocab_size": 3,
    "initializer_range": 0.4,
    "layer_norm_eps": 1e-3,
}


def build(model_class=GAUModel, attn_implementation: str | None = None, **changes):
    """A model in evaluation mode, with scale-offsets and biases away from 1 and 0."""
    torch.manual_seed(0)
    model = model_class._from_config(GAUConfig(**FIELDS | changes), attn_implementation=attn_implementation)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "scaleoffset" in name or name.endswith("bias"):
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model.eval()


def random_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def padding_mask(counts: list[int], width: int, side: str) -> torch.Tensor:
    columns = torch.arange(width)
    return torch.stack([(columns < n if side == "right" else columns >= width - n).long() for n in counts])


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# --------------------------------------------------------------------------------- the formulas, in float64 NumPy


def numpy_norm(x, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def numpy_rope(x, theta):
    """Rotates the pair (2j, 2j+1) of the row at position p by the angle p * theta^(-2j/s)."""
    seq, width = x.shape
    rotated = np.empty_like(x)
    for j in range(width // 2):
        angle = np.arange(seq) * theta ** (-2 * j / width)
        a, b = x[:, 2 * j], x[:, 2 * j + 1]
        rotated[:, 2 * j] = a * np.cos(angle) - b * np.sin(angle)
        rotated[:, 2 * j + 1] = a * np.sin(angle) + b * np.cos(angle)
    return rotated


def numpy_attention(a, visible, config):
    """Attention weights of one sequence from its scores; `visible` says which keys each query sees."""
    n = np.full((len(a), 1), config.fixed_n) if config.fixed_n else visible.sum(-1, keepdims=True)
    if config.attention_normalization in ("softmax", "softmax_plus"):
        if config.attention_normalization == "softmax_plus":
            a = a * np.log(np.maximum(n, config.softmax_plus_min_length)) / math.log(config.reference_length)
        weights = np.exp(a - a.max(-1, keepdims=True)) * visible
        total = weights.sum(-1, keepdims=True)
    else:
        weights = np.maximum(a, 0) ** 2 * visible
        total = n if config.attention_normalization == "squared_relu" else weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total)


def numpy_hidden_states(model, ids, real, types):
    """Hidden states of one sequence after the embeddings and after each layer, and the attention weights."""
    config = model.config
    p = {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}
    e, places = config.intermediate_size, np.arange(len(ids))
    x = p["embeddings.word_embeddings.weight"][ids] + p["embeddings.token_type_embeddings.weight"][types]
    states, attentions = [numpy_norm(x, config.layer_norm_eps)], []
    for index in range(config.num_hidden_layers):
        layer = f"layers.{index}.gau."
        z = states[-1] @ p[layer + "i_dense.weight"].T + p.get(layer + "i_dense.bias", 0)
        z = z / (1 + np.exp(-z))
        u, v, base = z[:, :e], z[:, e : 2 * e], z[:, 2 * e :]
        q, k = (
            numpy_rope(base * p[layer + name + ".weight"] + p.get(layer + name + ".bias", 0), 10000.0)
            for name in ("q_scaleoffset", "k_scaleoffset")
        )
        visible = np.broadcast_to(real, (len(ids), len(ids)))
        if config.sliding_window and index % 3:
            visible = visible & (abs(places[:, None] - places) <= config.sliding_window)
        attentions.append(numpy_attention(q @ k.T / math.sqrt(config.attention_key_size), visible, config))
        o = (u * (attentions[-1] @ v)) @ p[layer + "o_dense.weight"].T + p.get(layer + "o_dense.bias", 0)
        states.append(numpy_norm(states[-1] + o, config.layer_norm_eps))
    return np.stack(states), np.stack(attentions)


CASES = [(name, n) for name in NORMALIZATIONS for n in ((None, 11) if name in USING_N else (None,))]


@pytest.mark.parametrize("attn_implementation", [None, "eager"])
@pytest.mark.parametrize("with_bias_and_types", [False, True])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(("normalization", "fixed_n"), CASES)
@torch.no_grad()
def test_hidden_states_follow_the_formulas(normalization, fixed_n, window, with_bias_and_types, attn_implementation):
    model = build(
        attention_normalization=normalization,
        fixed_n=fixed_n,
        sliding_window=window,
        use_bias=with_bias_and_types,
        attn_implementation=attn_implementation,
    ).double()
    # The model keeps the frequencies of rotary positions in float32.
    model.rotary_emb.inv_freq = 10000.0 ** -(torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    for length in (1, 7, 33):
        for side in ("none", "right", "left"):
            counts = [length, length] if side == "none" else [length, length // 2 + 1, 0]
            width = length if side == "none" else length + 2
            mask = padding_mask(counts, width, side)
            ids = random_ids(len(counts), width) * mask
            types = (torch.arange(width) % 3 * with_bias_and_types).expand(len(counts), -1)
            outputs = model(
                ids,
                attention_mask=None if side == "none" else mask,
                token_type_ids=types if with_bias_and_types else None,
                output_hidden_states=True,
            )
            for row, real in enumerate(mask.bool()):
                expected, _ = numpy_hidden_states(model, ids[row].numpy(), real.numpy(), types[row].numpy())
                actual = torch.stack(outputs.hidden_states)[:, row, real]
                close(actual, torch.from_numpy(expected)[:, real], 1e-10)
                assert not outputs.last_hidden_state[row, ~real].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_positions_keep_their_precision_in_a_model_of_another_dtype(dtype):
    model, places = build(GAUModel), torch.tensor([[0, 3, 1000, 30000]])
    exact = model.rotary_emb(torch.zeros(1), places)
    cos, sin = model.to(dtype).rotary_emb(torch.zeros(1), places)
    assert torch.equal(cos, exact[0]) and torch.equal(sin, exact[1])
    with torch.device("meta"):
        empty = build(GAUModel)
    assert empty.to(dtype).rotary_emb.inv_freq.dtype == torch.float32
    assert empty.to_empty(device="cpu").rotary_emb.inv_freq.device.type == "cpu"


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@torch.no_grad()
def test_attention_weights_follow_the_formulas_and_are_far_from_uniform(normalization):
    model = build(attention_normalization=normalization)
    ids, mask = random_ids(2, 12), padding_mask([12, 7], 12, "right")
    attentions = model(ids, attention_mask=mask, output_attentions=True).attentions
    assert len(attentions) == 3 and attentions[0].shape == (2, 1, 12, 12)
    for row in range(2):
        _, expected = numpy_hidden_states(model, ids[row].numpy(), mask[row].numpy() == 1, np.zeros(12, dtype=int))
        close(torch.stack(attentions)[:, row, 0].double(), torch.from_numpy(expected))
        assert expected.max() > 3 * expected.mean()
    assert all(layer[1, :, :, 7:].eq(0).all() for layer in attentions)


# ------------------------------------------------------------------------------------------------- masks and batching


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("normalization", "fixed_n"), CASES)
@torch.no_grad()
def test_a_padded_row_gives_what_it_gives_alone(normalization, side, fixed_n):
    model = build(attention_normalization=normalization, fixed_n=fixed_n)
    counts, width = [11, 4, 1, 14], 14
    mask = padding_mask(counts, width, side)
    ids = random_ids(4, width) * mask
    together = model(ids, attention_mask=mask).last_hidden_state
    for row, n in enumerate(counts):
        alone = model(ids[row, mask[row] == 1][None]).last_hidden_state
        assert alone.shape[1] == n
        close(together[row, mask[row] == 1], alone[0])


@pytest.mark.parametrize("pooling", ["cls", "mean", "pair"])
@torch.no_grad()
def test_pooled_logits_do_not_depend_on_padding(pooling):
    model = build(GAUForSequenceClassification, classifier_pooling=pooling, num_labels=3)
    ids, types = random_ids(1, 6), torch.tensor([[0, 0, 0, 0, 1, 1]])
    alone = model(ids, token_type_ids=types).logits
    for side, pad in (("right", (0, 5)), ("left", (5, 0))):
        padded, mask = nn.functional.pad(ids, pad), padding_mask([6], 11, side)
        prepared = mask.bool()[:, None, None, :]
        for form in (mask, prepared, prepared.expand(-1, -1, 11, -1)):
            padded_types = nn.functional.pad(types, pad)
            close(model(padded, attention_mask=form, token_type_ids=padded_types).logits, alone)
    states = model.model(ids, token_type_ids=types).last_hidden_state
    pooled = {"cls": states[:, 0], "mean": states.mean(1), "pair": compared(states[:, :4], states[:, 4:])}[pooling]
    close(alone, model.classifier(pooled))


def compared(first, second):
    """(u + v) / 2, |u - v| and u * v of two means of magnitude 1."""
    u, v = (nn.functional.rms_norm(states.mean(1), (24,), eps=FIELDS["layer_norm_eps"]) for states in (first, second))
    return torch.cat(((u + v) / 2, (u - v).abs(), u * v), -1)


@torch.no_grad()
def test_a_single_segment_is_compared_with_itself():
    """Without token types, with types of one kind alone, and beside a row of two segments."""
    model = build(GAUForSequenceClassification, classifier_pooling="pair", num_labels=3)
    ids, mask = random_ids(2, 6), padding_mask([6, 4], 6, "right")
    types = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]])  # in the second row of padding alone
    states = model.model(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    logits = model(ids, attention_mask=mask, token_type_ids=types).logits
    close(logits[:1], model.classifier(compared(states[:1, :3], states[:1, 3:])))
    close(logits[1:], model.classifier(compared(states[1:, :4], states[1:, :4])))
    for types in (None, torch.zeros_like(ids), torch.ones_like(ids)):
        states = model.model(ids, token_type_ids=types).last_hidden_state
        close(model(ids, token_type_ids=types).logits, model.classifier(compared(states, states)))


@pytest.mark.parametrize("attn_implementation", [None, "eager", "sdpa"])
@torch.no_grad()
def test_forms_of_the_mask_agree(attn_implementation):
    model = build(attn_implementation=attn_implementation)
    ids, mask = random_ids(2, 9), padding_mask([9, 4], 9, "left")
    expected = model(ids, attention_mask=mask).last_hidden_state
    assert (expected - model(ids).last_hidden_state).abs().max() > 0.1
    four = mask.bool()[:, None, None, :]
    for form in (mask.bool(), mask.float()):
        close(model(ids, attention_mask=form).last_hidden_state, expected)
    # These forms do not say which queries are padding.
    real = mask.bool()
    added = [
        torch.zeros(2, 1, 9, 9).masked_fill(~four, low) for low in (float("-inf"), torch.finfo(torch.float32).min)
    ]
    for form in (four, four.expand(-1, -1, 9, -1), *added):
        close(model(ids, attention_mask=form).last_hidden_state[real], expected[real])


@torch.no_grad()
def test_positions_are_relative():
    model = build()
    ids = random_ids(1, 9)
    expected = model(ids).last_hidden_state
    close(model(ids, position_ids=torch.arange(9)[None] + 40).last_hidden_state, expected)
    stretched = model(ids, position_ids=torch.arange(9)[None] * 3).last_hidden_state
    assert (stretched - expected).abs().max() > 0.05


# ------------------------------------------------------------------------------------------ scaled rotary positions


def scaled_and_plain(folder, **changes) -> tuple[GAUModel, GAUModel]:
    model = build()
    model.save_pretrained(folder)
    return GAUModel.from_pretrained(folder, **changes), model


@torch.no_grad()
def test_linear_positions_are_divided_by_the_factor(tmp_path):
    scaled, model = scaled_and_plain(tmp_path, rope_parameters={"rope_type": "linear", "factor": 4.0})
    ids = random_ids(1, 40)
    positions = torch.arange(40)[None]
    close(scaled(ids, position_ids=positions * 4).last_hidden_state, model(ids).last_hidden_state)
    assert (scaled(ids).last_hidden_state - model(ids).last_hidden_state).abs().max() > 0.05


@torch.no_grad()
def test_dynamic_positions_change_beyond_the_trained_length_only(tmp_path):
    scaled, model = scaled_and_plain(tmp_path, rope_parameters={"rope_type": "dynamic", "factor": 2.0})
    at_length, beyond, far = random_ids(1, 16), random_ids(1, 24), random_ids(1, 64)
    close(scaled(at_length).last_hidden_state, model(at_length).last_hidden_state)
    first = scaled(beyond).last_hidden_state
    assert (first - model(beyond).last_hidden_state).abs().max() > 0.05
    # NTK: the base grows with the length of this batch, whatever came before it.
    base = 10000.0 * (2.0 * 24 / 16 - 1.0) ** (8 / 6)
    expected = build(rope_parameters={"rope_type": "default", "rope_theta": base})
    close(first, expected(beyond).last_hidden_state)
    scaled(far)
    torch.testing.assert_close(scaled(beyond).last_hidden_state, first, rtol=0, atol=0)
    close(scaled(at_length).last_hidden_state, model(at_length).last_hidden_state)


@torch.no_grad()
def test_yarn_positions_change_every_length_and_reach_beyond(tmp_path):
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    scaled, model = scaled_and_plain(tmp_path, rope_parameters=rope, max_position_embeddings=64)
    for length in (8, 64):
        states = scaled(random_ids(1, length)).last_hidden_state
        assert states.isfinite().all()
        assert (states - model(random_ids(1, length)).last_hidden_state).abs().max() > 0.05


# -------------------------------------------------------------------------------------------------- inputs and outputs


@torch.no_grad()
def test_embeddings_given_instead_of_ids():
    model = build()
    ids, mask = random_ids(2, 7), padding_mask([7, 5], 7, "right")
    types = torch.ones_like(ids)
    expected = model(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    embeds = model.get_input_embeddings()(ids)
    actual = model(inputs_embeds=embeds, attention_mask=mask, token_type_ids=types).last_hidden_state
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@torch.no_grad()
def test_hidden_states_begin_with_the_embeddings_and_end_with_the_output():
    model = build()
    ids = random_ids(2, 7)
    outputs = model(ids, output_hidden_states=True)
    assert len(outputs.hidden_states) == 4 and outputs.attentions is None
    assert outputs.hidden_states[1].shape == (2, 7, 24)
    torch.testing.assert_close(outputs.hidden_states[0], model.embeddings(ids), rtol=0, atol=0)
    torch.testing.assert_close(outputs.hidden_states[-1], outputs.last_hidden_state, rtol=0, atol=0)


def inputs_for(model_class, rows: int = 2, width: int = 6) -> dict[str, torch.Tensor]:
    if model_class is GAUForMultipleChoice:
        return {"input_ids": random_ids(rows, 3, width)}
    return {"input_ids": random_ids(rows, width)}


def labels_for(model_class, rows: int = 2, width: int = 6) -> dict[str, torch.Tensor]:
    return {
        GAUModel: {},
        GAUForMaskedLM: {"labels": random_ids(rows, width, seed=5)},
        GAUForSequenceClassification: {"labels": torch.arange(rows) % 2},
        GAUForTokenClassification: {"labels": random_ids(rows, width, seed=5) % 2},
        GAUForQuestionAnswering: {"start_positions": torch.arange(rows), "end_positions": torch.arange(rows) + 2},
        GAUForMultipleChoice: {"labels": torch.arange(rows) % 3},
    }[model_class]


@pytest.mark.parametrize("model_class", ALL_MODELS)
@torch.no_grad()
def test_tuples_hold_what_the_output_holds(model_class):
    model = build(model_class)
    inputs = {**inputs_for(model_class), **labels_for(model_class)}
    flags = {"output_hidden_states": True, "output_attentions": True}
    expected = model(**inputs, **flags)
    as_argument = model(**inputs, **flags, return_dict=False)
    model.config.return_dict = False
    as_field = model(**inputs, **flags)
    for values in (as_argument, as_field):
        assert type(values) is tuple and len(values) == len(expected)
        for value, other in zip(values, expected.to_tuple(), strict=True):
            pairs = zip(value, other, strict=True) if isinstance(value, tuple) else [(value, other)]
            assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("attn_implementation", [None, "sdpa", "gau_blocked"])
@torch.no_grad()
def test_weights_are_those_of_eager_attention_whatever_the_backend(attn_implementation):
    model, eager = build(attn_implementation=attn_implementation), build(attn_implementation="eager")
    inputs = {"input_ids": random_ids(2, 7), "attention_mask": padding_mask([7, 4], 7, "right")}
    outputs, expected = (m(**inputs, output_attentions=True) for m in (model, eager))
    assert len(outputs.attentions) == 3
    close(torch.stack(outputs.attentions), torch.stack(expected.attentions), 1e-6)
    close(outputs.last_hidden_state, model(**inputs).last_hidden_state)


def test_backends_whose_mask_eager_cannot_read_refuse_to_return_weights():
    # Flash attention takes two-dimensional masks.
    mask = padding_mask([7, 4], 7, "right")
    with pytest.raises(ValueError, match=r"'flash_attention_2' returns no attention weights\. Use 'eager'"):
        attention_with_weights("flash_attention_2", mask)
    assert attention_with_weights("flash_attention_2", None) is eager_attention_forward


@torch.no_grad()
def test_layers_may_be_removed():
    windowed = {"sliding_window": 2, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}
    model, expected = build(**windowed), build()
    del model.layers[1:], expected.layers[1:]
    ids, mask = random_ids(2, 9), padding_mask([9, 4], 9, "left")
    close(model(ids, attention_mask=mask).last_hidden_state, expected(ids, attention_mask=mask).last_hidden_state)
    assert model._facts_of_layers({}).windows == {"full_attention": None}


IDS = random_ids(2, 4)
REFUSED_INPUTS = [
    ({}, "exactly one of input_ids and inputs_embeds"),
    ({"input_ids": IDS, "inputs_embeds": torch.zeros(2, 4, 24)}, "exactly one of input_ids and inputs_embeds"),
    ({"input_ids": torch.tensor([[1, VOCABULARY]])}, r"input_ids must be in \[0, 59\].*from 1 to 60.*resize_token"),
    ({"input_ids": torch.tensor([[1, -100]])}, r"input_ids must be in \[0, 59\].*from -100 to 1"),
    ({"input_ids": IDS, "token_type_ids": torch.full_like(IDS, 3)}, r"token_type_ids must be in \[0, 2\]"),
    ({"input_ids": IDS[:0]}, r"empty or not two-dimensional.*\(0, 4\)"),
    ({"input_ids": IDS[:, :0]}, r"empty or not two-dimensional.*\(2, 0\)"),
    ({"input_ids": IDS[0]}, r"empty or not two-dimensional.*\(4,\)"),
    ({"inputs_embeds": torch.zeros(4, 24)}, r"empty or not two-dimensional.*\(4,\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 5)}, r"shape \(2, 5\).*must be \(2, 4\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(1, 4)}, r"shape \(1, 4\).*must be \(2, 4\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 4, 4)}, r"shape \(2, 4, 4\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 3, 4)}, r"shape \(2, 1, 3, 4\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 2, 4, 4)}, r"shape \(2, 2, 4, 4\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 4, 4).long()}, r"boolean.*torch.int64.*\.bool\(\)"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 4, 4)}, r"holds only 0 and 1.*\.bool\(\)"),
    ({"input_ids": IDS, "attention_mask": torch.full((1, 1, 1, 4), float("nan"))}, "must not hold NaN or infinity"),
    ({"input_ids": IDS, "attention_mask": torch.full((2, 4), float("nan"))}, "must be 1 .*0 for padding.*from nan"),
    ({"input_ids": IDS, "attention_mask": torch.tensor([[0.0, 0.0, 0.0, -1e9]] * 2)}, "1 .*0 for padding.*from -1000"),
    ({"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 2, 2]] * 2)}, "values from 1 to 2.*document_ids"),
    (
        {"input_ids": IDS, "attention_mask": [[1] * 4] * 2},
        "attention_mask must be a tensor of real numbers, but got list",
    ),
    *(
        ({"input_ids": IDS, name: torch.zeros(shape, dtype=torch.long)}, rf"{name} has shape.*\(2, 4\) or \(1, 4\)")
        for name in ("position_ids", "token_type_ids")
        for shape in ((), (3,), (1, 1), (2, 1), (2, 3), (3, 4), (1, 1, 4), (2, 1, 4))
    ),
    (
        {"input_ids": IDS, "position_ids": torch.arange(4.0)[None]},
        "position_ids must be a tensor of integers.*float32",
    ),
    ({"input_ids": IDS, "position_ids": [[0, 1, 2, 3]]}, "position_ids must be a tensor of integers.*got list"),
    ({"input_ids": IDS.float()}, "input_ids must be a tensor of integers"),
    ({"inputs_embeds": torch.zeros(2, 4, 1)}, r"inputs_embeds is .*shape \(2, 4, 1\).*hidden_size 24"),
    ({"inputs_embeds": torch.zeros(2, 4, 24).long()}, r"inputs_embeds is torch.int64.*must be floating"),
    ({"input_ids": [[1, 2]]}, "input_ids must be a tensor, but got list"),
    ({"input_ids": IDS, "document_ids": [[1] * 4] * 2}, "document_ids must be a tensor, but got list"),
    ({"input_ids": IDS[:1], "cu_seq_lens_q": torch.tensor(4)}, "cu_seq_lens_q must be one row of integers"),
    ({"input_ids": IDS[:1], "cu_seq_lens_q": torch.tensor([0.0, 4.0])}, "cu_seq_lens_q must be one row of integers"),
]


@pytest.mark.parametrize(("inputs", "message"), REFUSED_INPUTS, ids=[message for _, message in REFUSED_INPUTS])
def test_bad_inputs_are_refused_with_a_message(inputs, message):
    with pytest.raises(ValueError, match=message):
        build()(**inputs)


@pytest.mark.parametrize("kind", [GAUForSequenceClassification, GAUForQuestionAnswering])
def test_batches_of_one_answer_per_row_have_rows(kind):
    with pytest.raises(ValueError, match=r"empty or not two-dimensional.*\(4,\)"):
        build(kind)(inputs_embeds=torch.zeros(4, 24), position_ids=torch.zeros(1, 4).long())


@torch.no_grad()
def test_embeddings_of_another_dtype_are_taken():
    model, embeds = build(GAUModel), torch.randn(2, 4, 24).half()
    expected = model(inputs_embeds=embeds.float()).last_hidden_state
    for dtype in (torch.float16, torch.float64):
        assert torch.equal(model(inputs_embeds=embeds.to(dtype)).last_hidden_state, expected)


@pytest.mark.parametrize("name", ["attention_mask", "token_type_ids", "position_ids"])
def test_inputs_of_choices_are_as_many(name):
    ids = random_ids(6, 4).view(2, 3, 4)
    for shape in ((), (3,), (2, 3), (2, 4), (3, 2, 4)):
        with pytest.raises(ValueError, match=rf"{name} has shape .*must begin with \(2, 3\)"):
            build(GAUForMultipleChoice)(ids, **{name: torch.zeros(shape, dtype=torch.long)})
    with pytest.raises(ValueError, match=f"{name} must be a tensor, but got list"):
        build(GAUForMultipleChoice)(ids, **{name: [0] * 4})


@pytest.mark.parametrize("name", ["token_type_ids", "position_ids"])
@torch.no_grad()
def test_one_row_of_ids_stands_for_all(name):
    row = torch.tensor([0, 1, 1, 0])
    for kind, ids in ((GAUModel, random_ids(2, 4)), (GAUForMultipleChoice, random_ids(6, 4).view(2, 3, 4))):
        model = build(kind)
        expected = model(ids, **{name: row.expand(ids.shape)})[0]
        for given in (row, row[None], row[None].int()):
            assert torch.equal(model(ids, **{name: given})[0], expected)


# -------------------------------------------------------------------------------------------------------------- losses


@torch.no_grad()
def test_masked_lm_loss_and_tied_head():
    model = build(GAUForMaskedLM)
    ids = random_ids(2, 6)
    labels = torch.where(torch.arange(6) % 2 == 0, ids, -100)
    outputs = model(ids, labels=labels)
    states = model.model(ids).last_hidden_state
    close(outputs.logits, states @ model.model.embeddings.word_embeddings.weight.T)
    close(outputs.loss, nn.functional.cross_entropy(outputs.logits[:, ::2].flatten(0, 1), ids[:, ::2].flatten()))


@pytest.mark.parametrize(
    ("problem", "num_labels", "labels"),
    [
        (None, 1, torch.tensor([0.5, -1.0])),
        (None, 3, torch.tensor([2, 0])),
        (None, 3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])),
        ("regression", 3, torch.randn(2, 3)),
    ],
)
@torch.no_grad()
def test_sequence_classification_losses(problem, num_labels, labels):
    model = build(GAUForSequenceClassification, num_labels=num_labels, problem_type=problem)
    outputs = model(random_ids(2, 6), labels=labels)
    assert outputs.logits.shape == (2, num_labels)
    if num_labels == 1 or problem == "regression":
        expected = nn.functional.mse_loss(outputs.logits.squeeze(), labels)
    elif labels.ndim == 2:
        expected = nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)
    else:
        expected = nn.functional.cross_entropy(outputs.logits, labels)
    close(outputs.loss, expected)


@pytest.mark.parametrize("kind", [GAUForMaskedLM, GAUForTokenClassification])
@pytest.mark.parametrize("sparse", [False, True])
@torch.no_grad()
def test_labels_of_tokens_may_be_flattened_bytes_or_strided(kind, sparse):
    model = build(kind, sparse_prediction=sparse)
    labels = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1]])
    expected = model(IDS, labels=labels).loss
    for given in (labels.flatten(), labels.to(torch.uint8), labels.T.contiguous().T):
        assert torch.equal(model(IDS, labels=given).loss, expected)


@torch.no_grad()
def test_labels_of_rows_may_be_bytes_or_of_a_single_row():
    model = build(GAUForSequenceClassification, num_labels=3)
    assert torch.equal(model(IDS[:1], labels=torch.tensor(2)).loss, model(IDS[:1], labels=torch.tensor([2])).loss)
    model, ends = build(GAUForQuestionAnswering), torch.tensor([1, 3])
    losses = [model(IDS, start_positions=given, end_positions=given).loss for given in (ends, ends.to(torch.uint8))]
    assert torch.equal(*losses)


MULTI = {"problem_type": "multi_label_classification"}
REFUSED_LABELS = [
    (GAUForMaskedLM, {}, IDS.T.contiguous(), r"shape \(4, 2\), but must have \(2, 4\)"),
    (GAUForMaskedLM, {"sparse_prediction": True}, IDS[:1], r"shape \(1, 4\), but must have \(2, 4\)"),
    (GAUForMaskedLM, {}, IDS.int(), r"must be a tensor of int64, but got torch.int32. Convert class ids with .long()"),
    (GAUForMaskedLM, {}, IDS.float(), "must be a tensor of int64, but got torch.float32"),
    (GAUForMaskedLM, {}, torch.full((2, 4), 60), r"in \[0, 59\], or -100.*from 60 to 60"),
    (GAUForTokenClassification, {}, torch.full((2, 4), -1), r"in \[0, 1\], or -100.*from -1 to -1"),
    (GAUForTokenClassification, {}, torch.zeros(2, 3).long(), r"shape \(2, 3\), but must have \(2, 4\)"),
    (GAUForSequenceClassification, {"num_labels": 3}, torch.tensor([0, 3]), r"in \[0, 2\].*from 0 to 3"),
    (GAUForSequenceClassification, {"num_labels": 3}, torch.tensor([0]), r"must have \(2,\) or \(2, 1\)"),
    (GAUForSequenceClassification, {"num_labels": 3}, torch.tensor([0.0, 1.0]), r"must have \(2, 3\)"),
    (GAUForSequenceClassification, {"num_labels": 3}, torch.ones(2, 3).long(), "set config.problem_type"),
    (GAUForSequenceClassification, {"num_labels": 3}, torch.full((2, 3), 2.0), "from 0 to 1.*from 2.0 to 2.0"),
    (GAUForSequenceClassification, {"num_labels": 3, **MULTI}, torch.full((2, 3), -1), "from 0 to 1.*from -1 to -1"),
    (GAUForSequenceClassification, {"num_labels": 1}, torch.tensor([0.5]), r"must have \(2,\) or \(2, 1\)"),
    (GAUForSequenceClassification, {"num_labels": 1}, torch.tensor([0.5, float("nan")]), "must be finite numbers"),
    (GAUForSequenceClassification, {"num_labels": 1}, [0.5, 1.0], "must be a tensor, but got list"),
]


@pytest.mark.parametrize(("kind", "fields", "labels", "message"), REFUSED_LABELS)
def test_bad_labels_are_refused_with_a_message(kind, fields, labels, message):
    with pytest.raises(ValueError, match=message):
        build(kind, **fields)(IDS, labels=labels)


def test_bad_ends_of_answers_are_refused_with_a_message():
    model, start = build(GAUForQuestionAnswering), torch.tensor([1, 0])
    for end, message in ((start.float(), "end_positions must be a tensor of int64"), (start[:1], r"has shape \(1,\)")):
        with pytest.raises(ValueError, match=message):
            model(IDS, start_positions=start, end_positions=end)


@torch.no_grad()
def test_multi_label_targets_may_be_integers():
    model = build(GAUForSequenceClassification, num_labels=3, **MULTI)
    targets = torch.tensor([[1, 0, 1], [0, 0, 1]])
    expected = model(IDS, labels=targets.float()).loss
    for labels in (targets, targets.int(), targets.bool()):
        assert torch.equal(model(IDS, labels=labels).loss, expected)


@torch.no_grad()
def test_token_classification_loss_ignores_unlabelled_tokens():
    model = build(GAUForTokenClassification, num_labels=5)
    labels = torch.tensor([[0, 4, -100, -100], [-100, 2, 1, -100]])
    outputs = model(random_ids(2, 4), labels=labels)
    assert outputs.logits.shape == (2, 4, 5)
    close(outputs.loss, nn.functional.cross_entropy(outputs.logits[labels != -100], labels[labels != -100]))


@torch.no_grad()
def test_question_answering_loss_is_the_mean_of_both_ends():
    model = build(GAUForQuestionAnswering)
    start, end = torch.tensor([1, 0]), torch.tensor([3, 2])
    outputs = model(random_ids(2, 5), start_positions=start, end_positions=end)
    assert outputs.start_logits.shape == outputs.end_logits.shape == (2, 5)
    ends = (outputs.start_logits, start), (outputs.end_logits, end)
    close(outputs.loss, sum(nn.functional.cross_entropy(logits, target) for logits, target in ends) / 2)
    assert not torch.equal(outputs.start_logits, outputs.end_logits)


@torch.no_grad()
def test_multiple_choice_scores_each_choice_alone():
    model = build(GAUForMultipleChoice)
    ids, mask = random_ids(2, 3, 6), padding_mask([6, 4, 2, 6, 1, 3], 6, "right").view(2, 3, 6)
    outputs = model(ids, attention_mask=mask, labels=torch.tensor([2, 0]))
    assert outputs.logits.shape == (2, 3)
    for row in range(2):
        for choice in range(3):
            one = ids[row, choice, mask[row, choice] == 1][None, None]
            close(outputs.logits[row, choice], model(one).logits[0, 0])
    close(outputs.loss, nn.functional.cross_entropy(outputs.logits, torch.tensor([2, 0])))
    with pytest.raises(ValueError, match=r"\(batch, num_choices, seq\), but got \(2, 6\)"):
        model(ids[:, 0])
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model()


def loss_and_gradients(model, **inputs):
    model.zero_grad()
    outputs = model(**inputs)
    outputs.loss.backward()
    return outputs, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("num_items", [None, 40])
def test_sparse_prediction_gives_the_dense_loss_and_gradients(num_items):
    model = build(GAUForMaskedLM)
    ids, mask = random_ids(3, 8), padding_mask([8, 5, 7], 8, "right")
    labelled = (torch.rand(3, 8, generator=torch.Generator().manual_seed(3)) < 0.4) & mask.bool()
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~labelled, -100)}
    if num_items:
        inputs["num_items_in_batch"] = torch.tensor(num_items)
    dense, dense_gradients = loss_and_gradients(model, **inputs)
    model.config.sparse_prediction = True
    sparse, sparse_gradients = loss_and_gradients(model, **inputs)
    assert sparse.logits.shape == (labelled.sum(), VOCABULARY)
    close(sparse.logits, dense.logits[labelled], 1e-5)
    close(sparse.loss, dense.loss, 1e-5)
    for name, gradient in dense_gradients.items():
        assert gradient.abs().max() > 0
        close(sparse_gradients[name], gradient, 1e-5)
    assert model(ids).logits.shape == (3, 8, VOCABULARY)


@torch.no_grad()
def test_loss_is_the_sum_over_num_items_in_batch():
    model = build(GAUForMaskedLM)
    ids = random_ids(2, 6)
    labels = ids.masked_fill(torch.arange(6) > 3, -100)
    own = model(ids, labels=labels).loss
    close(model(ids, labels=labels, num_items_in_batch=torch.tensor(16)).loss, own * 8 / 16)
    close(model(ids, labels=labels, num_items_in_batch=32).loss, own * 8 / 32)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_without_labels_gives_zero_not_nan(sparse):
    model = build(GAUForMaskedLM, sparse_prediction=sparse)
    outputs, gradients = loss_and_gradients(model, input_ids=random_ids(2, 6), labels=torch.full((2, 6), -100))
    assert outputs.loss.item() == 0.0
    assert all(gradient.eq(0).all() for gradient in gradients.values())


# ------------------------------------------------------------------------------------- weights: initial, tied, on disk


def test_initial_standard_deviations_of_the_base_model():
    with torch.device("meta"):
        model = GAUModel(GAUConfig())
    torch.manual_seed(0)
    expected = (
        (nn.Linear(768, 400, bias=False), 0.0125),
        (nn.Linear(1536, 400), 0.0088),
        (nn.Embedding(400, 768), 0.0125),
    )
    for module, std in expected:
        model._init_weights(module)
        assert module.weight.std().item() == pytest.approx(std, rel=0.01)
        # Truncated at two standard deviations of the normal distribution it is cut from.
        assert 2.2 * std < module.weight.abs().max() < 2.3 * std


def test_initial_weights_of_a_small_model():
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 2000,
        "hidden_size": 256,
        "intermediate_size": 512,
        "attention_key_size": 64,
        "num_hidden_layers": 8,
    }
    config = GAUConfig(**FIELDS | sizes | {"initializer_range": None, "use_bias": True})
    weights = dict(GAUForMaskedLM(config).named_parameters())
    layer = "model.layers.5.gau."
    assert weights["model.embeddings.word_embeddings.weight"].std().item() == pytest.approx(0.5 / 16, rel=0.02)
    assert weights[layer + "i_dense.weight"].std().item() == pytest.approx(0.5 / 16, rel=0.02)
    assert weights[layer + "o_dense.weight"].std().item() == pytest.approx(0.5 / 512**0.5, rel=0.02)
    assert weights[layer + "q_scaleoffset.weight"].eq(1).all() and weights[layer + "k_scaleoffset.weight"].eq(1).all()
    assert all(weight.eq(0).all() for name, weight in weights.items() if name.endswith("bias"))
    assert weights["model.embeddings.word_embeddings.weight"][0].eq(0).all()
    config.initializer_range = 0.07
    assert GAUModel(config).layers[0].gau.o_dense.weight.std().item() == pytest.approx(0.07, rel=0.02)


def test_resized_embeddings_stay_tied(tmp_path):
    model = build(GAUForMaskedLM)
    before = model.model.embeddings.word_embeddings.weight.detach().clone()
    model.resize_token_embeddings(VOCABULARY + 5)
    table = model.model.embeddings.word_embeddings.weight
    assert model.decoder.weight is table and table.shape == (VOCABULARY + 5, 24)
    assert model.config.vocab_size == VOCABULARY + 5
    torch.testing.assert_close(table[:VOCABULARY], before, rtol=0, atol=0)
    ids = torch.tensor([[VOCABULARY + 4, 1]])
    outputs = model(ids, labels=ids)
    assert outputs.logits.shape == (1, 2, VOCABULARY + 5) and outputs.loss.isfinite()
    model.save_pretrained(tmp_path)
    loaded = GAUForMaskedLM.from_pretrained(tmp_path)
    assert loaded.decoder.weight is loaded.model.embeddings.word_embeddings.weight
    torch.testing.assert_close(loaded(ids).logits, outputs.logits, rtol=0, atol=0)


@pytest.mark.parametrize("model_class", ALL_MODELS)
@torch.no_grad()
def test_save_and_load_are_bit_equal(tmp_path, model_class):
    model = build(model_class, use_bias=True, attention_normalization="squared_relu", fixed_n=9)
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert loaded.config.fixed_n == 9 and not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    inputs = inputs_for(model_class)
    for value, other in zip(loaded(**inputs).to_tuple(), model(**inputs).to_tuple(), strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("size", ["1MB", "4KB"], ids=["one file", "shards"])
def test_weights_get_the_permissions_of_the_users_umask(tmp_path, size):
    before = os.umask(0o027)
    try:
        build(GAUForMaskedLM).save_pretrained(tmp_path, max_shard_size=size)
    finally:
        os.umask(before)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or size == "4KB"
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o640"}


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_written_once(tmp_path, tied):
    model = build(GAUForMaskedLM, tie_word_embeddings=tied)
    assert (model.decoder.weight is model.model.embeddings.word_embeddings.weight) is tied
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert ("decoder.weight" in file.keys()) is not tied
        assert "model.embeddings.word_embeddings.weight" in file.keys()
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(loaded.decoder.weight, model.decoder.weight)


@torch.no_grad()
def test_encoder_is_loaded_from_a_head_and_back(tmp_path):
    model = build(GAUForMaskedLM)
    model.save_pretrained(tmp_path)
    ids = random_ids(2, 5)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(encoder(ids).last_hidden_state, model.model(ids).last_hidden_state)
    encoder.save_pretrained(tmp_path / "encoder")
    classifier = GAUForSequenceClassification.from_pretrained(tmp_path / "encoder", num_labels=4)
    assert torch.equal(classifier.model(ids).last_hidden_state, encoder(ids).last_hidden_state)
    assert classifier.classifier.weight.std() > 0


@torch.no_grad()
def test_fixed_n_can_be_changed_at_load_and_on_a_model(tmp_path):
    model = build(attention_normalization="squared_relu")
    ids = random_ids(1, 7)
    free = model(ids).last_hidden_state
    model.config.fixed_n = 7
    close(model(ids).last_hidden_state, free, 1e-6)
    model.config.fixed_n = 100
    fixed = model(ids).last_hidden_state
    assert (fixed - free).abs().max() > 0.05
    model.save_pretrained(tmp_path)
    assert torch.equal(GAUModel.from_pretrained(tmp_path)(ids).last_hidden_state, fixed)
    for n in (None, 7):
        close(GAUModel.from_pretrained(tmp_path, fixed_n=n)(ids).last_hidden_state, free, 1e-6)
    for value in (0, -5):
        model.config.fixed_n = value
        with pytest.raises(ValueError, match=rf"fixed_n={value} must be an integer from 1"):
            model(ids)


# ------------------------------------------------------------------------------------------------- training, precision


@pytest.mark.parametrize("cost_of_a_call", [0.0, math.inf], ids=["without padding", "with padding"])
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("attn_implementation", ["gau_blocked", "eager"])
def test_gradient_checkpointing_gives_equal_gradients_with_dropout(
    monkeypatch, attn_implementation, use_reentrant, cost_of_a_call
):
    monkeypatch.setattr(unpadding_gau, "_OPERATIONS_OF_A_CALL", cost_of_a_call)
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3}
    model = build(GAUForMaskedLM, attn_implementation, **dropout).train()
    ids = random_ids(2, 9)
    inputs = {"input_ids": ids, "attention_mask": padding_mask([9, 5], 9, "right"), "labels": ids}
    shapes, unit = [], model.model.layers[1].gau
    query_and_key = unit.query_and_key
    unit.query_and_key = lambda base, angles: shapes.append(base.shape[:2]) or query_and_key(base, angles)
    torch.manual_seed(7)
    plain, expected = loss_and_gradients(model, **inputs)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    torch.manual_seed(7)
    checkpointed, actual = loss_and_gradients(model, **inputs)
    # The last one is computed again in the backward pass.
    assert shapes == [(2, 9) if cost_of_a_call else (1, 14)] * 3
    assert torch.equal(checkpointed.loss, plain.loss)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        close(actual[name], gradient, 1e-6)


@pytest.mark.parametrize("attn_implementation", [None, "eager", "sdpa"])
@pytest.mark.parametrize("field", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
@torch.no_grad()
def test_each_dropout_acts_in_training_and_not_in_evaluation(field, attn_implementation):
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = build(attn_implementation=attn_implementation, **{**off, field: 0.5})
    reference = build(attn_implementation=attn_implementation, **off)
    ids = random_ids(2, 9)
    expected = reference(ids).last_hidden_state
    assert torch.equal(model(ids).last_hidden_state, expected)
    assert torch.equal(reference.train()(ids).last_hidden_state, expected)
    first, second = (model.train()(ids).last_hidden_state for _ in range(2))
    assert (first - expected).abs().max() > 0.05
    assert (first - second).abs().max() > 0.05


@torch.no_grad()
def test_dropout_acts_on_embeddings_and_on_the_output_of_each_unit():
    model = build(hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.0)
    ids = random_ids(40, 30)
    clean = model(ids, output_hidden_states=True).hidden_states
    dropped = model.train().embeddings(ids)
    zero = dropped == 0
    assert zero.float().mean().item() == pytest.approx(0.25, abs=0.02)
    close(dropped[~zero], clean[0][~zero] / 0.75, 1e-6)
    model.embeddings.dropout.p = 0.0
    states = model(ids, output_hidden_states=True).hidden_states
    assert torch.equal(states[0], clean[0])
    assert (states[1] - clean[1]).abs().max() > 0.05


@pytest.mark.parametrize("classifier_dropout", [None, 0.0, 0.5])
@torch.no_grad()
def test_classifier_dropout(classifier_dropout):
    model = build(
        GAUForSequenceClassification,
        hidden_dropout_prob=0.4,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=classifier_dropout,
    )
    assert model.pooler.dropout.p == (0.4 if classifier_dropout is None else classifier_dropout)
    states, mask = torch.ones(1, 4, 1000), torch.ones(1, 4)
    fraction = (model.pooler.train()(states, mask) == 0).float().mean().item()
    assert fraction == pytest.approx(model.pooler.dropout.p, abs=0.06)
    assert torch.equal(model.pooler.eval()(states, mask), torch.ones(1, 1000))


@pytest.mark.parametrize("attn_implementation", [None, "eager"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@torch.no_grad()
def test_half_precision_is_finite_and_near_float32(normalization, dtype, attn_implementation):
    model = build(attention_normalization=normalization, attn_implementation=attn_implementation)
    ids, mask = random_ids(3, 33), padding_mask([33, 20, 0], 33, "left")
    expected = model(ids, attention_mask=mask).last_hidden_state
    actual = model.to(dtype)(ids, attention_mask=mask).last_hidden_state
    assert actual.dtype == dtype and actual.isfinite().all()
    error = (actual.float() - expected).square().mean().sqrt().item()
    assert error < (0.1 if dtype == torch.bfloat16 else 0.02)


def test_padding_without_a_mask_is_warned_about(caplog):
    from transformers.utils import logging

    logger = logging.get_logger("transformers.modeling_utils")
    logger.warning_once.cache_clear()
    logging.enable_propagation()
    try:
        model, ids = build(), random_ids(1, 4)
        model(ids)
        model(nn.functional.pad(ids, (0, 2)), attention_mask=padding_mask([4], 6, "right"))
        assert "attention_mask" not in caplog.text
        model(nn.functional.pad(ids, (0, 2)))
        assert "We strongly recommend passing in an `attention_mask`" in caplog.text
    finally:
        logging.disable_propagation()


# ------------------------------------------------------------------------------------------ changes to a loaded model


@torch.no_grad()
def test_normalization_of_a_loaded_model_is_checked():
    model = build(attention_normalization="softmax").eval()
    model.config.fixed_n = 7
    with pytest.raises(ValueError, match="fixed_n=7 has no use"):
        model(random_ids(2, 7))
    model.config.fixed_n = None
    model.config.attention_normalization = "foo"
    with pytest.raises(ValueError, match=r"Unknown attention_normalization='foo'\. Allowed: softmax, "):
        model(random_ids(2, 7))
    model.config.attention_normalization = "softmax"
    model.set_attn_implementation("sdpa")
    model.config.attention_normalization = "squared_relu"
    with pytest.raises(ValueError, match=r"'sdpa' cannot compute .*'squared_relu'"):
        model(random_ids(2, 7))
