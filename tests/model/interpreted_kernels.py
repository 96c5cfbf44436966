# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Triton kernels against plain PyTorch. `test_kernels.py` runs this file in a process of its own, in Triton's
interpreter: TRITON_INTERPRET=1 has to be set before anything imports triton. Without it the kernels run on a GPU:

    TRITON_INTERPRET=1 python -m pytest tests/model/interpreted_kernels.py
    python -m pytest tests/model/interpreted_kernels.py
"""

from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from modeling_gau import GAUConfig, kernels_gau
from modeling_gau.attention_gau import ATTENTION_BACKENDS, ATTENTION_NORMALIZATIONS


DEVICE = "cpu" if kernels_gau.INTERPRETED else "cuda"
RULES = ("softmax", "squared_relu", "normalized_squared_relu")  # softmax_plus differs in the query only
LENGTHS = (1, 7, 63, 130)
WIDTHS = (24, 72)  # two tiles of the value, neither width a multiple of a tile
PATTERNS = ("none", "right", "left", "holes", "empty")


@pytest.fixture(autouse=True)
def bfloat16_as_on_a_gpu(monkeypatch):
    """Triton 3.9's interpreter truncates to bfloat16, which biases every sum, and multiplies bfloat16's bit patterns.
    GPUs round to nearest, and multiply the numbers."""
    cast, dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot

    def rounding_cast(self, source, target):
        if (source.dtype.scalar, target.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, source, target)
        return TensorHandle(torch.tensor(source.data).bfloat16().view(torch.uint16).numpy(), tl.bfloat16)

    def widening_dot(self, left, right, *others):
        if left.dtype.scalar == tl.bfloat16:  # products of the widened numbers are exact
            left, right = cast(self, left, tl.float32), cast(self, right, tl.float32)
        return dot(self, left, right, *others)

    monkeypatch.setattr(InterpreterBuilder, "cast_impl", rounding_cast)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", widening_dot)


def stand_in(normalization: str, training: bool = False) -> SimpleNamespace:
    return SimpleNamespace(config=GAUConfig(attention_normalization=normalization), training=training)


def real_tokens(length: int, patterns: tuple[str, ...] = PATTERNS) -> torch.Tensor:
    """`(len(patterns), length)`: sequences whose padding is on the right, on the left, in holes or everywhere."""
    position = torch.arange(length)
    real = {
        "none": position >= 0,
        "right": position < (length + 1) // 2,
        "left": position >= length // 2,
        "holes": (position * 7 % 5 < 3) & (position < max(1, length - length // 5)),
        "empty": position < 0,
    }
    return torch.stack([real[pattern] for pattern in patterns]).to(DEVICE)


def random_states(length: int, widths: tuple[int, int], dtype=torch.float32, batch: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    key_dim, value_dim = widths
    states = [torch.randn(batch, 1, length, w, generator=generator) for w in (key_dim, key_dim, value_dim)]
    states[0] *= 1.5 * key_dim**-0.5  # scores of a few units: rows are far from uniform
    return [s.to(DEVICE, dtype).requires_grad_() for s in states]


def output_gradient(length: int, widths: tuple[int, int], dtype=torch.float32, batch: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 1, widths[1], generator=generator).to(DEVICE, dtype)


def run(backend: str, normalization: str, states, real, gradient) -> list[torch.Tensor]:
    """Output and gradients by query, key and value."""
    mask = None if real is None else real[:, None, None, :]
    output, weights = ATTENTION_BACKENDS[backend].forward(stand_in(normalization), *states, mask)
    assert backend == "eager" or weights is None
    return [output, *torch.autograd.grad(output, states, gradient)]


def exactly(normalization: str, states, real, gradient) -> list[torch.Tensor]:
    return run("eager", normalization, [s.detach().double().requires_grad_() for s in states], real, gradient.double())


def relative_error(result: torch.Tensor, exact: torch.Tensor) -> float:
    return ((result.double() - exact).norm() / exact.norm().clamp(min=1e-12)).item()


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], name: str = "") -> None:
    """Equal up to rounding. At length 1 gradients are differences of two equal sums, so only rounding is left of them;
    the comparison with plain PyTorch's errors shows how exact the rest is."""
    for part, ours, theirs in zip(("output", "query", "key", "value"), found, expected, strict=True):
        tolerance = 1e-4 * (1 + theirs.abs().max().item())
        message = f"{part} {name}"
        torch.testing.assert_close(
            ours.double(), theirs.double(), rtol=1e-4, atol=tolerance, msg=lambda m, message=message: f"{message}: {m}"
        )


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("normalization", RULES)
def test_output_and_gradients_equal_eager_whatever_the_padding_holds(normalization, length):
    states, gradient, real = random_states(length, WIDTHS), output_gradient(length, WIDTHS), real_tokens(length)
    expected = exactly(normalization, states, real, gradient)
    hidden = ~real[:, None, :, None]
    hidden[PATTERNS.index("holes")] = False  # keys between real ones are multiplied by 0, which leaves NaN
    spoilt = [states[0], *(s.detach().masked_fill(hidden, float("nan")).requires_grad_() for s in states[1:])]
    found = run("gau_triton", normalization, spoilt, real, gradient)
    for index, pattern in enumerate(PATTERNS):
        assert_close([t[index] for t in found], [t[index] for t in expected], pattern)
    assert not any(t[PATTERNS.index("empty")].any() for t in found)
    unpadded = [s[:1].detach().requires_grad_() for s in states]
    assert_close(run("gau_triton", normalization, unpadded, None, gradient[:1]), [t[:1] for t in expected])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("normalization", RULES)
def test_errors_are_at_most_twice_those_of_plain_pytorch(normalization, dtype):
    """Against the formula in float64: at most 2x the error of plain products in that precision, 3x for gradients."""
    length, patterns = 70, ("right", "left", "empty")
    states, gradient = random_states(length, WIDTHS, dtype, batch=3), output_gradient(length, WIDTHS, dtype, batch=3)
    real = real_tokens(length, patterns)
    expected = exactly(normalization, states, real, gradient)
    plain = run("eager", normalization, states, real, gradient)
    found = run("gau_triton", normalization, states, real, gradient)
    floor = 4 * torch.finfo(dtype).eps * length**-0.5
    for factor, ours, theirs, exact in zip((2, 3, 3, 3), found, plain, expected, strict=True):
        assert ours.dtype == dtype and not ours[2].any()
        assert relative_error(ours, exact) <= factor * relative_error(theirs, exact) + floor


def test_a_mask_may_be_stored_in_any_order():
    states, gradient = random_states(9, (16, 40), batch=2), output_gradient(9, (16, 40), batch=2)
    real = real_tokens(9, ("right", "holes"))
    expected = run("gau_triton", "softmax", states, real, gradient)
    for mask in (real.t().contiguous().t(), real.repeat_interleave(2, 1)[:, ::2]):
        for ours, theirs in zip(run("gau_triton", "softmax", states, mask, gradient), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_an_empty_batch_gives_empty_outputs():
    states, real = random_states(9, (16, 40), batch=0), real_tokens(9)[:0]
    output, *gradients = run("gau_triton", "softmax", states, real, output_gradient(9, (16, 40), batch=0))
    assert output.shape == (0, 9, 1, 40) and [g.shape for g in gradients] == [s.shape for s in states]


@pytest.mark.parametrize("normalization", RULES)
def test_nan_in_a_query_reaches_its_row_alone(normalization):
    states = random_states(9, (16, 40), batch=1)
    with torch.no_grad():
        states[0][0, 0, 3, 5] = float("nan")
    output = run("gau_triton", normalization, states, None, output_gradient(9, (16, 40), batch=1))[0][0, :, 0]
    assert output[3].isnan().all() and output[[0, 1, 2, 4, 5, 6, 7, 8]].isfinite().all()


@pytest.mark.parametrize("factor", [1e3, -1e3])
@pytest.mark.parametrize("normalization", ["softmax", "normalized_squared_relu"])
def test_large_scores_do_not_overflow(normalization, factor):
    real, gradient = real_tokens(9, ("left", "holes")), output_gradient(9, (16, 40), batch=2)
    states = [s.detach() for s in random_states(9, (16, 40), batch=2)]
    # Every score is far from 0, on one side.
    states = [s.requires_grad_() for s in (states[0].abs() * factor, states[1].abs(), states[2])]
    found = run("gau_triton", normalization, states, real, gradient)
    expected = exactly(normalization, states, real, gradient)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-3, atol=1e-3)
    assert all(tensor.isfinite().all() for tensor in found)


@pytest.mark.parametrize("normalization", RULES)
def test_squares_that_vanish_leave_no_nan(normalization):
    states = random_states(9, (16, 40), batch=1)
    states[0] = (states[0].detach() * 1e-22).requires_grad_()
    found = run("gau_triton", normalization, states, None, output_gradient(9, (16, 40), batch=1))
    assert all(tensor.isfinite().all() for tensor in found)


# -------------------------------------------------------------------------------------------------- strips and tiles


@pytest.mark.parametrize(("batch", "cut", "other"), [(1, 1, 1), (5, 130, 130), (3, 300, 70), (40, 4, 9), (2, 90, 400)])
def test_strips_cover_every_pair_once(batch, cut, other, monkeypatch):
    monkeypatch.setattr(kernels_gau, "_STRIP_ELEMENTS", 12000)
    monkeypatch.setattr(kernels_gau, "_MIN_STRIP", 16)
    seen = torch.zeros(batch, cut)
    strips = kernels_gau._strips(batch, cut, other)
    for sequences, part in strips:
        seen[sequences, part] += 1
        assert seen[sequences, part].numel() <= strips[0][0].stop * strips[0][1].stop  # the first one is the largest
        assert seen[sequences, part].numel() * other <= max(12000, 16 * other)
        assert part.start % 8 == 0  # the random numbers of eight keys are drawn together
    assert (seen == 1).all()


def set_tiles(monkeypatch, **tiles: int) -> None:
    for name in ("_statistics_kernel", "_weights_kernel", "_scores_gradient_kernel", "_product_kernel"):
        kernel = getattr(kernels_gau, name)
        used = {size: value for size, value in tiles.items() if size in kernel.arg_names}
        monkeypatch.setattr(kernel, "configs", [triton.Config(used, num_warps=4, num_stages=2)])


@pytest.mark.parametrize("normalization", RULES)
def test_strips_and_tiles_change_nothing_not_even_dropout(normalization, monkeypatch):
    length, widths, real = 40, (16, 40), real_tokens(40, ("right", "left", "holes"))
    states, gradient = random_states(length, widths, batch=3), output_gradient(length, widths, batch=3)

    def results() -> list[torch.Tensor]:
        torch.manual_seed(0)
        module, mask = stand_in(normalization, training=True), real[:, None, None, :]
        output, _ = ATTENTION_BACKENDS["gau_triton"].forward(module, *states, mask, dropout=0.25)
        return [output, *torch.autograd.grad(output, states, gradient)]

    expected = results()
    set_tiles(monkeypatch, BLOCK_M=128, BLOCK_N=256, BLOCK_V=64, BLOCK_K=64)
    monkeypatch.setattr(kernels_gau, "_STRIP_ELEMENTS", 2 * length**2)  # two sequences in a strip
    assert_close(results(), expected, "large tiles")
    set_tiles(monkeypatch, BLOCK_M=32, BLOCK_N=32, BLOCK_V=32, BLOCK_K=16)
    monkeypatch.setattr(kernels_gau, "_STRIP_ELEMENTS", 0)
    monkeypatch.setattr(kernels_gau, "_MIN_STRIP", 24)  # parts of one sequence in a strip
    assert_close(results(), expected, "small tiles")


def test_inputs_may_be_parts_of_wider_tensors():
    wide = torch.randn(2, 1, 33, 3 * 96, generator=torch.Generator().manual_seed(0)).to(DEVICE).requires_grad_()
    states = [wide[..., 7:23], wide[..., 23:55:2], wide[..., 96:192]]
    output, _ = ATTENTION_BACKENDS["gau_triton"].forward(stand_in("softmax"), *states, None)
    (found,) = torch.autograd.grad(output.sum(), wide)  # its gradient is one number seen everywhere
    copies = [s.detach().clone().requires_grad_() for s in states]
    expected, _ = ATTENTION_BACKENDS["eager"].forward(stand_in("softmax"), *copies, None)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(expected.sum(), copies)
    for part, gradient in zip((slice(7, 23), slice(23, 55, 2), slice(96, 192)), gradients, strict=True):
        torch.testing.assert_close(found[..., part], gradient, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------- dropout


def dropped_weights(length: int, dropout: float, seed: int = 0) -> torch.Tensor:
    """Softmax weights after dropout, `(3, length, length)`: the output for the value I."""
    query, key, _ = random_states(length, (16, 40), batch=3)
    value = torch.eye(length, device=DEVICE).expand(3, 1, -1, -1)
    torch.manual_seed(seed)
    module = stand_in("softmax", training=True)
    output, _ = ATTENTION_BACKENDS["gau_triton"].forward(module, query, key, value, None, dropout=dropout)
    return output.squeeze(2).detach()


def test_dropout_looks_like_independent_draws():
    dropout = 0.25
    dropped = dropped_weights(128, dropout)
    kept = (dropped != 0).double()
    deviation = (dropout * (1 - dropout)) ** 0.5
    assert abs(kept.mean() - (1 - dropout)) < 4 * deviation * kept.numel() ** -0.5
    for axes in ((0, 1), (0, 2), (1, 2)):  # by key, by query, by sequence
        means = kept.mean(axes)
        assert (means - (1 - dropout)).abs().max() < 5 * deviation * (kept.numel() / means.numel()) ** -0.5
    centred = (kept - kept.mean()) / deviation
    for axis in (0, 1, 2):
        for distance in (1, 2, 4):  # neighbours share a call of the generator, and its words
            correlation = (centred * centred.roll(distance, axis)).mean()
            assert abs(correlation) < 5 * kept.numel() ** -0.5, (axis, distance)


@pytest.mark.parametrize("normalization", RULES)
def test_gradients_with_dropout_equal_eager_with_the_same_mask(normalization):
    length, widths, dropout = 40, (16, 40), 0.3
    keep = dropped_weights(length, dropout) / dropped_weights(length, 0.0)  # softmax weights are positive
    torch.testing.assert_close(keep[keep != 0], torch.full_like(keep[keep != 0], 1 / (1 - dropout)))
    assert not torch.equal(dropped_weights(length, dropout, seed=1) != 0, keep != 0)
    states, gradient = random_states(length, widths, batch=3), output_gradient(length, widths, batch=3)
    torch.manual_seed(0)
    module, real = stand_in(normalization, training=True), real_tokens(length, ("right", "left", "holes"))
    output, _ = ATTENTION_BACKENDS["gau_triton"].forward(module, *states, real[:, None, None, :], dropout=dropout)
    found = [output, *torch.autograd.grad(output, states, gradient)]

    exact = [s.detach().double().requires_grad_() for s in states]
    scores = (exact[0] @ exact[1].mT)[:, 0]
    weights = ATTENTION_NORMALIZATIONS[normalization].weights(scores, real[:, None, :])
    expected = ((weights * keep.double()) @ exact[2][:, 0]).unsqueeze(2)
    expected = [expected, *torch.autograd.grad(expected, exact, gradient.double())]
    assert_close(found, expected)


def test_everything_may_be_dropped():
    assert not dropped_weights(9, 1.0).any()


# ------------------------------------------------------------------------------------------------------- in a model


@pytest.fixture
def model(make_model):
    return make_model(backend="gau_triton", num_hidden_layers=1).to(DEVICE)


def batch_of_texts() -> dict[str, torch.Tensor]:
    input_ids = torch.randint(5, 60, (3, 20), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    real = real_tokens(20, ("none", "left", "holes"))
    return {"input_ids": input_ids, "attention_mask": real.long(), "labels": input_ids.masked_fill(~real, -100)}


def loss_logits_gradients(model, inputs, call=None) -> list[torch.Tensor]:
    model.zero_grad()
    output = (model if call is None else call)(**inputs)
    output.loss.backward()
    logits = output.logits[inputs["attention_mask"].bool()].detach()
    return [output.loss.detach(), logits, *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("normalization", ["softmax_plus", "squared_relu"])  # both have a factor that depends on n
def test_a_model_gives_what_it_gives_with_eager(make_model, normalization):
    inputs = batch_of_texts()
    found, expected = (
        loss_logits_gradients(
            make_model(backend=backend, attention_normalization=normalization, num_hidden_layers=2).to(DEVICE), inputs
        )
        for backend in ("gau_triton", "eager")
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_model_under_autocast_errs_no_more_than_eager(model):
    inputs = batch_of_texts()
    exact = loss_logits_gradients(model, inputs)
    errors = {}
    for backend in ("eager", "gau_triton"):
        model.set_attn_implementation(backend)
        with torch.autocast(DEVICE, torch.bfloat16):
            found = loss_logits_gradients(model, inputs)
        errors[backend] = [relative_error(ours, theirs.double()) for ours, theirs in zip(found, exact, strict=True)]
    assert max(errors["gau_triton"]) < 3 * max(errors["eager"]) < 0.15


def test_gradient_checkpointing_draws_the_same_weights(make_model):
    model = make_model(backend="gau_triton", attention_probs_dropout_prob=0.2, num_hidden_layers=1).to(DEVICE).train()
    inputs = batch_of_texts()
    torch.manual_seed(3)
    expected = loss_logits_gradients(model, inputs)
    model.gradient_checkpointing_enable()
    torch.manual_seed(3)
    for ours, theirs in zip(loss_logits_gradients(model, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_compiled_model_gives_the_same(model):
    inputs = batch_of_texts()
    expected = loss_logits_gradients(model, inputs)
    found = loss_logits_gradients(model, inputs, torch.compile(model, backend="aot_eager", fullgraph=True))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("softmax", "sum_normalized"), [(True, False), (False, False)])
def test_operator_schemas_and_fake_functions(softmax, sum_normalized):
    states = [s.detach()[:, 0].requires_grad_() for s in random_states(9, (16, 40), batch=2)]
    visible, seed = real_tokens(9, ("right", "holes")), torch.tensor([5], device=DEVICE)
    inputs = (*states, visible, kernels_gau._visible_bounds(visible), seed, softmax, sum_normalized, 0.1)
    torch.library.opcheck(kernels_gau._triton_attention, inputs)


# -------------------------------------------------------------------------------------------------------- refusals


def test_other_masks_are_refused_with_those_that_take_them():
    states = random_states(9, (16, 40))
    forward = ATTENTION_BACKENDS["gau_triton"].forward
    for mask in (torch.ones(5, 1, 9, 9, dtype=torch.bool), torch.zeros(5, 1, 1, 9), torch.ones(5, 9).bool()):
        with pytest.raises(ValueError, match=r"padding masks only.*\(5, 1, 1, 9\), but got.*'gau_blocked'.*'eager'"):
            forward(stand_in("softmax"), *states, mask.to(DEVICE))
    one_for_all = torch.ones(1, 1, 1, 9, dtype=torch.bool, device=DEVICE)
    unmasked, masked = (forward(stand_in("softmax"), *states, mask)[0] for mask in (None, one_for_all))
    torch.testing.assert_close(masked, unmasked)


def test_other_types_are_refused():
    states = random_states(9, (16, 40))
    forward = ATTENTION_BACKENDS["gau_triton"].forward
    with pytest.raises(ValueError, match=r"one type of .*torch.float32, but got torch.float64\..*'eager'"):
        forward(stand_in("softmax"), *(s.double() for s in states), None)
    with pytest.raises(ValueError, match=r"but got torch.bfloat16, torch.float32\."):
        forward(stand_in("softmax"), *states[:2], states[2].bfloat16(), None)


def test_second_derivatives_name_the_way_out():
    states = random_states(9, (16, 40))
    output, _ = ATTENTION_BACKENDS["gau_triton"].forward(stand_in("softmax"), *states, None)
    (gradient,) = torch.autograd.grad(output.square().sum(), states[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"'gau_triton' has no second derivative.*eager"):
        gradient.sum().backward()


def test_tf32_is_used_where_pytorch_may():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for setting, expected in (("ieee", "tf32x3"), ("tf32", "tf32")):
            matmul.fp32_precision = setting
            assert kernels_gau._precision(torch.zeros(1)) == expected
            assert kernels_gau._precision(torch.zeros(1, dtype=torch.bfloat16)) == "tf32"  # means nothing there
    finally:
        matmul.fp32_precision = before
