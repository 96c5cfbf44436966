# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""torch.compile without graph breaks and torch.export with dynamic shapes, both equal to eager execution."""

import shutil
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from modeling_gau import GAUForSequenceClassification, unpadding_gau


VOCAB_SIZE = 40


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def make_model(make_model):
    """One layer: all of them compile alike."""
    return partial(make_model, num_hidden_layers=1)


def make_batch(batch: int = 3, seq: int = 9, labels: bool = False) -> dict[str, torch.Tensor]:
    """The first row is padded on the right, the last one on the left; every other token is labelled."""
    mask = torch.ones(batch, seq, dtype=torch.long)
    mask[0, seq // 2 + 1 :], mask[-1, : seq // 3] = 0, 0
    ids = torch.randint(1, VOCAB_SIZE, (batch, seq), generator=torch.Generator().manual_seed(seq)) * mask
    inputs = {"input_ids": ids, "attention_mask": mask}
    if labels:
        inputs["labels"] = ids.where((mask == 1) & (torch.arange(seq) % 2 == 0), -100)
    return inputs


def loss_and_gradients(call, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    outputs = call(**batch)
    outputs.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {"logits": outputs.logits.detach(), "loss": outputs.loss.detach()} | gradients


def targets_of(graph_module: torch.nn.Module) -> Iterator:
    """Everything that a graph and the graphs inside it call."""
    for module in graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield from (node.target for node in module.graph.nodes if node.op == "call_function")


# ---------------------------------------------------------------------------------------------------- torch.compile


@pytest.mark.parametrize(
    ("normalization", "backend"),
    [
        ("softmax_plus", None),
        ("softmax_plus", "sdpa"),
        ("softmax_plus", "gau_blocked"),
        ("squared_relu", "eager"),
        ("normalized_squared_relu", "eager"),
    ],
)
def test_compiled_training_step(make_model, normalization, backend):
    model = make_model(backend=backend, attention_normalization=normalization).train()
    batch = make_batch(labels=True)
    expected = loss_and_gradients(model, model, batch)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(loss_and_gradients(compiled, model, batch), expected, rtol=1e-4, atol=1e-5)


def test_compiled_inference(make_model):
    model = make_model(GAUForSequenceClassification)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for padded in (True, False):
        batch = make_batch()
        if not padded:
            del batch["attention_mask"]
        with torch.no_grad():
            torch.testing.assert_close(compiled(**batch)[0], model(**batch)[0], rtol=1e-4, atol=1e-5)


def test_compiled_once_for_all_shapes(make_model):
    model = make_model()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    loss_and_gradients(compiled, model, make_batch(3, 9, labels=True))
    with torch.compiler.set_stance("fail_on_recompile"):
        for shape in ((2, 17), (4, 30)):
            batch = make_batch(*shape, labels=True)
            found, expected = (loss_and_gradients(call, model, batch) for call in (compiled, model))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_checks_of_inputs_break_no_graph(make_model):
    model = make_model()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    for batch, seq in ((3, 9), (2, 17)):
        inputs = make_batch(batch, seq)
        inputs["token_type_ids"] = inputs["input_ids"] % 2
        inputs["position_ids"] = torch.arange(seq)[None] * 2
        inputs["attention_mask"] = inputs["attention_mask"].float()
        with torch.no_grad():
            torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)
        with pytest.raises(Exception, match=r"position_ids has shape \(1, 1\)"):
            compiled(**inputs | {"position_ids": torch.ones(1, 1, dtype=torch.long)})


def test_compiled_default_keeps_the_blocked_attention(make_model):
    """Only exports use plain operations: a compiled default must not take quadratic memory at long inputs."""
    counter = CompileCounterWithBackend("eager")
    torch.compile(make_model(), backend=counter, fullgraph=True)(**make_batch(seq=2048))
    names = [str(target) for graph in counter.graphs for target in targets_of(graph)]
    assert sum("blocked_attention" in name for name in names) == 1
    assert not any("softmax" in name for name in names)


def test_compiled_layers_compute_documents_without_compiling_again(make_model, monkeypatch):
    """Sequences laid end to end would be compiled again for every new set of lengths: compiled layers get a mask."""
    monkeypatch.setattr(unpadding_gau, "_OPERATIONS_OF_A_CALL", 0)  # plain layers always lay them end to end
    model = make_model()
    numbers = torch.tensor([[1] * 20 + [2] * 3 + [0] * 41, [1] * 2 + [2] * 60 + [0] * 2])
    documents, others = (
        {"input_ids": torch.arange(128).view(2, 64) % 40 * (ids != 0), "document_ids": ids}
        for ids in (numbers, numbers.flip(0))
    )
    for batch in (documents, others):
        batch["labels"] = batch["input_ids"].masked_fill(batch["document_ids"] == 0, -100)
    expected = [loss_and_gradients(model, model, batch) for batch in (documents, others)]
    for layer in model.model.layers:
        layer.compile(backend="aot_eager", fullgraph=True)
    found = [loss_and_gradients(model, model, documents)]
    with torch.compiler.set_stance("fail_on_recompile"):
        found.append(loss_and_gradients(model, model, others))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_compiled_sparse_prediction(make_model):
    """The number of labelled positions depends on the data, so the graph breaks there; the numbers stay."""
    model = make_model(sparse_prediction=True)
    batch = make_batch(labels=True)
    expected = loss_and_gradients(model, model, batch)
    assert len(expected["logits"]) == (batch["labels"] != -100).sum()
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(loss_and_gradients(compiled, model, batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the inductor backend needs a C++ compiler")
def test_compiled_by_inductor(make_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = make_model()
    batch = make_batch(labels=True)
    expected = loss_and_gradients(model, model, batch)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(loss_and_gradients(compiled, model, batch), expected, rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------------------- torch.export


@pytest.mark.parametrize(
    ("normalization", "positions", "with_mask"),
    [
        ("softmax_plus", {"query_key_offset_init": 1.0}, True),
        ("softmax_sink", {"relative_position_bias": "distance"}, True),
        ("sigmoid", {}, True),
        ("squared_relu", {"relative_position_bias": "rotary"}, False),
        ("normalized_squared_relu", {}, True),
        ("laplace", {}, False),
    ],
)
def test_export_with_dynamic_shapes(make_model, tmp_path, normalization, positions, with_mask):
    model = make_model(attention_normalization=normalization, **positions)
    names = ("input_ids", "attention_mask")[: 1 + with_mask]
    batch = {name: make_batch()[name] for name in names}
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (), batch, dynamic_shapes=dict.fromkeys(batch, axes))

    operators = [target for target in targets_of(program.graph_module) if isinstance(target, torch._ops.OpOverload)]
    assert {operator.namespace for operator in operators} == {"aten"}
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    for shape in ((3, 9), (2, 5), (5, 70)):
        inputs = {name: make_batch(*shape)[name] for name in names}
        with torch.no_grad():
            torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)
