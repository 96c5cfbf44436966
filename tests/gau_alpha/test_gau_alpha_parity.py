# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Converted checkpoints give the numbers of GAU-alpha: of its formulas, of its PyTorch port and of bert4keras."""

from pathlib import Path

import gau_alpha_reference as reference
import numpy as np
import pytest
import torch
from transformers import AutoModel

from modeling_gau import GAUForMaskedLM
from modeling_gau.gau_alpha.checkpoints import Overrides
from modeling_gau.gau_alpha.convert import convert


DATA = Path(__file__).parent / "data"
TOLERANCE = {"atol": 1e-4, "rtol": 0}
LENGTHS = (1, 2, 3, 5, 8, 17, 31, 64)


def converted(source: Path, output: Path, overrides: Overrides | None = None) -> GAUForMaskedLM:
    convert(source, output, overrides)
    return GAUForMaskedLM.from_pretrained(output, attn_implementation="eager").eval()


def outputs_of(model: GAUForMaskedLM, tokens, types, mask=None):
    with torch.no_grad():
        return model(
            torch.as_tensor(tokens),
            attention_mask=None if mask is None else torch.as_tensor(mask),
            token_type_ids=torch.as_tensor(types),
            output_hidden_states=True,
            output_attentions=True,
        )


@pytest.mark.parametrize(
    "kind, use_bias, normalization",
    [
        (kind, (index % 2 == 0) == (kind == "port"), name)
        for index, name in enumerate(reference.NORMALIZATIONS)
        for kind in ("port", "tensorflow")
    ],
)
def test_against_the_formulas(tmp_path, kind, use_bias, normalization):
    weights = reference.random_weights(use_bias)
    # The last of them is in neither family: a converted model can be loaded with it.
    stated = "softmax" if normalization == "normalized_squared_relu" else normalization
    if kind == "port":
        state = reference.port_state(weights)
        source = reference.write_port(tmp_path / "in", state, use_bias=use_bias, normalization=stated)
        model = converted(source, tmp_path / "out")
    else:
        source = reference.write_tensorflow(tmp_path / "in", reference.tensorflow_variables(weights))
        model = converted(source, tmp_path / "out", Overrides(attention_normalization=stated))
    model.config.attention_normalization = normalization
    generator = np.random.default_rng(2)
    tokens = generator.integers(1, len(reference.VOCABULARY), (len(LENGTHS), max(LENGTHS)))
    types = generator.integers(0, 2, tokens.shape)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int64)
    padded = outputs_of(model, tokens, types, mask)
    for row, length in enumerate(LENGTHS):
        expected = reference.forward(weights, tokens[row, :length], types[row, :length], normalization)
        alone = outputs_of(model, tokens[row : row + 1, :length], types[row : row + 1, :length])
        for outputs, index in ((padded, row), (alone, 0)):
            hidden = np.stack([states[index, :length] for states in outputs.hidden_states])
            attentions = np.stack([weights[index, 0, :length, :length] for weights in outputs.attentions])
            np.testing.assert_allclose(hidden, expected[0], **TOLERANCE)
            np.testing.assert_allclose(attentions, expected[1], **TOLERANCE)
            np.testing.assert_allclose(outputs.logits[index, :length], expected[2], **TOLERANCE)
    assert np.abs(expected[2]).max() > 1  # the tolerance means something


def test_an_attention_without_scale(tmp_path):
    weights = reference.random_weights(use_bias=True)
    state = reference.port_state(weights)
    source = reference.write_port(tmp_path / "in", state, use_bias=True, attention_scale=False)
    model = converted(source, tmp_path / "out")
    tokens, types = np.arange(5, 18), np.zeros(13, np.int64)
    scaled = {n: w * np.sqrt(10.0) if ".q_scaleoffset." in n else w for n, w in weights.items()}
    expected = reference.forward(scaled, tokens, types, "softmax_plus")[2]
    assert np.abs(expected - reference.forward(weights, tokens, types, "softmax_plus")[2]).max() > 0.1
    np.testing.assert_allclose(outputs_of(model, tokens[None], types[None]).logits[0], expected, **TOLERANCE)


def test_the_formulas_tell_the_variants_apart():
    """A reference that hardly depends on what is tested would prove nothing."""
    weights, generator = reference.random_weights(True), np.random.default_rng(3)
    tokens, types = generator.integers(1, 20, 17), generator.integers(0, 2, 17)
    logits = {name: reference.forward(weights, tokens, types, name)[2] for name in reference.NORMALIZATIONS}
    others = [
        reference.forward(weights, tokens, 1 - types, "softmax")[2],
        reference.forward(weights, tokens[::-1], types[::-1], "softmax")[2][::-1],  # positions
        reference.forward({k: v for k, v in weights.items() if "bias" not in k}, tokens, types, "softmax")[2],
    ]
    names = list(logits)
    for first in range(len(names)):
        for second in range(first):
            assert np.abs(logits[names[first]] - logits[names[second]]).max() > 0.1
    for other in others:
        assert np.abs(other - logits["softmax"]).max() > 0.1


def assert_as_recorded(model: GAUForMaskedLM, directory: Path) -> None:
    expected = np.load(directory / "expected.npz")
    mask = expected["input_ids"] != 0
    assert mask.sum() < mask.size
    outputs = outputs_of(model, expected["input_ids"], expected["token_type_ids"], mask.astype(np.int64))
    np.testing.assert_allclose(
        torch.stack(outputs.hidden_states)[:, mask], expected["hidden_states"][:, mask], atol=1e-5
    )
    np.testing.assert_allclose(outputs.logits[mask], expected["logits"][mask], atol=1e-5)
    assert np.abs(expected["logits"]).max() > 1
    if "attentions" in expected:
        attentions = torch.stack(outputs.attentions)[:, :, 0]
        np.testing.assert_allclose(attentions[:, mask], expected["attentions"][:, mask], atol=1e-5)


@pytest.mark.parametrize("variant", ["softmax_plus", "softmax-biases", "squared_relu", "unscaled"])
def test_against_what_the_port_computed(tmp_path, variant):
    """Made by `data/gau_alpha/make_port.py` with the port itself."""
    assert_as_recorded(converted(DATA / "port" / variant, tmp_path / "out"), DATA / "port" / variant)


def test_against_what_bert4keras_computed(tmp_path):
    """Made by `data/gau_alpha/make_tensorflow.py` with TensorFlow and bert4keras 0.11.3."""
    assert_as_recorded(converted(DATA / "tensorflow", tmp_path / "out"), DATA / "tensorflow")


def test_the_shortest_length_of_later_versions_of_bert4keras(tmp_path):
    weights = reference.random_weights(False)
    source = reference.write_tensorflow(tmp_path / "in", reference.tensorflow_variables(weights))
    model = converted(source, tmp_path / "out", Overrides(softmax_plus_min_length=16))
    tokens, types = np.arange(5, 10)[None], np.zeros((1, 5), np.int64)
    scaled = lambda scores: reference.softmax(scores * np.log(16) / np.log(512))  # noqa: E731
    expected = reference.NORMALIZATIONS | {"clamped": scaled}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "NORMALIZATIONS", expected)
        logits = reference.forward(weights, tokens[0], types[0], "clamped")[2]
    np.testing.assert_allclose(outputs_of(model, tokens, types).logits[0], logits, **TOLERANCE)


def test_the_bare_encoder(tmp_path):
    weights = reference.random_weights(False)
    source = reference.write_port(tmp_path / "in", reference.port_state(weights, has_head=False))
    convert(source, tmp_path / "out")
    tokens, types = np.arange(5, 16), np.zeros(11, np.int64)
    hidden, _, logits = reference.forward(weights, tokens, types, "softmax_plus")
    with torch.no_grad():
        states = AutoModel.from_pretrained(tmp_path / "out")(torch.as_tensor(tokens[None])).last_hidden_state
        # The head is the embeddings, so that it need not be in the checkpoint.
        predicted = GAUForMaskedLM.from_pretrained(tmp_path / "out")(torch.as_tensor(tokens[None])).logits
    np.testing.assert_allclose(states[0], hidden[-1], **TOLERANCE)
    np.testing.assert_allclose(predicted[0], logits, **TOLERANCE)
