"""Attention backends against the formulas, written out in float64."""

import itertools
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface

from modeling_gau import GAUConfig, GAUForMaskedLM, GAUModel, attention_gau
from modeling_gau.attention_gau import (
    ALL_ATTENTION_FUNCTIONS,
    ATTENTION_BACKENDS,
    ATTENTION_NORMALIZATIONS,
    AttentionBackend,
    check_attention_backend,
    choose_attention_backend,
    split_mask,
    split_value_heads,
)


KEY_DIM, VALUE_DIM = 16, 40
LENGTHS = (1, 7, 63, 130)
PADDINGS = ("none", "right", "left", "empty row")
BACKENDS = ("eager", "sdpa", "gau_blocked", "gau_auto")


def able(backend: str, normalization: str) -> bool:
    return ATTENTION_NORMALIZATIONS[normalization].family in ATTENTION_BACKENDS[backend].families


# One for each formula of the weights. The others differ by a factor on the query, a shift or a sink: test_formulas.py.
FORMULAS = ("softmax", "sigmoid", "squared_relu", "normalized_squared_relu", "laplace")
PAIRS = [(b, n) for b, n in itertools.product(BACKENDS, FORMULAS) if able(b, n)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks so small that a length of 63 makes several of them and a batch of short sequences shares one."""
    monkeypatch.setitem(attention_gau._BLOCK_ELEMENTS, "cpu", 1200)
    monkeypatch.setattr(attention_gau, "_MIN_BLOCK_ROWS", 16)
    monkeypatch.setattr(attention_gau, "_MIN_WINDOW_ROWS", 16)


def stand_in(normalization: str, training: bool = False, **fields) -> SimpleNamespace:
    config = GAUConfig(attention_normalization=normalization, attention_key_size=KEY_DIM, **fields)
    return SimpleNamespace(config=config, training=training)


def random_states(length: int, dtype=torch.float64, batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(length)
    widths = (KEY_DIM, KEY_DIM, VALUE_DIM)
    states = [torch.randn(batch, 1, length, w, generator=generator, dtype=torch.float64) for w in widths]
    states[0] *= 1.5 * KEY_DIM**-0.5  # scores of a few units: rows are far from uniform
    return tuple(s.to(dtype).requires_grad_() for s in states)


def real_tokens(padding: str, length: int, batch: int = 3) -> torch.Tensor:
    mask = torch.ones(batch, length, dtype=torch.bool)
    if padding == "right":
        mask[1, (length + 1) // 2 :] = False
    elif padding == "left":
        mask[1, : length // 2] = False
    elif padding == "empty row":
        mask[1] = False
    return mask


def reference(query, key, value, visible, normalization, bias=0.0):
    """The table of normalizations; scores already hold every factor. `visible`: `(batch, key)` or a row per query."""
    scores = (query @ key.mT)[:, 0] + bias
    visible = visible if visible.ndim == 3 else visible[:, None, :]
    formulas = {
        "softmax": torch.exp,
        "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
        "laplace": lambda x: torch.special.ndtr((x - 0.5**0.5) * (4 * math.pi) ** 0.5),
    }
    weights = formulas.get(normalization, lambda x: x.clamp(min=0) ** 2)(scores) * visible
    if normalization in ("softmax", "normalized_squared_relu"):
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    return weights @ value[:, 0]


def mask_for(backend: str, real: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """The mask as transformers hands it to this backend."""
    length = real.shape[1]
    function = AttentionMaskInterface()[backend]
    return function(
        batch_size=real.shape[0], q_length=length, kv_length=length, attention_mask=real, dtype=dtype,
        mask_function=lambda batch, head, q, k: q >= 0, allow_is_causal_skip=False,
    )  # fmt: skip


def run(backend, module, states, real, dropout=0.0):
    mask = mask_for(backend, real, states[0].dtype)
    return ATTENTION_BACKENDS[backend].forward(module, *states, mask, scaling=1.0, dropout=dropout)


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    return ((value.double() - reference.double()).norm() / reference.double().norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("backend", "normalization"), PAIRS)
def test_output_and_gradients_equal_the_formula(backend, normalization, padding, length):
    states, real = random_states(length), real_tokens(padding, length)
    expected = reference(*states, real, normalization)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected_gradients = torch.autograd.grad(expected, states, gradient)

    output, _ = run(backend, stand_in(normalization), states, real)
    assert output.shape == (3, length, 1, VALUE_DIM)
    torch.testing.assert_close(output.squeeze(2), expected, rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(output, states, gradient.unsqueeze(2))
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("backend", "normalization"), [pair for pair in PAIRS if pair[0] != "eager"])
def test_low_precision_errs_at_most_twice_as_much_as_plain_pytorch(backend, normalization, dtype):
    """Against the formula in float64: at most 2x the error of plain products in that precision, 3x for gradients.

    A row without a real key gives exact zeros."""
    real = real_tokens("right", 130)
    real[2] = False
    narrow = random_states(130, dtype)
    exact = tuple(s.detach().double().requires_grad_() for s in narrow)
    gradient = torch.randn(3, 130, VALUE_DIM, generator=torch.Generator().manual_seed(1)).to(dtype)

    expected = reference(*exact, real, normalization)
    expected_gradients = torch.autograd.grad(expected, exact, gradient.double())
    results = {}
    for name in ("eager", backend):
        output, _ = run(name, stand_in(normalization), narrow, real)
        gradients = torch.autograd.grad(output, narrow, gradient.unsqueeze(2))
        assert output.dtype == dtype and not output[2].any() and not any(g[2].any() for g in gradients)
        errors = [relative_error(g, e) for g, e in zip(gradients, expected_gradients, strict=True)]
        results[name] = (relative_error(output.squeeze(2), expected), errors)
    floor = 4 * torch.finfo(dtype).eps * 130**-0.5
    assert results[backend][0] <= 2 * results["eager"][0] + floor
    for ours, plain in zip(results[backend][1], results["eager"][1], strict=True):
        assert ours <= 3 * plain + floor


@pytest.mark.parametrize(("backend", "normalization"), PAIRS)
def test_prepared_masks_with_a_pattern_of_their_own(backend, normalization):
    """4-D masks, boolean and additive (with a finite bias, the dtype's minimum and -inf), against eager's formula."""
    states = random_states(21)
    generator = torch.Generator().manual_seed(3)
    visible = torch.rand(3, 1, 21, 21, generator=generator) > 0.4
    visible[0, 0, 4] = False
    bias = torch.randn(3, 1, 21, 21, generator=generator, dtype=torch.float64)
    for hidden in (torch.finfo(torch.float64).min, -math.inf):
        additive = bias.masked_fill(~visible, hidden)
        for mask, shift in ((visible, 0.0), (additive, bias[:, 0])):
            expected = reference(*states, visible[:, 0], normalization, shift)
            output, _ = ATTENTION_BACKENDS[backend].forward(stand_in(normalization), *states, mask)
            torch.testing.assert_close(output.squeeze(2), expected, rtol=1e-9, atol=1e-10)
            assert all(g.isfinite().all() for g in torch.autograd.grad(output.sum(), states))


def test_scaling_multiplies_the_scores():
    states, real = random_states(7), real_tokens("none", 7)
    expected = reference(states[0] * 0.3, *states[1:], real, "softmax")
    for backend in BACKENDS:
        mask = mask_for(backend, real, torch.float64)
        output, _ = ATTENTION_BACKENDS[backend].forward(stand_in("softmax"), *states, mask, scaling=0.3)
        torch.testing.assert_close(output.squeeze(2), expected)


def test_factors_of_n():
    """log max(n, n_min) / log N for softmax_plus; n^(-1/2) on the query divides relu(a)^2 by n."""
    config = GAUConfig(reference_length=512, softmax_plus_min_length=16)
    n = torch.tensor([1.0, 16.0, 100.0, 512.0, 4096.0])
    expected = [math.log(max(x, 16)) / math.log(512) for x in n.tolist()]
    torch.testing.assert_close(
        ATTENTION_NORMALIZATIONS["softmax_plus"].query_factor(n, config), torch.tensor(expected)
    )
    factor = ATTENTION_NORMALIZATIONS["squared_relu"].query_factor(n, config)
    torch.testing.assert_close((3.0 * factor) ** 2, 9.0 / n)
    assert not ATTENTION_NORMALIZATIONS["softmax"].uses_n
    assert not ATTENTION_NORMALIZATIONS["normalized_squared_relu"].uses_n


# ------------------------------------------------------------------------------------------------ blocks and dropout


@pytest.mark.parametrize("normalization", FORMULAS)
def test_dropout_of_blocks_scales_what_it_keeps(normalization):
    query, key, _ = random_states(63)
    value = torch.eye(63, dtype=torch.float64).expand(3, 1, -1, -1)  # the output is the weights

    def weights(dropout: float, seed: int = 0) -> torch.Tensor:
        torch.manual_seed(seed)
        module = stand_in(normalization, training=True)
        return (
            ATTENTION_BACKENDS["gau_blocked"].forward(module, query, key, value, None, dropout=dropout)[0].squeeze(2)
        )

    plain, dropped = weights(0.0), weights(0.25)
    kept, positive = dropped != 0, plain > 0
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.75)
    share = (kept & positive).sum() / positive.sum()
    assert abs(share - 0.75) < 0.02  # three standard deviations are 0.012 and less for about 12000 weights
    assert torch.equal(weights(0.25), dropped) and not torch.equal(weights(0.25, seed=1), dropped)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("normalization", FORMULAS)
def test_gradients_of_blocks_with_dropout_equal_finite_differences(normalization, window):
    """The backward pass drops the weights that the forward pass dropped, in every block."""
    module = stand_in(normalization, training=True)

    def function(*states):
        torch.manual_seed(5)
        forward = ATTENTION_BACKENDS["gau_blocked"].forward
        return forward(module, *states, None, dropout=0.3, sliding_window=window)[0]

    assert torch.autograd.gradcheck(function, random_states(63, batch=2), fast_mode=True)


@pytest.mark.parametrize(("batch", "rows", "keys"), [(1, 1, 1), (5, 7, 7), (2, 130, 130), (64, 4, 4), (3, 33, 70)])
def test_blocks_cover_every_row_once(batch, rows, keys):
    seen = torch.zeros(batch, rows)
    for block in attention_gau._blocks(torch.empty(batch, rows, 2), torch.empty(batch, keys, 2), 0):
        seen[block.batch, block.rows] += 1
        assert block.keys == slice(0, keys)
        assert seen[block.batch, block.rows].numel() * keys <= max(1200, 16 * keys)
    assert (seen == 1).all()


@pytest.mark.parametrize("window", [1, 3, 200])
def test_blocks_of_a_window_hold_what_it_shows(window):
    seen = torch.zeros(3, 300, 300, dtype=torch.int)
    for block in attention_gau._blocks(torch.empty(3, 300, 2), torch.empty(3, 300, 2), window):
        seen[block.batch, block.rows, block.keys] += block.near(window, seen.device).int()
    places = torch.arange(300)
    assert torch.equal(seen, ((places[:, None] - places).abs() < window).int().expand(3, -1, -1))


def test_blocks_refuse_a_learned_mask():
    states = random_states(7)
    mask = torch.zeros(1, 1, 7, 7, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"no gradient for an additive mask.*eager"):
        ATTENTION_BACKENDS["gau_blocked"].forward(stand_in("softmax"), *states, mask)


def test_blocks_name_the_way_out_of_a_second_derivative():
    states = random_states(7)
    output, _ = ATTENTION_BACKENDS["gau_blocked"].forward(stand_in("softmax"), *states, None)
    (gradient,) = torch.autograd.grad(output.square().sum(), states[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*eager"):
        gradient.sum().backward()


def test_operator_schemas_and_fake_functions():
    query, key, value = (s[:, 0] for s in random_states(23))
    visible = real_tokens("right", 23)[:, None, :]
    tensors = tuple(state.detach().requires_grad_() for state in (query, key, value))
    for window in (0, 5):
        table, sink = (torch.randn(size, dtype=torch.float64).requires_grad_() for size in (9, 1))
        for learned in ((None, None), (table, sink)):
            arguments = (*tensors, None, *learned, visible, None, "softmax", 0.0, window)
            torch.library.opcheck(attention_gau._blocked_attention, arguments)


# ------------------------------------------------------------------------------------------------------ wide value


def equal_widths_kernel(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Stands in for FlashAttention: equal widths and 2-D masks only."""
    assert query.shape == key.shape == value.shape, "a flash kernel wants equal widths"
    visible = None if attention_mask is None else attention_mask[:, None, None, :].bool()
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scaling)
    return output.transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "kernels-community/flash-attn2"])
@pytest.mark.parametrize("padding", ["none", "right"])
def test_flash_kernels_get_the_value_in_heads_of_the_key_width(monkeypatch, name, padding):
    monkeypatch.setitem(AttentionInterface._global_mapping, name, equal_widths_kernel)
    states, real = random_states(63), real_tokens(padding, 63)
    forward = ALL_ATTENTION_FUNCTIONS.get_interface(name, None)
    output, weights = forward(stand_in("softmax"), *states, None if padding == "none" else real)
    assert weights is None
    torch.testing.assert_close(output.squeeze(2), reference(*states, real, "softmax"))


def test_flash_refuses_prepared_masks():
    with pytest.raises(ValueError, match=r"padding masks .* only.*sdpa"):
        mask = torch.ones(3, 1, 7, 7, dtype=torch.bool)
        ATTENTION_BACKENDS["flash_attention_2"].forward(stand_in("softmax"), *random_states(7), mask)


def test_split_of_the_value_keeps_its_columns_in_order():
    query, key, value = random_states(5)
    heads = split_value_heads(query, key, value)
    assert [tuple(h.shape) for h in heads] == [(3, 3, 5, KEY_DIM)] * 3  # 40 columns: two heads of 16 and one half full
    assert torch.equal(heads[2].transpose(1, 2).flatten(2)[..., :VALUE_DIM], value[:, 0])


@pytest.mark.skipif(shutil.which("c++") is None, reason="FlexAttention is compiled, which takes a C++ compiler")
def test_flex_attention_on_cpu_is_for_inference(make_model):
    model = make_model(GAUModel, attention_key_size=16, intermediate_size=48, num_hidden_layers=1)
    real = real_tokens("right", 63)
    real[2] = False
    input_ids = torch.randint(5, 50, (3, 63), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids, attention_mask=real).last_hidden_state
        model.set_attn_implementation("flex_attention")
        output = model(input_ids, attention_mask=real).last_hidden_state
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad(), pytest.raises(ValueError, match=r"not a 4-D mask.*gau_blocked"):
        model(input_ids, attention_mask=real[:, None, None, :])
    with pytest.raises(ValueError, match=r"no backward pass on CPU.*gau_blocked"):
        model(input_ids, attention_mask=real)


# -------------------------------------------------------------------------------------------------- choice and errors


def test_masks_that_hide_keys():
    additive = torch.tensor([[0.0, -1.5, torch.finfo(torch.float32).min, -math.inf]]).view(1, 1, 1, 4)
    bias, visible = split_mask(additive)
    assert visible.flatten().tolist() == [True, True, False, False]
    assert split_mask(torch.tensor([-9e3, -1e4, -1e9]).view(1, 1, 1, 3))[1].flatten().tolist() == [True, False, False]
    assert bias.flatten().tolist() == [0.0, -1.5, 0.0, 0.0]
    assert split_mask(None) == (None, None)


@pytest.mark.parametrize(
    ("backend", "normalization"),
    [("sdpa", "squared_relu"), ("flash_attention_2", "squared_relu"), ("flex_attention", "normalized_squared_relu")],
)
def test_a_backend_that_cannot_do_the_normalization_names_those_that_can(backend, normalization):
    config = GAUConfig(num_hidden_layers=1, attention_normalization=normalization)
    config._attn_implementation = backend
    with pytest.raises(ValueError, match=f"'{backend}' cannot compute.*'{normalization}'.*eager, gau_blocked"):
        GAUForMaskedLM(config)


def test_an_unknown_backend_is_named_with_those_allowed():
    with pytest.raises(
        ValueError, match=r'Specified `attn_implementation="sdpaa"` is not supported.*eager, sdpa.*gau_blocked'
    ):
        check_attention_backend("sdpaa", GAUConfig(attention_normalization="softmax"))
    with pytest.raises(ValueError, match="cannot compute"):
        check_attention_backend("some/kernel", GAUConfig(attention_normalization="normalized_squared_relu"))
    check_attention_backend("some/kernel", GAUConfig(attention_normalization="softmax_plus"))
    with pytest.raises(ValueError, match="cannot compute"):
        check_attention_backend("kernels-community/flash-attn2", GAUConfig(attention_normalization="squared_relu"))


def test_the_default_chooses_by_length_and_says_so_once(monkeypatch, make_model):
    model = make_model(GAUModel, num_hidden_layers=1)
    assert model.config._attn_implementation == "gau_auto"
    messages, used = [], []
    monkeypatch.setattr(attention_gau, "logger", SimpleNamespace(info_once=messages.append))
    for name in ("eager", "gau_blocked"):
        backend = ATTENTION_BACKENDS[name]

        def forward(*args, name=name, backend=backend, **kwargs):
            used.append(name)
            return backend.forward(*args, **kwargs)

        monkeypatch.setitem(ATTENTION_BACKENDS, name, AttentionBackend(forward, backend.families))
    for length in (3, 2047, 2048):
        model(torch.full((1, length), 7))
    assert used == ["eager", "eager", "gau_blocked"]
    assert len(set(messages)) == 2  # `info_once` shows equal messages once
    assert "below 2048 tokens on cpu: 'eager'" in messages[0] and "from 2048 tokens" in messages[2]
    assert choose_attention_backend(16384, exporting=True) == "eager"


# ------------------------------------------------------------------------------------------------------------- float16


@pytest.mark.parametrize("backend", ["eager", "gau_blocked"])
@pytest.mark.parametrize("normalization", ATTENTION_NORMALIZATIONS)
def test_large_numbers_in_float16_do_not_become_nan(make_model, backend, normalization):
    """Weights, their products with values, and the gate's leave the range of float16."""
    ids = torch.randint(5, 60, (2, 33), generator=torch.Generator().manual_seed(0))
    for scale in (30, 300):
        model = make_model(backend=backend, attention_normalization=normalization)
        with torch.no_grad():
            for layer in model.model.layers:
                layer.gau.i_dense.weight.mul_(scale)
        outputs = model.half()(ids, labels=ids)
        outputs.loss.backward()
        assert outputs.logits.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("normalization", ["squared_relu", "normalized_squared_relu"])
def test_scores_that_overflow_float16(normalization):
    """Query and key of one column: score 0 beside an infinite one. Blocks give the eager function's gradients."""
    module = SimpleNamespace(config=GAUConfig(attention_normalization=normalization), training=False)
    results = []
    for forward in (attention_gau.eager_attention_forward, attention_gau.blocked_attention_forward):
        query = torch.tensor([300.0, -1.0, -2.0]).view(1, 1, 3, 1).half().requires_grad_()
        key = torch.tensor([0.0, 400.0, 1.0, -1.0]).view(1, 1, 4, 1).half().requires_grad_()
        value = torch.tensor([0.0, 0.0, 1.0, 0.5]).view(1, 1, 4, 1).half().requires_grad_()
        output, _ = forward(module, query, key, value, None)
        output.sum().backward()
        results.append([output, query.grad, key.grad, value.grad])
        assert all(tensor.isfinite().all() for tensor in results[-1])
    for eager, blocked in zip(*results, strict=True):
        torch.testing.assert_close(blocked, eager)
