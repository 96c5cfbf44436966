# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Every normalization with every form of relative positions against the formulas, written out in float64, sequence by
sequence: outputs and all gradients, padded, packed and windowed, in every backend that can."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from formulas import reference_logits, rotate, rotations

from modeling_gau import GAUConfig, GAUForMaskedLM, attention_gau
from modeling_gau.attention_gau import ATTENTION_NORMALIZATIONS, check_attention_backend


POSITIONS = {
    "rope": {},
    "offsets": {"query_key_offset_init": 0.8},
    "distance": {"relative_position_bias": "distance", "relative_position_bias_max_distance": 5},
    "rotary": {"relative_position_bias": "rotary", "relative_position_bias_init": 0.7},
    "all": {"query_key_offset_init": -0.3, "relative_position_bias": "distance", "use_bias": True},
}
BACKENDS = ("eager", "sdpa", "gau_blocked", "gau_auto")
WINDOW = {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}


def able(backend: str, normalization: str, positions: str = "rope") -> bool:
    bias = POSITIONS[positions].get("relative_position_bias")
    config = SimpleNamespace(attention_normalization=normalization, relative_position_bias=bias)
    try:
        check_attention_backend(backend, config)
    except ValueError:
        return False
    return True


CASES = [case for case in itertools.product(BACKENDS, ATTENTION_NORMALIZATIONS, POSITIONS) if able(*case)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks a sequence, and padding taken out wherever a backend can."""
    monkeypatch.setitem(attention_gau._BLOCK_ELEMENTS, "cpu", 200)
    monkeypatch.setattr(attention_gau, "_MIN_BLOCK_ROWS", 8)
    monkeypatch.setattr(attention_gau, "_MIN_WINDOW_ROWS", 8)
    monkeypatch.setattr("modeling_gau.unpadding_gau._OPERATIONS_OF_A_CALL", 1.0)


@pytest.fixture(scope="module")
def make(make_model):
    """`make(backend, normalization, positions, ...)`: all learned vectors are away from their initial values."""

    def make(backend: str, normalization: str, positions: str, dtype=torch.float64, **fields) -> GAUForMaskedLM:
        fields = {"attention_normalization": normalization, **POSITIONS[positions], **fields}
        model = make_model(backend=backend, **fields).to(dtype)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(dtype)
        return model

    return make


def batch(kind: str) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Sequences of odd lengths, and the arguments that pack them into a batch."""
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(1, 60, (length,), generator=generator) for length in (23, 1, 7, 14)]
    if kind == "packed":
        ids = torch.stack((torch.cat(sequences[:1]), torch.cat([*sequences[1:], torch.zeros(1, dtype=torch.long)])))
        numbers = torch.tensor([[1] * 23, [1] + [2] * 7 + [3] * 14 + [0]])
        return sequences, {"input_ids": ids, "document_ids": numbers}
    ids, mask = torch.zeros(2, 4, 23, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        part = slice(23 - len(sequence), 23) if kind == "left" else slice(0, len(sequence))
        ids[row, part], mask[row, part] = sequence, 1
    return sequences, {"input_ids": ids, "attention_mask": mask}


def check(model, reference, kind: str, tolerance: float = 1e-8) -> None:
    sequences, inputs = batch(kind)
    weight = torch.randn(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.cat([reference_logits(reference, sequence) for sequence in sequences])
    logits = model(**inputs).logits
    real = inputs.get("attention_mask", inputs.get("document_ids")) != 0
    torch.testing.assert_close(logits[real].double(), expected, rtol=tolerance, atol=tolerance)
    expected_gradients = torch.autograd.grad(
        (expected * weight).sum(), list(reference.parameters()), allow_unused=True, materialize_grads=True
    )
    gradients = torch.autograd.grad(
        (logits[real] * weight.to(logits.dtype)).sum(), list(model.parameters()), materialize_grads=True
    )
    for (name, _), ours, theirs in zip(model.named_parameters(), gradients, expected_gradients, strict=True):
        error = (ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-3)
        assert error < 10 * tolerance, (name, error)


@pytest.mark.parametrize(("backend", "normalization", "positions"), CASES)
def test_padded_and_packed(make, backend, normalization, positions):
    model = make(backend, normalization, positions)
    for kind in ("right", "left", "packed"):
        check(model, model, kind)


@pytest.mark.parametrize(("backend", "normalization", "positions"), CASES)
def test_windows(make, backend, normalization, positions):
    model = make(backend, normalization, positions, **WINDOW)
    for kind in ("right", "packed"):
        check(model, model, kind)


@pytest.mark.parametrize("normalization", [name for name, entry in ATTENTION_NORMALIZATIONS.items() if entry.uses_n])
def test_fixed_n(make, normalization):
    model = make("eager", normalization, "rotary", fixed_n=64)
    check(model, model, "right")


@pytest.mark.parametrize(
    ("before", "field", "after"),
    [
        ("softmax", "attention_normalization", "softmax_sink"),
        ("scalable_softmax", "attention_normalization", "softmax_plus"),
        ("squared_relu", "relative_position_bias", "rotary"),
    ],
)
def test_learned_parameters_do_not_appear_or_vanish(make, before, field, after):
    model = make("eager", before, "rope")
    setattr(model.config, field, after)
    with pytest.raises(ValueError, match="Load the checkpoint with from_pretrained"):
        model(torch.tensor([[5, 6]]))


def test_learned_vectors_begin_where_the_configuration_says(make_model):
    fields = {"query_key_offset_init": 1.4, "relative_position_bias_init": 2.0, "attention_key_size": 64}
    rotary = make_model(relative_position_bias="rotary", attention_normalization="softmax_sink", **fields)
    distance = make_model(relative_position_bias="distance", attention_normalization="scalable_softmax", **fields)
    unit = rotary.model.layers[0].gau
    assert unit.q_scaleoffset.bias.eq(1.4).all() and unit.k_scaleoffset.bias.eq(1.4).all()
    assert unit.i_dense.bias is None and unit.attention_sink.item() == 0.0
    # Both biases are about the same function of the distance, with the peak that was asked for.
    turns = rotations(rotary.config, torch.arange(129))
    queries, keys = (rotate(vector.double(), turns) for vector in (unit.position_bias.query, unit.position_bias.key))
    table = distance.model.layers[0].gau.position_bias.weight.double()
    assert table[[128, 136, 120]].tolist() == pytest.approx([2.0, 2.0 / math.e, 2.0 / math.e])
    for biases, expected in ((keys @ queries[0], table[128:]), (queries @ keys[0], table[:129].flip(0))):
        assert biases[0].item() == pytest.approx(2.0)
        assert (biases - expected)[:17].abs().max() < 0.2 and biases[17:].abs().max() < 0.6
    assert distance.model.layers[0].gau.attention_scale.item() == 1.0


def test_scalable_softmax_begins_as_a_softmax_at_the_reference_length(make_model):
    models = [
        make_model(attention_normalization=name, reference_length=16) for name in ("softmax", "scalable_softmax")
    ]
    plain, scalable = (model(torch.arange(5, 21)[None]).logits for model in models)
    torch.testing.assert_close(plain, scalable)


def test_checkpoints_without_offsets_gain_them(make_model, tmp_path):
    old = make_model()
    old.save_pretrained(tmp_path)
    ids = torch.arange(5, 21)[None]
    again = GAUForMaskedLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(ids).logits, old(ids).logits)
    new = GAUForMaskedLM.from_pretrained(tmp_path, query_key_offset_init=1.0)
    assert new.model.layers[0].gau.k_scaleoffset.bias.eq(1.0).all()
    new.save_pretrained(tmp_path / "new")
    assert GAUForMaskedLM.from_pretrained(tmp_path / "new").config.query_key_offset_init == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query_key_offset_init": float("nan")}, "query_key_offset_init=nan must be a number from -10000"),
        ({"relative_position_bias": "rotary", "relative_position_bias_init": 0}, "must be positive"),
        ({"relative_position_bias": "t5"}, "relative_position_bias"),
        ({"relative_position_bias_max_distance": 0}, "must be an integer from 1 to"),
    ],
)
def test_bad_values(fields, message):
    with pytest.raises(ValueError, match=message):
        GAUConfig(**fields)


@pytest.mark.parametrize(
    ("backend", "fields", "message"),
    [
        ("flex_attention", {"relative_position_bias": "distance"}, "Use one of eager, sdpa, gau_blocked, gau_auto"),
        ("gau_triton", {"attention_normalization": "softmax_sink"}, "Use one of eager, sdpa, gau_blocked, gau_auto"),
        ("sdpa", {"attention_normalization": "sigmoid"}, "Use one of eager, gau_blocked, gau_auto"),
        ("gau_triton", {"attention_normalization": "laplace"}, "Use one of eager, gau_blocked, gau_auto"),
    ],
)
def test_backends_that_cannot_say_which_can(make_model, backend, fields, message):
    with pytest.raises(ValueError, match=message):
        make_model(backend=backend, **fields)


def gradients_of(model, ids: torch.Tensor) -> torch.Tensor:
    gradients = torch.autograd.grad(model(ids, labels=ids).loss, list(model.parameters()))
    return torch.cat([gradient.flatten().float() for gradient in gradients])


@pytest.mark.parametrize("positions", ["rope", "distance", "rotary"])
@pytest.mark.parametrize("normalization", ["scalable_softmax", "softmax_sink", "sigmoid", "squared_relu", "laplace"])
def test_bfloat16_errs_no_more_than_plain_pytorch(make, normalization, positions):
    """Blocks against plain operations in the same precision, both against float32."""
    exact = make("eager", normalization, positions, dtype=torch.float32)
    ids = torch.randint(1, 60, (2, 70), generator=torch.Generator().manual_seed(0))
    errors = {}
    for backend in ("eager", "gau_blocked"):
        narrow = make(backend, normalization, positions, dtype=torch.bfloat16)
        wanted, got = (gradients_of(model, ids) for model in (exact, narrow))
        errors[backend] = ((got - wanted).norm() / wanted.norm()).item()
    assert errors["gau_blocked"] <= 3 * errors["eager"], errors


@pytest.mark.parametrize(
    ("normalization", "positions"),
    [("scalable_softmax", "distance"), ("softmax_sink", "rotary"), ("sigmoid", "offsets")],
)
def test_saved_and_loaded(make, tmp_path, normalization, positions):
    model = make("eager", normalization, positions, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    again, infos = GAUForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not infos["missing_keys"] and not infos["unexpected_keys"]
    ids = torch.arange(5, 21)[None]
    torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize("positions", ["distance", "rotary"])
def test_offloaded_layers_find_their_bias(make, tmp_path, positions):
    model = make("eager", "softmax", positions, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    ids = torch.arange(5, 21)[None]
    places = {"model.embeddings": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu", "decoder": "cpu"}
    places |= {"model.layers.1": "disk", "model.layers.2": "cpu"}
    offloaded = GAUForMaskedLM.from_pretrained(tmp_path, device_map=places, offload_folder=str(tmp_path / "offload"))
    torch.testing.assert_close(offloaded.eval()(ids).logits, model(ids).logits)


def test_laplace_weights_near_zero_are_not_quantized():
    """Scores q . k / n of long rows lie near 0, where bfloat16 is fine, but not once 0.7 is subtracted."""
    scores = torch.linspace(-0.02, 0.02, 101, dtype=torch.float64)
    narrow = scores.bfloat16()
    exact = ATTENTION_NORMALIZATIONS["laplace"].weights(narrow.double(), None)
    rounded = ATTENTION_NORMALIZATIONS["laplace"].weights(narrow, None)
    assert ((rounded.double() - exact) / exact).abs().max() < 0.005
