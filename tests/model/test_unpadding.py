# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Layers skip padding and keep packed documents apart, and no result changes."""

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap
from transformers import AttentionInterface, AttentionMaskInterface, DataCollatorWithFlattening

from modeling_gau import (
    GAUForMaskedLM,
    GAUForMultipleChoice,
    GAUForQuestionAnswering,
    GAUForSequenceClassification,
    GAUForTokenClassification,
    GAUModel,
    attention_gau,
    unpadding_gau,
)
from modeling_gau.attention_gau import (
    ATTENTION_BACKENDS,
    ATTENTION_NORMALIZATIONS,
    AttentionBackend,
    eager_attention_forward,
    register_attention_backend,
)
from modeling_gau.unpadding_gau import (
    BatchPlan,
    LayerCost,
    PackedSequences,
    documents_end_to_end,
    packed_documents,
    restarting_positions,
    same_document,
    visible_keys,
    without_padding,
)


LENGTHS = (1, 23, 9, 16)
PAIRS = [
    (name, normalization)
    for name in ("eager", "sdpa", "gau_blocked", "gau_auto")
    # Others: test_formulas.py.
    for normalization in ("softmax", "softmax_plus", "squared_relu", "normalized_squared_relu")
    if ATTENTION_NORMALIZATIONS[normalization].family in ATTENTION_BACKENDS[name].families
]


@pytest.fixture
def make_model(make_model):
    """In float64, and the encoder alone unless asked for a head."""
    return lambda kind=GAUModel, backend=None, **fields: make_model(kind, backend, **fields).double()


def make_batch(side: str = "right") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    longest = max(LENGTHS)
    mask = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).long()
    if side == "left":
        mask = mask.flip(1)
    if side == "holes":
        mask[1, 4:8] = 0
        mask[3, ::3] = 0
    if side == "empty row":
        mask[2] = 0
    ids = torch.randint(5, 60, mask.shape, generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}


@pytest.fixture(params=["one by one", "some at once"], autouse=True)
def small_models_count(request, monkeypatch):
    """Leaving padding in is cheaper for layers as small as these. If calls cost nothing, each sequence gets its own;
    at a higher cost, some sequences share one."""
    calls = {"one by one": 0.0, "some at once": 12_000.0 / torch.get_num_threads()}
    monkeypatch.setattr(unpadding_gau, "_OPERATIONS_OF_A_CALL", calls[request.param])
    return request.param


def outputs_and_gradients(model, unpads: bool, **inputs) -> dict[str, torch.Tensor]:
    model.config.unpad_inputs = unpads
    model.zero_grad()
    outputs = model(**inputs)
    (outputs.loss if "loss" in outputs else outputs.last_hidden_state.pow(3).sum()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) > 10
    return {name: tensor.detach() for name, tensor in outputs.items()} | gradients


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("side", ["right", "left", "holes", "empty row"])
@pytest.mark.parametrize(("backend", "normalization"), PAIRS)
def test_outputs_and_gradients_are_those_of_eager_with_padding(
    make_model, monkeypatch, backend, normalization, side, window
):
    monkeypatch.setattr(attention_gau, "_MIN_WINDOW_ROWS", 8)  # several blocks to a sequence
    fields, batch = {"attention_normalization": normalization, "sliding_window": window}, make_batch(side)
    expected = outputs_and_gradients(make_model(backend="eager", **fields), unpads=False, **batch)
    padding = batch["attention_mask"] == 0
    assert not expected["last_hidden_state"][padding].any() and expected["last_hidden_state"][~padding].any()
    for unpads in (False, True):
        found = outputs_and_gradients(make_model(backend=backend, **fields), unpads, **batch)
        torch.testing.assert_close(found, expected)


LABELS = {
    GAUForMaskedLM: lambda ids: {"labels": ids},
    GAUForTokenClassification: lambda ids: {"labels": ids % 2},
    GAUForSequenceClassification: lambda ids: {"labels": torch.arange(4) % 2},
    GAUForQuestionAnswering: lambda ids: {
        "start_positions": torch.tensor([0, 3, 2, 5]), "end_positions": torch.tensor([0, 9, 8, 6])
    },
    GAUForMultipleChoice: lambda ids: {"labels": torch.tensor([0, 1])},
}  # fmt: skip


@pytest.mark.parametrize("pooling", ["cls", "mean", "pair"])
@pytest.mark.parametrize("kind", LABELS)
def test_every_head(make_model, kind, pooling):
    model, batch = make_model(kind, classifier_pooling=pooling, sparse_prediction=True), make_batch("holes")
    batch |= LABELS[kind](batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100))
    if kind is GAUForMultipleChoice:
        batch = {name: tensor.unflatten(0, (2, 2)) if name != "labels" else tensor for name, tensor in batch.items()}
    padded, unpadded = (outputs_and_gradients(model, unpads, **batch) for unpads in (False, True))
    if kind in (GAUForTokenClassification, GAUForQuestionAnswering):  # their logits at padding mean nothing
        padded, unpadded = (
            {name: t for name, t in found.items() if "logits" not in name} for found in (padded, unpadded)
        )
    torch.testing.assert_close(unpadded, padded)


@pytest.mark.parametrize(
    "fields",
    [{}, {"fixed_n": 100}, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}],
    ids=["positions", "fixed_n", "dynamic"],
)
def test_fixed_n_and_positions_of_the_caller_or_scaled(make_model, fields):
    model, batch = make_model(max_position_embeddings=10, **fields), make_batch("left")
    if not fields:
        batch["position_ids"] = 3 * (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        assert (model(**batch)[0] - model(**make_batch("left"))[0]).abs().max() > 0.1
    padded, unpadded = (outputs_and_gradients(model, unpads, **batch) for unpads in (False, True))
    torch.testing.assert_close(unpadded, padded)


def shapes_in_layers(model, **inputs) -> list[tuple[int, ...]]:
    seen, unit = [], model.layers[0].gau
    query_and_key = unit.query_and_key

    def look(base, *args):  # not a hook, which keeps the padding
        seen.append(tuple(base.shape[:2]))
        return query_and_key(base, *args)

    unit.query_and_key = look
    model(**inputs)
    del unit.query_and_key
    return seen


PADDED, UNPADDED = [(len(LENGTHS), max(LENGTHS))], [(1, sum(LENGTHS))]


def test_less_is_computed(make_model):
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
def test_recorded_outputs_keep_their_shape(make_model, wanted, by_config):
    model, batch = make_model(backend="eager"), make_batch()
    if by_config:
        setattr(model.config, wanted, True)
    outputs = model(**batch) if by_config else model(**batch, **{wanted: True})
    recorded = outputs.hidden_states if wanted == "output_hidden_states" else outputs.attentions
    assert recorded[0].shape[0] == 4 and recorded[0].shape[-2] == max(LENGTHS)
    assert shapes_in_layers(model, **batch, **({} if by_config else {wanted: True})) == PADDED


def test_prepared_masks_are_used_as_they_are(make_model):
    model, batch = make_model(), make_batch()
    prepared = batch["attention_mask"].bool()[:, None, None, :]
    assert shapes_in_layers(model, **batch | {"attention_mask": prepared}) == PADDED
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(
        model(**batch | {"attention_mask": prepared}).last_hidden_state[real], model(**batch).last_hidden_state[real]
    )


def test_backends_that_are_registered_keep_their_mask(make_model):
    """A mask function may hide more than padding, such as distant tokens."""
    made, seen = [], []

    def mask(batch_size, q_length, kv_length, attention_mask=None, **kwargs):
        near = (torch.arange(q_length)[:, None] - torch.arange(kv_length)).abs() <= 2
        made.append(near & attention_mask[:, None, None, :].bool())
        return made[-1]

    def forward(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0):
        seen.append(attention_mask)
        return eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout)

    name = "window_of_a_test"
    register_attention_backend(name, AttentionBackend(forward, ("softmax", "squared_relu"), mask))
    try:
        assert shapes_in_layers(make_model(backend=name), **make_batch()) == PADDED
        assert made[0].shape == (4, 1, 23, 23) and all(torch.equal(given, made[0]) for given in seen)
        assert len(made) == 1 and len(seen) == 3
    finally:
        del ATTENTION_BACKENDS[name]
        del AttentionInterface._global_mapping[name], AttentionMaskInterface._global_mapping[name]


def test_the_fixture_makes_both_kinds(make_model, small_models_count):
    cost = LayerCost.of(make_model().config, torch.device("cpu"))
    groups = PackedSequences(LENGTHS, (4, 23)).grouped(cost)
    assert groups == ([(1, 23), (9,), (16,)] if small_models_count == "some at once" else [(1,), (23,), (9,), (16,)])


def test_where_it_pays():
    mask = torch.ones(3, 20)
    free = LayerCost(token=1.0, pair=0.0, call=0.0)
    assert without_padding(mask, free) is None  # nothing is saved
    assert without_padding(torch.zeros(3, 20), free) is None
    mask[:, 10:] = 0
    packed = without_padding(mask, free)
    assert packed.lengths == (10, 10, 10)
    hidden = torch.randn(3, 20, 4)
    torch.testing.assert_close(packed.put_back(packed.take(hidden)), hidden * mask.unsqueeze(-1), rtol=0, atol=0)
    assert visible_keys(packed.documents()).flatten().tolist() == [10] * 30
    # Thirty positions are saved, and 3 x 20^2 - 3 x 10^2 pairs, for three calls.
    assert packed.grouped(LayerCost(1.0, 0.5, 99.0)) == [(10,)] * 3
    assert without_padding(mask, LayerCost(1.0, 0.5, 99.0)) is not None
    assert without_padding(mask, LayerCost(0.0, 0.1, 19.0)) is not None
    # Where the three are one call, of 30^2 pairs, 1,200 - 900 pairs are saved.
    assert without_padding(mask, LayerCost(10.0, 0.01, 302.0)) is not None
    assert without_padding(mask, LayerCost(10.0, 0.01, 303.0)) is None
    # One position and 39 pairs are saved for three calls.
    full = torch.ones(3, 20)
    full[0, 19] = 0
    assert without_padding(full, LayerCost(250.0, 0.2, 100.0)) is None
    assert without_padding(full, LayerCost(293.0, 0.2, 100.0)) is not None
    # A base model gains from little padding, a tiny one does not.
    little = torch.ones(8, 128)
    little[0, 100:] = 0
    assert without_padding(little, LayerCost(7.2e6, 3.3e3, 20e6)) is not None
    assert without_padding(little, LayerCost(4.6e5, 9e2, 20e6)) is None


def test_short_neighbours_go_together(make_model):
    packed = PackedSequences((5, 5, 5, 100, 5, 5), (1, 125))
    cost = LayerCost(0.0, pair=1.0, call=150.0)
    assert packed.grouped(cost) == [(5, 5, 5), (100,), (5, 5)]
    first, second, third = packed.segments(cost, torch.device("cpu"))
    assert (first.tokens, second.tokens, third.tokens) == (15, 100, 10) and second.mask is None
    expected = torch.block_diag(*[torch.ones(5, 5)] * 3).bool()
    assert torch.equal(first.mask[0, 0], expected) and first.mask.shape == (1, 1, 15, 15)
    # More threads wait for each call.
    threads = torch.get_num_threads()
    config = make_model().config
    try:
        torch.set_num_threads(1)
        one = LayerCost.of(config, torch.device("cpu"))
        torch.set_num_threads(2)
        two = LayerCost.of(config, torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    assert two.call == 2 * one.call and (two.token, two.pair) == (one.token, one.pair)


def test_bfloat16(make_model):
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


# Sequences that the caller lays end to end


def laid_end_to_end(batch):
    real = batch["attention_mask"].bool()
    rows = [ids[mask] for ids, mask in zip(batch["input_ids"], real, strict=True)]
    ids = torch.cat(rows)[None]
    return {"input_ids": ids, "token_type_ids": ids % 2}, rows


def edges() -> torch.Tensor:
    return torch.tensor((0, *LENGTHS)).cumsum(0).int()


def restarted() -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in LENGTHS])[None]


def how_given(how: str) -> dict:
    if how == "position_ids":
        return {"position_ids": restarted()}
    if how == "cu_seq_lens":
        return {"cu_seq_lens_q": edges(), "cu_seq_lens_k": edges(), "max_length_q": 23, "max_length_k": 23}
    documents = torch.arange(4).repeat_interleave(torch.tensor(LENGTHS))
    mask = (documents[:, None] == documents)[None, None]
    if how == "additive mask":
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
    return {"attention_mask": mask, "position_ids": restarted()}


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(("backend", "normalization"), PAIRS)
@pytest.mark.parametrize("how", ["cu_seq_lens", "position_ids", "mask", "additive mask"])
def test_sequences_end_to_end(make_model, how, backend, normalization, window):
    model = make_model(backend=backend, attention_normalization=normalization, sliding_window=window)
    inputs, rows = laid_end_to_end(make_batch())
    packed = model(**inputs, **how_given(how), output_hidden_states=True)
    assert packed.last_hidden_state.shape[:2] == (1, sum(LENGTHS)) and len(packed.hidden_states) == 4
    for part, row in zip(packed.last_hidden_state[0].split(LENGTHS), rows, strict=True):
        alone = model(row[None], token_type_ids=row[None] % 2).last_hidden_state[0]
        torch.testing.assert_close(part, alone)


@pytest.mark.parametrize("without", ["recorded", "whole", "regional", "unit", "fake"])
def test_by_a_mask_where_lengths_cannot_be(make_model, monkeypatch, without):
    """A mask separates sequences if weights are recorded, something is compiled or tensors have no values."""
    model, batch = make_model(), make_batch()
    inputs, _ = laid_end_to_end(batch)
    inputs |= {"cu_seq_lens_q": edges(), "cu_seq_lens_k": edges()}
    expected = model(**inputs).last_hidden_state
    made = []
    monkeypatch.setattr(PackedSequences, "segments", lambda *arguments: pytest.fail("laid end to end"))
    monkeypatch.setattr(unpadding_gau, "same_document", lambda numbers: made.append(numbers) or same_document(numbers))
    if without == "recorded":
        outputs = model(**inputs, output_attentions=True)
        assert outputs.attentions[0].shape == (1, 1, 49, 49) and not outputs.attentions[0][0, 0, 0, 1:].any()
        actual = outputs.last_hidden_state
    elif without == "whole":
        actual = torch.compile(model, backend="eager")(**inputs).last_hidden_state
    elif without in ("regional", "unit"):
        for layer in model.layers:
            (layer if without == "regional" else layer.gau).compile(backend="eager")
        actual = model(**inputs).last_hidden_state
    else:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            weights = {name: mode.from_tensor(tensor) for name, tensor in model.state_dict().items()}
            fake = {name: mode.from_tensor(tensor) for name, tensor in inputs.items()}
            output = functional_call(model, weights, kwargs=fake).last_hidden_state
        assert output.shape == expected.shape and made
        return
    assert made
    torch.testing.assert_close(actual, expected)


def test_compiled_positions_cost_no_mask(make_model, monkeypatch):
    model = make_model()
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(unpadding_gau, "same_document", lambda numbers: pytest.fail("a mask of all pairs"))
    compiled = torch.compile(model, backend="eager")(ids[:1], position_ids=torch.arange(9)[None]).last_hidden_state
    torch.testing.assert_close(compiled, model(ids[:1]).last_hidden_state)


def test_gradients_of_single_examples(make_model):
    """Under `torch.func` one tensor stands for many, so nothing may read its values."""
    model, batch = make_model(), make_batch()
    parameters = dict(model.named_parameters())

    def summed(parameters, ids, mask):
        inputs = {"input_ids": ids[None], "attention_mask": mask[None]}
        return functional_call(model, parameters, kwargs=inputs).last_hidden_state.pow(3).sum()

    mapped = vmap(grad(summed), (None, 0, 0))(parameters, batch["input_ids"], batch["attention_mask"])
    for row in range(4):
        alone = grad(summed)(parameters, batch["input_ids"][row], batch["attention_mask"][row])
        for name, gradient in alone.items():
            torch.testing.assert_close(mapped[name][row], gradient)


def test_layers_on_another_device(make_model):
    """accelerate's hooks, which `device_map` sets, move masks too."""
    model, batch = make_model(), make_batch()
    model.layers.to("meta")
    for layer in model.layers:
        add_hook_to_module(layer, AlignDevicesHook(execution_device="meta", io_same_device=False))
    outputs = model(**batch).last_hidden_state
    assert outputs.device.type == "meta" and outputs.shape[:2] == (4, 23)


@pytest.mark.parametrize("how", ["layer.compile()", "torch.compile(layer)"])
def test_compiled_layers_keep_padding(make_model, monkeypatch, how):
    model, batch = make_model(), make_batch()
    expected = model(**batch).last_hidden_state
    for index, layer in enumerate(model.layers):
        if how == "layer.compile()":
            layer.compile(backend="eager")
        else:
            model.layers[index] = torch.compile(layer, backend="eager")
    plans = []
    monkeypatch.setattr(BatchPlan, "take", lambda plan, *tensors: plans.append(plan) or tensors)
    torch.testing.assert_close(model(**batch).last_hidden_state, expected)
    assert [plan.packed for plan in plans] == [None]


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
@pytest.mark.parametrize("name", ["layers.1", "layers.2.gau", "layers.0.gau.o_dense"])
def test_hooks_see_the_batch_as_given(make_model, kind, name):
    model, batch = make_model(), make_batch()
    expected, shapes = model(**batch).last_hidden_state, []

    def look(module, *args):
        shapes.append(next(tensor for given in args for tensor in as_tuple(given) if tensor is not None).shape[:2])

    handle = getattr(model.get_submodule(name), f"register_{kind}")(look)
    assert shapes_in_layers(model, **batch) == PADDED
    found = model(**batch).last_hidden_state
    found.sum().backward()
    torch.testing.assert_close(found, expected)
    assert set(shapes) == set(PADDED)
    handle.remove()
    assert shapes_in_layers(model, **batch) == UNPADDED


def as_tuple(given: object) -> tuple:
    return given if isinstance(given, tuple) else (given,)


def test_hooks_see_documents_as_given(make_model):
    """In the same rows and columns as the batch."""
    model, batch = make_model(), make_batch()
    documents = batch["attention_mask"] * (1 + (torch.arange(max(LENGTHS)) > 4))
    inputs = {"input_ids": batch["input_ids"], "document_ids": documents}
    expected, shapes = model(**inputs).last_hidden_state, []
    assert shapes_in_layers(model, **inputs) == UNPADDED
    model.layers[2].register_forward_hook(lambda module, given, output: shapes.append(tuple(output.shape[:2])))
    torch.testing.assert_close(model(**inputs).last_hidden_state, expected)
    assert shapes == PADDED


def test_hooks_of_libraries_change_nothing(make_model):
    """Recording outputs leaves hooks behind, and FSDP2 has its own on each layer."""
    model, batch = make_model(), make_batch()
    model(**batch, output_hidden_states=True)
    assert any(layer._forward_hooks for layer in model.layers)

    def gather(module, args):
        pass

    gather.__module__ = "torch.distributed.fsdp"
    model.layers[0].register_forward_pre_hook(gather)
    assert shapes_in_layers(model, **batch) == UNPADDED


def test_positions_that_restart_mark_documents():
    for positions, numbers in (([0, 1, 0, 1, 2, 0], [0, 0, 1, 1, 1, 2]), ([7, 8, 7], [0, 0, 1])):
        found = packed_documents((1, len(positions)), None, torch.tensor([positions]), {})
        assert found.tolist() == [numbers]
    left_out, gap, two_rows = [[0, 0, 0, 0]], [[0, 1, 5, 6]], [[0, 1, 0, 1], [0, 1, 2, 3]]
    # Like transformers, this looks at single rows only.
    for others in ([[0, 1, 2, 3]], [[4, 5, 6, 7]], left_out, gap, [[3, 2, 1, 0]], [[0, 1, 2, 1]], two_rows):
        assert packed_documents((len(others), 4), None, torch.tensor(others), {}) is None
    # One row of positions for all rows of a batch, and positions beside a mask, are positions.
    broadcast = torch.tensor([[0, 1, 2, 0, 1]])
    assert packed_documents((2, 5), None, broadcast, {}) is None
    assert packed_documents((1, 5), torch.ones(1, 5), broadcast, {}) is None
    with FakeTensorMode() as mode:
        assert packed_documents((1, 5), None, mode.from_tensor(broadcast), {}) is None
    assert packed_documents((1, 5), None, broadcast.to("meta"), {}) is None


def test_one_row_of_positions_for_all_rows(make_model):
    model = make_model()
    ids = torch.randint(5, 60, (2, 7), generator=torch.Generator().manual_seed(3))
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    rows = [model(ids[[i]], position_ids=positions, attention_mask=torch.ones(1, 7)).last_hidden_state for i in (0, 1)]
    torch.testing.assert_close(model(ids, position_ids=positions).last_hidden_state, torch.cat(rows))


def test_positions_begin_anew_with_each_sequence(make_model):
    """Dynamic RoPE depends on the longest position; all other rotary positions are relative."""
    assert restarting_positions(torch.tensor([[0, 0, 0, 1, 2, 2]])).tolist() == [[0, 1, 2, 0, 0, 1]]
    seen = []
    model, batch = make_model(), make_batch()
    model.rotary_emb.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    model(**laid_end_to_end(batch)[0], cu_seq_lens_q=edges())
    assert torch.equal(seen[0], restarted())


def test_empty_sequences_and_masks_that_hide_nothing(make_model):
    model, batch = make_model(), make_batch()
    inputs, _ = laid_end_to_end(batch)
    expected = model(**inputs, cu_seq_lens_q=edges()).last_hidden_state
    with_empty = torch.cat([edges()[:2], edges()[1:]])
    ones = torch.ones_like(inputs["input_ids"])
    torch.testing.assert_close(model(**inputs, cu_seq_lens_q=with_empty).last_hidden_state, expected)
    torch.testing.assert_close(model(**inputs, attention_mask=ones, cu_seq_lens_q=edges()).last_hidden_state, expected)


def test_the_collator_of_transformers(make_model):
    model, batch = make_model(GAUForMaskedLM), make_batch()
    _, rows = laid_end_to_end(batch)
    features = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in rows]
    expected = torch.cat([model(row[None]).logits[0] for row in rows])
    for flash in (False, True):
        collator = DataCollatorWithFlattening(return_flash_attn_kwargs=flash, return_seq_idx=False)
        flattened = collator(features)
        labels = flattened.pop("labels")
        assert (labels == -100).sum() == len(rows)
        torch.testing.assert_close(model(**flattened).logits[0], expected)


def packed_rows() -> dict[str, torch.Tensor]:
    numbers = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3], [1, 1, 1, 1, 1, 1]])
    ids = torch.randint(5, 60, numbers.shape, generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.6, -100)
    return {"input_ids": ids, "labels": labels.masked_fill(numbers == 0, -100), "document_ids": numbers}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("backend", ["eager", "gau_blocked"])
def test_documents_of_packed_rows(make_model, small_models_count, backend, sparse):
    """End to end where it pays, otherwise by a mask; the caller's own mask and positions give the same."""
    model, batch = make_model(GAUForMaskedLM, backend, sparse_prediction=sparse), packed_rows()
    numbers = batch.pop("document_ids")
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5]])
    assert torch.equal(restarting_positions(numbers), positions)
    by_mask = {"attention_mask": same_document(numbers), "position_ids": positions}
    given = ({"document_ids": numbers}, {"document_ids": numbers, "attention_mask": (numbers > 0).long()}, by_mask)
    shape = (1, 17) if small_models_count == "one by one" else (3, 6)  # rows too short to pay for calls that cost
    assert shapes_in_layers(model.model, input_ids=batch["input_ids"], document_ids=numbers) == [shape]
    results = []
    for unpads, arguments in ((True, given[0]), (True, given[1]), (False, given[0]), (True, given[2])):
        model.config.unpad_inputs = unpads
        model.zero_grad()
        outputs = model(**batch, **arguments)
        outputs.loss.backward()
        logits = outputs.logits if sparse else outputs.logits[numbers > 0]
        results.append((outputs.loss, logits, model.model.layers[1].gau.i_dense.weight.grad.clone()))
    for other in results[:-1]:
        torch.testing.assert_close(other, results[-1])


def test_documents_that_stay_in_their_rows(make_model):
    """Recorded states keep their shape, compiled models read no lengths, and split documents need a mask."""
    model, batch = make_model(), packed_rows()
    inputs = {name: batch[name] for name in ("input_ids", "document_ids")}
    expected = model(**inputs).last_hidden_state
    assert not expected[0, 5].any()
    recorded = model(**inputs, output_hidden_states=True)
    assert recorded.hidden_states[1].shape[:2] == (3, 6)
    torch.testing.assert_close(recorded.last_hidden_state, expected)
    torch.testing.assert_close(torch.compile(model, backend="eager")(**inputs).last_hidden_state, expected)
    for pieces in ([[1, 1, 2, 2, 1, 1]], [[1, 1, 0, 1, 2, 2]], [[0, 0, 0, 0, 0, 0]]):
        assert documents_end_to_end(torch.tensor(pieces)) is None
    assert documents_end_to_end(torch.tensor([[1, 1, 0], [0, 1, 2]])).lengths == (2, 1, 1)


def test_dynamic_positions_do_not_depend_on_padding(make_model):
    """Dynamic RoPE depends on the largest position, which must be the same end to end and with a mask."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = make_model(rope_parameters=rope, max_position_embeddings=8)
    numbers = torch.tensor([[1] * 6 + [2] * 6 + [0] * 28])
    inputs = {"input_ids": torch.arange(5, 45)[None], "document_ids": numbers}
    expected = model(**inputs).last_hidden_state
    model.config.unpad_inputs = False
    torch.testing.assert_close(model(**inputs).last_hidden_state, expected)


@pytest.mark.parametrize("backend", ["flash_attention_2", "gau_triton"])
def test_backends_without_masks_of_pairs_say_so(make_model, backend):
    model, batch = make_model(), packed_rows()
    del batch["labels"]
    model.config._attn_implementation = backend
    with pytest.raises(ValueError, match=f"attn_implementation='{backend}'.*Use 'sdpa', 'gau_blocked'"):
        model(**batch, output_hidden_states=True)


@pytest.fixture
def flash(monkeypatch) -> list[torch.Size]:
    """A stand-in for the kernel, which needs a GPU: it attends by `cu_seq_lens_q` alone. Gives the shapes it got."""
    shapes = []

    def kernel(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **kwargs):
        shapes.append(query.shape)
        sizes = kwargs["cu_seq_lens_q"].diff().tolist()
        assert attention_mask is None and kwargs["max_length_q"] == kwargs["max_length_k"] == max(sizes)
        assert torch.equal(kwargs["cu_seq_lens_q"], kwargs["cu_seq_lens_k"])
        parts = zip(*(tensor.split(sizes, 2) for tensor in (query, key, value)), strict=True)
        outputs = [torch.nn.functional.scaled_dot_product_attention(*part, scale=scaling) for part in parts]
        return torch.cat(outputs, dim=2).transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", kernel)
    return shapes


def test_flash_attention_gets_the_lengths(make_model, flash):
    model, (inputs, _) = make_model(intermediate_size=36, num_hidden_layers=1), laid_end_to_end(make_batch())
    expected = model(**inputs, cu_seq_lens_q=edges()).last_hidden_state
    model.config._attn_implementation = "flash_attention_2"
    for given in ({"cu_seq_lens_q": edges()}, {"position_ids": restarted()}):
        torch.testing.assert_close(model(**inputs, **given).last_hidden_state, expected)
    assert len(flash) == 2
    given = how_given("cu_seq_lens")
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(**inputs, **given).last_hidden_state, expected)
    recorded = model(**inputs, **given, output_attentions=True)
    torch.testing.assert_close(recorded.last_hidden_state, expected)
    assert not recorded.attentions[0][0, 0, 0, LENGTHS[0] :].any()
    with pytest.raises(Exception, match="max_length_q, max_length_k is missing"):
        compiled(**inputs, cu_seq_lens_q=edges(), cu_seq_lens_k=edges())


@pytest.mark.parametrize("side", ["right", "left", "holes"])
def test_flash_attention_gets_no_padding(make_model, flash, side):
    model, batch = make_model(intermediate_size=36, unpad_inputs=False), make_batch(side)
    expected = model(**batch).last_hidden_state
    model.config.unpad_inputs, model.config._attn_implementation = True, "flash_attention_2"
    torch.testing.assert_close(model(**batch).last_hidden_state, expected)
    assert set(flash) == {(1, 3, int(batch["attention_mask"].sum()), 12)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cu_seq_lens_q": torch.tensor([0, 10, 48])}, r"Got \[0, 10, 48\] for a batch of shape \(1, 49\)"),
        ({"cu_seq_lens_q": torch.tensor([0, 49, 10, 49])}, "increasing numbers"),
        ({"cu_seq_lens_q": torch.tensor([5, 49])}, "cu_seq_lens_q must list where each sequence"),
        ({"cu_seq_lens_k": torch.tensor([0, 49])}, "cu_seq_lens_k differs from cu_seq_lens_q"),
        (
            {"attention_mask": torch.arange(49)[None].bool()},
            "attention_mask that hides something or cu_seq_lens_q, not both",
        ),
        ({"cu_seq_lens_q": None, "cu_seq_lens_k": edges()}, "cu_seq_lens_k is given without cu_seq_lens_q"),
        ({"cu_seq_lens_q": [0, 49]}, "cu_seq_lens_q must be a tensor of integers, not list"),
    ],
)
def test_bad_edges_are_refused(make_model, changes, message):
    inputs, _ = laid_end_to_end(make_batch())
    with pytest.raises(ValueError, match=message):
        make_model()(**inputs | {"cu_seq_lens_q": edges()} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"document_ids": torch.ones(3, 5).long()}, r"document_ids must be integers of the batch's shape \(3, 6\)"),
        ({"document_ids": torch.ones(3, 6)}, "document_ids must be integers"),
        ({"document_ids": torch.tensor([[1, 1, 2, 2, -1, -1]] * 3)}, "must not be negative"),
        ({"attention_mask": torch.ones(3, 6)}, "attention_mask contradicts document_ids"),
        ({"cu_seq_lens_q": torch.tensor([0, 18])}, "Give document_ids or cu_seq_lens_q, not both"),
    ],
)
def test_bad_document_ids_are_refused(make_model, changes, message):
    batch = packed_rows()
    del batch["labels"]
    with pytest.raises(ValueError, match=message):
        make_model()(**batch | changes)


@pytest.mark.parametrize("kind", [GAUForSequenceClassification, GAUForQuestionAnswering, GAUForMultipleChoice])
def test_heads_with_one_answer_per_row_refuse_packed_rows(make_model, kind):
    inputs, _ = laid_end_to_end(make_batch())
    positions = restarted()
    if kind is GAUForMultipleChoice:
        inputs, positions = {name: tensor[None] for name, tensor in inputs.items()}, positions[None]
    for given in ({"cu_seq_lens_q": edges()}, {"position_ids": positions}):
        with pytest.raises(ValueError, match=f"{kind.__name__} gives one answer per row"):
            make_model(kind)(**inputs, **given)


def test_flex_attention_refuses_packed_rows(make_model):
    model, batch = make_model(), make_batch()
    model.config._attn_implementation = "flex_attention"
    for given in ({"cu_seq_lens_q": edges()}, {"position_ids": restarted()}):
        with pytest.raises(ValueError, match="flex_attention' cannot keep sequences of one row apart"):
            model(**laid_end_to_end(batch)[0], **given)
