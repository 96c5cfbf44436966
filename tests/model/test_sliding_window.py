# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Layers of local attention: their blocks, masks, n and configuration.

`test_modeling.py` compares them with the formulas, `test_unpadding.py` compares backends, padding and documents,
`test_export.py` exports them.
"""

import copy

import pytest
import torch
from transformers import AttentionInterface

from modeling_gau import GAUConfig, GAUForMaskedLM, GAUModel, attention_gau, unpadding_gau
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS, choose_attention_backend
from modeling_gau.unpadding_gau import key_count, visible_keys, within_window


@pytest.fixture
def make_model(make_model):
    """In float64, with one full layer and two local ones."""
    return lambda kind=GAUModel, backend=None, **fields: make_model(
        kind, backend, **{"sliding_window": 7} | fields
    ).double()


IDS = torch.randint(5, 60, (2, 61), generator=torch.Generator().manual_seed(1))


def test_attention_weights(make_model):
    full, local, _ = make_model()(IDS, output_attentions=True).attentions
    places = torch.arange(61)
    far = (places[:, None] - places).abs() > 7
    assert not local[0, 0][far].any() and local[0, 0][~far].all() and full[0, 0].all()


@pytest.mark.parametrize("normalization", ["softmax", "sigmoid", "squared_relu", "normalized_squared_relu"])
@pytest.mark.parametrize(("length", "window"), [(300, 9), (517, 140)])
def test_gradients_in_bfloat16(normalization, length, window):
    """Sums over blocks are rounded at each step, yet err at most twice as much as plain products."""
    generator = torch.Generator().manual_seed(0)
    sizes = (48, 16, 16, 48)
    exact = [torch.randn(2, length, size, generator=generator, dtype=torch.float64) for size in sizes]
    narrow = [tensor.bfloat16() for tensor in exact]
    arguments = (None, None, None, None, None, normalization, 0.0, window)
    expected = attention_gau._blocked_attention_backward(*exact, *arguments)[:3]
    blocked = attention_gau._blocked_attention_backward(*narrow, *arguments)[:3]
    inputs = [tensor.clone().requires_grad_() for tensor in narrow[1:]]
    query, key, value = inputs
    near = within_window(None, length, length, window, query.device)[:, 0]
    weights = ATTENTION_NORMALIZATIONS[normalization].weights(query @ key.transpose(1, 2), near)
    plain = torch.autograd.grad(weights @ value, inputs, narrow[0])
    for mine, theirs, exactly in zip(blocked, plain, expected, strict=True):
        assert (mine - exactly).norm() <= 2 * (theirs - exactly).norm()


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


def test_a_backend_without_windows_says_so(make_model):
    with pytest.raises(ValueError, match="gau_triton' has no sliding_window yet"):
        make_model(backend="gau_triton", layer_types=["sliding_attention"] * 3)(IDS)


def test_other_kernels_get_the_window_and_refuse_holes(make_model, monkeypatch):
    windows = []

    def kernel(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **kwargs):
        windows.append(kwargs.get("sliding_window"))
        return value.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", kernel)
    monkeypatch.setattr(unpadding_gau, "_OPERATIONS_OF_A_CALL", 0.0)
    model, mask = make_model(), torch.ones_like(IDS)
    model.config._attn_implementation = "flash_attention_2"
    model(IDS, attention_mask=mask)
    assert windows == [None, 8, 8]
    mask[0, 20:40] = 0
    with pytest.raises(ValueError, match="closes the gaps that an attention_mask has between real tokens"):
        model(IDS, attention_mask=mask)


def test_memory_of_a_window_is_linear(make_model):
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
def test_compiled(make_model, how):
    model, mask = make_model(num_hidden_layers=2), torch.ones_like(IDS)
    mask[0, 40:] = 0
    expected = model(IDS, attention_mask=mask).last_hidden_state
    if how == "whole":
        model = torch.compile(model, backend="eager")
    else:
        for layer in model.layers:
            layer.compile(backend="eager")
    torch.testing.assert_close(model(IDS, attention_mask=mask).last_hidden_state, expected)


def test_a_window_can_change_and_is_saved(make_model, tmp_path):
    model = make_model(GAUForMaskedLM)
    before = model(IDS).logits
    model.config.sliding_window = 2
    changed = model(IDS).logits
    assert (changed - before).abs().max() > 0.1
    model.save_pretrained(tmp_path)
    again = GAUForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert again.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    torch.testing.assert_close(again(IDS).logits, changed)
    full = GAUForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64, layer_types=["full_attention"] * 3).eval()
    assert (full(IDS).logits - changed).abs().max() > 0.1


def test_a_window_without_local_layers_has_no_effect(make_model, tmp_path):
    """transformers' common tests set the field on every configuration that has it."""
    model = make_model(GAUForMaskedLM, sliding_window=None)
    before = model(IDS).logits
    config = copy.deepcopy(model.config)
    config.sliding_window = 2
    changed = GAUForMaskedLM(config).double().eval()
    changed.load_state_dict(model.state_dict())
    assert torch.equal(changed(IDS).logits, before)
    changed.save_pretrained(tmp_path)
    again = GAUForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert again.config.sliding_window == 2 and again.config.layer_types == ["full_attention"] * 3
    torch.testing.assert_close(again(IDS).logits, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sliding_window": 0}, "sliding_window=0 must be an integer from 1 to"),
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
def test_bad_windows_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GAUConfig(num_hidden_layers=2, **changes)
