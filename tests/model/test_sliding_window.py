# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Layers of local attention: what they see, and n."""

import math

import pytest
import torch
from transformers import AttentionInterface

from modeling_gau import GAUConfig, GAUForMaskedLM, GAUModel, attention_gau, export, unpadding_gau
from modeling_gau.attention_gau import (
    ATTENTION_BACKENDS,
    ATTENTION_NORMALIZATIONS,
    choose_attention_backend,
)
from modeling_gau.unpadding_gau import key_count, visible_keys, within_window


LENGTHS = (130, 1, 77, 128)
PAIRS = [
    (name, normalization)
    for name in ("sdpa", "gau_blocked", "gau_auto")
    for normalization, description in ATTENTION_NORMALIZATIONS.items()
    if description.family in ATTENTION_BACKENDS[name].families
]


@pytest.fixture(autouse=True)
def padding_is_taken_out(monkeypatch):
    monkeypatch.setattr(unpadding_gau, "_OPERATIONS_OF_A_CALL", 0.0)


def make_model(kind=GAUModel, backend: str | None = None, **changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "attention_key_size": 12}
    settings = {"num_hidden_layers": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = GAUConfig(**sizes | settings | {"initializer_range": 0.4, "sliding_window": 7} | changes)
    return kind._from_config(config, attn_implementation=backend).double().eval()


def make_batch(side: str = "right") -> dict[str, torch.Tensor]:
    longest = max(LENGTHS)
    mask = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).long()
    if side == "left":
        mask = mask.flip(1)
    if side == "holes":
        mask[0, 20:60] = 0
    ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}


def dense(model, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states of one sequence, `(seq, hidden)`, from the formulas, layer by layer."""
    config = model.config
    hidden = model.embeddings(ids[None], torch.zeros_like(ids)[None], None)[0]
    places = torch.arange(len(ids))
    cos, sin = (part[0] for part in model.rotary_emb(hidden[None], places[None]))

    def rotate(states):
        even, odd = states[:, ::2], states[:, 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(1)

    for index, layer in enumerate(model.layers):
        unit = layer.gau
        gate, value, base = unit.activation(unit.i_dense(hidden)).split(unit.widths, -1)
        scores = (
            rotate(unit.q_scaleoffset(base)) @ rotate(unit.k_scaleoffset(base)).T * config.attention_key_size**-0.5
        )
        seen = torch.ones_like(scores, dtype=torch.bool)
        if index % 3:
            seen = (places[:, None] - places).abs() <= config.sliding_window
        n = seen.sum(-1, keepdim=True).double()
        if config.attention_normalization == "softmax_plus":
            scores = scores * (n.clamp(min=16).log() / math.log(512.0))
        if "softmax" in config.attention_normalization:
            weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        else:
            weights = scores.relu().square() * seen
            total = n if config.attention_normalization == "squared_relu" else weights.sum(-1, keepdim=True)
            weights = weights / total.where(total > 0, 1.0)
        hidden = layer.norm(hidden + unit.o_dense(gate * (weights @ value)))
    return hidden


@pytest.mark.parametrize("normalization", list(ATTENTION_NORMALIZATIONS))
@pytest.mark.parametrize("backend", ["eager", "gau_auto"])
def test_formulas(backend, normalization):
    model = make_model(backend=backend, attention_normalization=normalization)
    assert model.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    ids = make_batch()["input_ids"][0, :61]
    expected = dense(model, ids)
    torch.testing.assert_close(model(ids[None]).last_hidden_state[0], expected, rtol=1e-10, atol=1e-11)


def gradients(model, **inputs):
    model.zero_grad()
    output = model(**inputs).last_hidden_state
    output.pow(3).sum().backward()
    return output, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize("unpads", [False, True])
@pytest.mark.parametrize(("backend", "normalization"), PAIRS)
def test_backends(backend, normalization, unpads, side):
    model, batch = (
        make_model(backend="eager", attention_normalization=normalization, unpad_inputs=False),
        make_batch(side),
    )
    expected, expected_gradients = gradients(model, **batch)
    other = make_model(backend=backend, attention_normalization=normalization, unpad_inputs=unpads)
    actual, actual_gradients = gradients(other, **batch)
    torch.testing.assert_close(actual, expected)
    assert len(actual_gradients) == len(expected_gradients) > 10
    for mine, theirs in zip(actual_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("backend", ["eager", "sdpa", "gau_blocked", "gau_auto"])
def test_packed_sequences(backend):
    model, batch = make_model(backend=backend), make_batch()
    rows = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    ends = torch.tensor((0, *LENGTHS)).cumsum(0).int()
    packed = model(torch.cat(rows)[None], cu_seq_lens_q=ends).last_hidden_state[0]
    documents = torch.arange(4).repeat_interleave(torch.tensor(LENGTHS))
    mask = (documents[:, None] == documents)[None, None]
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    masked = model(torch.cat(rows)[None], attention_mask=mask, position_ids=positions).last_hidden_state[0]
    for ids, part, other in zip(rows, packed.split(LENGTHS), masked.split(LENGTHS), strict=True):
        alone = model(ids[None]).last_hidden_state[0]
        torch.testing.assert_close(part, alone)
        torch.testing.assert_close(other, alone)


def test_attention_weights():
    model, batch = make_model(), make_batch()
    full, local, _, _ = model(**batch, output_attentions=True).attentions
    places = torch.arange(max(LENGTHS))
    far = (places[:, None] - places).abs() > 7
    assert not local[0, 0][far].any() and local[0, 0][~far].all() and full[0, 0].all()


@pytest.mark.parametrize("normalization", list(ATTENTION_NORMALIZATIONS))
@pytest.mark.parametrize(("length", "window"), [(300, 9), (517, 140)])
def test_gradients_in_bfloat16(normalization, length, window):
    """Sums over blocks are rounded as they are made: not twice as far from double precision as plain products are."""
    generator = torch.Generator().manual_seed(0)
    sizes = (48, 16, 16, 48)
    exact = [torch.randn(2, length, size, generator=generator, dtype=torch.float64) for size in sizes]
    narrow = [tensor.bfloat16() for tensor in exact]
    arguments = (None, None, None, normalization, 0.0, window)
    expected = attention_gau._blocked_attention_backward(*exact, *arguments)
    blocked = attention_gau._blocked_attention_backward(*narrow, *arguments)
    inputs = [tensor.clone().requires_grad_() for tensor in narrow[1:]]
    query, key, value = inputs
    near = within_window(None, length, length, window, query.device)[:, 0]
    weights = ATTENTION_NORMALIZATIONS[normalization].weights(query @ key.transpose(1, 2), near)
    plain = torch.autograd.grad(weights @ value, inputs, narrow[0])
    for mine, theirs, exactly in zip(blocked, plain, expected, strict=True):
        assert (mine - exactly).norm() <= 2 * (theirs - exactly).norm()


def test_dropout_is_that_of_the_backward_pass():
    """By finite differences: forward and backward drop the same weights in every block of a window."""
    model = make_model(backend="gau_blocked", attention_probs_dropout_prob=0.3, num_hidden_layers=2).train()
    embedded = torch.randn(1, 150, 24, dtype=torch.float64, requires_grad=True)

    def loss(states):
        torch.manual_seed(7)
        return model(inputs_embeds=states).last_hidden_state.pow(2).mul(torch.linspace(0, 1, 24)).sum()

    loss(embedded).backward()
    direction = torch.randn_like(embedded)
    step = 1e-6
    numeric = (loss(embedded + step * direction) - loss(embedded - step * direction)) / (2 * step)
    torch.testing.assert_close((embedded.grad * direction).sum(), numeric.detach(), rtol=1e-5, atol=1e-6)


def test_number_of_visible_keys():
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, 1, 0, 1, 1]])
    assert key_count(mask, 6, 1)[..., 0].tolist() == [[2, 3, 3, 3, 2, 1], [1, 2, 2, 2, 2, 2]]
    assert key_count(mask, 6)[..., 0].tolist() == [[5], [4]]
    assert key_count(None, 6, 2)[..., 0].tolist() == [[3, 4, 5, 5, 4, 3]]
    assert key_count(None, 6).tolist() == [[[6]]]
    prepared = mask.bool()[:, None, None, :]
    assert torch.equal(key_count(prepared, 6, 1), key_count(mask, 6, 1))
    documents = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, 2]])
    assert visible_keys(documents, 1).flatten().tolist() == [2, 3, 2, 1, 2, 3, 3, 3, 2]
    assert visible_keys(documents).flatten().tolist() == [3, 3, 3, 1, 5, 5, 5, 5, 5]


def test_additive_masks():
    bias = torch.randn(2, 1, 1, 9)
    masked = within_window(bias, 9, 9, 3, bias.device)
    near = (torch.arange(9)[:, None] - torch.arange(9)).abs() < 3
    assert masked.shape == (2, 1, 9, 9) and (masked[:, 0, ~near] == torch.finfo(torch.float32).min).all()
    assert torch.equal(masked[:, 0, near], bias.expand(2, 1, 9, 9)[:, 0, near])
    assert within_window(None, 9, 9, None, bias.device) is None and within_window(None, 9, 9, 9, bias.device) is None


def test_choice_of_the_backend():
    assert choose_attention_backend(512) == choose_attention_backend(512, sliding_window=300) == "eager"
    assert choose_attention_backend(512, sliding_window=65) == "gau_blocked"
    assert choose_attention_backend(512, exporting=True, sliding_window=65) == "eager"


def test_a_backend_without_windows_says_so():
    with pytest.raises(ValueError, match="gau_triton' has no sliding_window yet"):
        make_model(backend="gau_triton", layer_types=["sliding_attention"] * 4)(torch.ones(1, 9, dtype=torch.long))


def test_other_kernels_get_the_window(monkeypatch):
    windows = []

    def kernel(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **kwargs):
        windows.append(kwargs.get("sliding_window"))
        return value.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", kernel)
    model, batch = make_model(), make_batch()
    model.config._attn_implementation = "flash_attention_2"
    model(**batch)
    assert windows == [None, 8, 8, None]


def test_memory_of_a_window_is_linear():
    """No tensor with an entry for each pair of a long sequence."""
    model, largest = make_model(backend="gau_blocked", num_hidden_layers=1, layer_types=["sliding_attention"]), []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            output = function(*arguments, **(keywords or {}))
            tensors = output if isinstance(output, (tuple, list)) else [output]
            largest.extend(tensor.numel() for tensor in tensors if isinstance(tensor, torch.Tensor))
            return output

    with Watch():
        model(torch.randint(5, 60, (1, 3000))).last_hidden_state.sum().backward()
    assert max(largest) < 3000 * 200


@pytest.mark.parametrize("how", ["whole", "layers"])
def test_compiled(how):
    model, batch = make_model(), make_batch()
    expected = model(**batch).last_hidden_state
    if how == "whole":
        actual = torch.compile(model, backend="eager")(**batch).last_hidden_state
    else:
        for layer in model.layers:
            layer.compile(backend="eager")
        actual = model(**batch).last_hidden_state
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_exported_beyond_the_window(tmp_path, kind):
    """The program is traced at a length that is shorter than the window."""
    model = make_model(GAUForMaskedLM, sliding_window=40, num_hidden_layers=2).float()
    ids = torch.randint(5, 60, (1, 140), generator=torch.Generator().manual_seed(2))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names, path = list(inputs), tmp_path / {"torch": "model.pt2", "onnx": "model.onnx"}[kind]
    write = export._write_torch_export if kind == "torch" else export._write_onnx
    write(model, export._traced_inputs(model, names), path)
    with torch.no_grad():
        expected = model(**inputs).logits
    actual = export.load_exported(path)(inputs)["logits"]
    torch.testing.assert_close(torch.as_tensor(actual), expected, rtol=1e-3, atol=1e-3)


def test_a_window_of_the_configuration_is_that_of_the_layers(tmp_path):
    model, ids = make_model(GAUForMaskedLM), make_batch()["input_ids"][:1]
    model.config.sliding_window = 2
    changed = model(ids).logits
    model.save_pretrained(tmp_path)
    again = GAUForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(again(ids).logits, changed)
    config = GAUConfig(num_hidden_layers=2)
    config.sliding_window = 2
    with pytest.raises(Exception, match="sliding_window=2 was set on a configuration without layer_types"):
        GAUModel(config)


def test_flash_attention_refuses_holes():
    model, batch = make_model(), make_batch("holes")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="closes the gaps that an attention_mask has between real tokens"):
        model(**batch)


def test_saved_and_loaded(tmp_path):
    model = make_model(GAUForMaskedLM)
    model.save_pretrained(tmp_path)
    again = GAUForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert again.config.layer_types == model.config.layer_types and again.config.sliding_window == 7
    ids = make_batch()["input_ids"]
    torch.testing.assert_close(again(ids).logits, model(ids).logits)
    full = GAUForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64, layer_types=["full_attention"] * 4).eval()
    assert (full(ids).logits - model(ids).logits).abs().max() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sliding_window": 0}, "sliding_window=0 must be at least 1"),
        (
            {"sliding_window": 3, "layer_types": ["full_attention"]},
            r"\(2\) must be equal to the number of `layer_types` \(1\)",
        ),
        (
            {"sliding_window": 3, "layer_types": ["full_attention", "chunked_attention"]},
            "'chunked_attention' is not one of full_attention",
        ),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "give sliding_window, tokens to either side"),
    ],
)
def test_what_cannot_be(changes, message):
    with pytest.raises(Exception, match=message):
        GAUConfig(num_hidden_layers=2, **changes)
