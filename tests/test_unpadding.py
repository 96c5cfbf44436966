# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Nothing is computed for padding, and nothing comes out differently for it."""

import pytest
import torch

import modeling_gau.unpadding_gau as unpadding_gau
from modeling_gau import (
    GAUConfig,
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
)
from modeling_gau.attention_gau import (
    ATTENTION_BACKENDS,
    ATTENTION_NORMALIZATIONS,
    AttentionBackend,
    eager_attention_forward,
    register_attention_backend,
)
from modeling_gau.unpadding_gau import real_tokens


LENGTHS = (1, 23, 9, 16)
PAIRS = [
    (name, normalization)
    for name in ("eager", "sdpa", "gau_blocked", "gau_auto")
    for normalization, description in ATTENTION_NORMALIZATIONS.items()
    if description.family in ATTENTION_BACKENDS[name].families
]


def make_model(kind=GAUModel, backend: str | None = None, **changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "attention_key_size": 12}
    settings = {"num_hidden_layers": 3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    # With small weights every row of attention is nearly uniform, and a wrong neighbour would not be seen.
    config = GAUConfig(**sizes, **settings | {"initializer_range": 0.4} | changes)
    return kind._from_config(config, attn_implementation=backend).double().eval()


def make_batch(side: str = "right", empty_row: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    longest = max(LENGTHS)
    mask = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).long()
    if side == "left":
        mask = mask.flip(1)
    if side == "holes":
        mask[1, 4:8] = 0
        mask[3, ::3] = 0
    if empty_row:
        mask[2] = 0
    ids = torch.randint(5, 60, mask.shape, generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}


@pytest.fixture(autouse=True)
def small_models_count(monkeypatch):
    """With layers as small as those of tests, leaving padding in is cheaper."""
    monkeypatch.setattr(unpadding_gau, "_OPERATIONS_OF_A_SEQUENCE", 0.0)


def both_ways(model, **inputs):
    """Outputs and gradients with padding, and without it."""
    results = []
    for unpads in (False, True):
        model.config.unpad_inputs = unpads
        model.zero_grad()
        outputs = model(**inputs)
        (outputs.loss if "loss" in outputs else outputs.last_hidden_state.pow(3).sum()).backward()
        results.append((outputs, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    return results


@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize(("backend", "normalization"), PAIRS)
def test_outputs_and_gradients(backend, normalization, side):
    model, batch = make_model(backend=backend, attention_normalization=normalization), make_batch(side)
    (padded, padded_gradients), (unpadded, gradients) = both_ways(model, **batch)
    torch.testing.assert_close(unpadded.last_hidden_state, padded.last_hidden_state)
    padding = batch["attention_mask"] == 0
    assert not padded.last_hidden_state[padding].any() and padded.last_hidden_state[~padding].any()
    assert len(gradients) == len(padded_gradients) > 10
    for mine, theirs in zip(gradients, padded_gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def shapes_in_layers(model, **inputs) -> list[tuple[int, ...]]:
    seen = []
    hook = model.get_submodule("layers.0.gau.i_dense").register_forward_hook(
        lambda module, arguments, output: seen.append(tuple(arguments[0].shape[:2]))
    )
    model(**inputs)
    hook.remove()
    return seen


PADDED, UNPADDED = [(len(LENGTHS), max(LENGTHS))], [(1, sum(LENGTHS))]


def test_less_is_computed():
    model, batch = make_model(), make_batch()
    assert shapes_in_layers(model, **batch) == UNPADDED
    assert shapes_in_layers(model, **batch | {"attention_mask": batch["attention_mask"].bool()}) == UNPADDED
    embedded = {**batch, "inputs_embeds": model.embeddings.word_embeddings(batch["input_ids"])}
    del embedded["input_ids"]
    assert shapes_in_layers(model, **embedded) == UNPADDED
    model.config.unpad_inputs = False
    assert shapes_in_layers(model, **batch) == PADDED


@pytest.mark.parametrize("wanted", ["output_hidden_states", "output_attentions"])
@pytest.mark.parametrize("by_config", [False, True])
def test_recorded_outputs_keep_their_shape(wanted, by_config):
    model, batch = make_model(backend="eager"), make_batch()
    if by_config:
        setattr(model.config, wanted, True)
    outputs = model(**batch) if by_config else model(**batch, **{wanted: True})
    recorded = outputs.hidden_states if wanted == "output_hidden_states" else outputs.attentions
    assert recorded[0].shape[0] == 4 and recorded[0].shape[-2] == max(LENGTHS)
    assert shapes_in_layers(model, **batch, **({} if by_config else {wanted: True})) == PADDED


def test_prepared_masks_are_used_as_they_are():
    model, batch = make_model(), make_batch()
    prepared = batch["attention_mask"].bool()[:, None, None, :]
    assert shapes_in_layers(model, **batch | {"attention_mask": prepared}) == PADDED
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(
        model(**batch | {"attention_mask": prepared}).last_hidden_state[real], model(**batch).last_hidden_state[real]
    )


def test_backends_that_are_registered_keep_their_mask():
    """A mask function may hide more than padding: a window, say."""
    called = []

    def mask(batch_size, q_length, kv_length, attention_mask=None, **kwargs):
        called.append((q_length, kv_length))
        near = (torch.arange(q_length)[:, None] - torch.arange(kv_length)).abs() <= 2
        return near & attention_mask[:, None, None, :].bool()

    def forward(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0):
        return eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout)

    register_attention_backend("window_of_a_test", AttentionBackend(forward, ("softmax", "squared_relu"), mask))
    try:
        model = make_model(backend="window_of_a_test")
        assert shapes_in_layers(model, **make_batch()) == PADDED
        assert called == [(23, 23)]
    finally:
        del ATTENTION_BACKENDS["window_of_a_test"]


def test_where_it_pays(monkeypatch):
    monkeypatch.undo()
    mask = torch.ones(3, 20)
    assert real_tokens(mask, 10**9) is None  # nothing is saved
    assert real_tokens(torch.zeros(3, 20), 10**9) is None
    mask[:, 10:] = 0
    # Thirty positions are saved; three sequences cost as many operations as 20e6 each.
    assert real_tokens(mask, 999_999) is None
    packed = real_tokens(mask, 1_000_001)
    assert packed.lengths == (10, 10, 10)
    hidden = torch.randn(3, 20, 4)
    torch.testing.assert_close(packed.put_back(packed.take(hidden)), hidden * mask.unsqueeze(-1), rtol=0, atol=0)
    assert packed.key_count().flatten().tolist() == [10] * 30
    # A base model gains from little padding, a tiny one does not.
    little = torch.ones(8, 128)
    little[0, 100:] = 0
    assert real_tokens(little, 3_600_000) is not None and real_tokens(little, 230_000) is None


def test_a_row_without_tokens():
    model, batch = make_model(), make_batch(empty_row=True)
    (padded, _), (unpadded, _) = both_ways(model, **batch)
    torch.testing.assert_close(unpadded.last_hidden_state, padded.last_hidden_state)
    assert not unpadded.last_hidden_state[2].any()


def labels_of(kind, batch) -> dict[str, torch.Tensor]:
    ids = batch["input_ids"]
    if kind is GAUForSequenceClassification:
        return {"labels": torch.arange(4) % 2}
    if kind is GAUForQuestionAnswering:
        return {"start_positions": torch.tensor([0, 3, 2, 5]), "end_positions": torch.tensor([0, 9, 8, 6])}
    labels = ids if kind is GAUForMaskedLM else ids % 2
    return {"labels": labels.masked_fill(batch["attention_mask"] == 0, -100)}


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    "kind", [GAUForMaskedLM, GAUForSequenceClassification, GAUForTokenClassification, GAUForQuestionAnswering]
)
def test_every_head(kind, pooling):
    model, batch = make_model(kind, classifier_pooling=pooling, sparse_prediction=True), make_batch("holes")
    (padded, padded_gradients), (unpadded, gradients) = both_ways(model, **batch, **labels_of(kind, batch))
    torch.testing.assert_close(unpadded.loss, padded.loss)
    for mine, theirs in zip(gradients, padded_gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_positions_of_the_caller():
    model, batch = make_model(), make_batch("left")
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    (padded, _), (unpadded, _) = both_ways(model, **batch, position_ids=positions)
    torch.testing.assert_close(unpadded.last_hidden_state, padded.last_hidden_state)
    other = model(**batch, position_ids=positions * 3).last_hidden_state
    assert (other - padded.last_hidden_state).abs().max() > 0.1


def test_multiple_choice():
    model, batch = make_model(GAUForMultipleChoice), make_batch()
    choices = {name: tensor.unflatten(0, (2, 2)) for name, tensor in batch.items()}
    (padded, _), (unpadded, _) = both_ways(model, **choices, labels=torch.tensor([0, 1]))
    torch.testing.assert_close(unpadded.logits, padded.logits)


def test_checkpointed_training_with_dropout():
    model, batch = make_model(GAUForMaskedLM, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1), make_batch()
    model.train()
    losses, gradients = [], []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        torch.manual_seed(5)
        model.zero_grad()
        loss = model(**batch, **labels_of(GAUForMaskedLM, batch)).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.model.layers[0].gau.i_dense.weight.grad.clone())
    assert losses[0] == losses[1]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("changes", [{"fixed_n": 100}, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}])
def test_fixed_n_and_scaled_positions(changes):
    model, batch = make_model(max_position_embeddings=10, **changes), make_batch("left")
    (padded, _), (unpadded, _) = both_ways(model, **batch)
    torch.testing.assert_close(unpadded.last_hidden_state, padded.last_hidden_state)


def test_bfloat16():
    model, batch = make_model(GAUForMaskedLM).float(), make_batch()
    real = batch["attention_mask"].bool()
    model.config.unpad_inputs = False
    exact = model(**batch).logits[real]
    errors = []
    for unpads in (False, True):
        model.config.unpad_inputs = unpads
        with torch.autocast("cpu", torch.bfloat16):
            errors.append((model(**batch).logits.float()[real] - exact).abs().mean().item())
    assert 0 < errors[1] <= 2 * errors[0]
