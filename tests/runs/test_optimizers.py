# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Muon: its matrices, its formula, its parameter groups."""

import copy

import pytest
import torch
from tiny_model import QUIET
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, ModernBertConfig, ModernBertForMaskedLM

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.configuration_gau import GAUError
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.arguments import RunArguments
from modeling_gau.runs.optimizers import MuonAdamW, muon_groups, muon_options, orthogonalize
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.trainer import RunTrainer


SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2}


def make_gau(**changes) -> GAUForMaskedLM:
    torch.manual_seed(0)
    return GAUForMaskedLM(GAUConfig(**SIZES, intermediate_size=24, attention_key_size=10, **changes))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 5), (3, 7, 33), (1, 64, 65)])
def test_singular_values_become_one_roughly(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrices, steps=5).double()
    left, values, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    # The same singular vectors: what is left between them is a diagonal.
    middle = left.mT @ found @ right.mT
    diagonal = middle.diagonal(dim1=-2, dim2=-1)
    assert (middle - torch.diag_embed(diagonal)).abs().max() < 1e-4
    assert diagonal.max() < 1.25 and diagonal[values / values.norm(dim=-1, keepdim=True) > 0.02].min() > 0.65


def test_a_matrix_of_zeros_stays_zero():
    assert (orthogonalize(torch.zeros(2, 3, 4)) == 0).all()


def plain_muon(weights, gradients, rate, decay, momentum, blocks) -> torch.Tensor:
    """Step after step, block after block, in float64."""
    weight, buffer = weights.double(), torch.zeros_like(weights, dtype=torch.float64)
    for gradient in gradients:
        buffer = momentum * buffer + (1 - momentum) * gradient
        direction, updates = momentum * buffer + (1 - momentum) * gradient, []
        for block in direction.split(blocks):
            x = (block.T if block.shape[0] > block.shape[1] else block) / block.norm()
            for _ in range(5):
                gram = x @ x.T
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            x = x.T if block.shape[0] > block.shape[1] else x
            updates.append(0.2 * max(block.shape) ** 0.5 * x)
        weight = weight - rate * decay * weight - rate * torch.cat(updates)
    return weight


@pytest.mark.parametrize("blocks", [(7,), (2, 4, 1), (3, 4)])
def test_steps_are_those_of_the_formula_and_the_rest_is_adamw(blocks):
    generator = torch.Generator().manual_seed(0)
    matrix, vector = (nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 5), (3,)))
    adamw_vector = nn.Parameter(vector.detach().clone())
    begin, gradients = matrix.detach().clone(), []
    groups = [{"params": [matrix], "row_blocks": blocks, "weight_decay": 0.3}, {"params": [vector]}]
    muon = MuonAdamW(groups, momentum=0.8, lr=0.1, weight_decay=0.01, betas=(0.9, 0.98))
    adamw = torch.optim.AdamW([adamw_vector], lr=0.1, weight_decay=0.01, betas=(0.9, 0.98))
    for _ in range(3):
        for parameter in (matrix, vector):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        adamw_vector.grad = vector.grad.clone()
        gradients.append(matrix.grad.double())
        muon.step()
        adamw.step()
    expected = plain_muon(begin, gradients, 0.1, 0.3, 0.8, blocks)
    torch.testing.assert_close(matrix.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(vector, adamw_vector)
    assert [group["lr"] for group in muon.param_groups] == [0.1, 0.1]


def test_hooks_of_a_step_are_called_once():
    vector = nn.Parameter(torch.ones(3))
    torch.optim.AdamW([vector])  # puts calls of hooks around AdamW.step, for every optimizer of that class
    muon, called = MuonAdamW([{"params": [vector]}]), []
    muon.register_step_pre_hook(lambda *_: called.append("before"))
    muon.register_step_post_hook(lambda *_: called.append("after"))
    vector.grad = torch.ones(3)
    muon.step()
    assert called == ["before", "after"] and (vector < 1).all()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
def test_agrees_with_torch_as_far_as_bfloat16_goes():
    torch.manual_seed(0)
    mine, other = (nn.Parameter(weight) for weight in torch.randn(1, 24, 16).repeat(2, 1, 1))
    muon = MuonAdamW([{"params": [mine], "row_blocks": (24,), "weight_decay": 0.1}], lr=0.05)
    torch_muon = torch.optim.Muon([other], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        mine.grad = torch.randn(24, 16)
        other.grad = mine.grad.clone()
        begin = mine.detach().clone()
        muon.step()
        torch_muon.step()
        assert (mine - other).norm() < 0.05 * (mine - begin).norm() * 4
    assert not torch.equal(mine, begin)


def blocks_by_name(model: nn.Module) -> dict[str, tuple[int, ...] | None]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = muon_groups(model, [name for name, p in model.named_parameters() if p.ndim > 1], 0.1)
    found = [(names[p], group.get("row_blocks")) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found)) == len(names)  # each parameter once
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    return dict(found)


@pytest.mark.parametrize("tied", [True, False])
def test_gau_has_four_matrices_a_layer(tied):
    found = blocks_by_name(make_gau(tie_word_embeddings=tied, query_key_offset_init=1.0))
    matrices = {name: rows for name, rows in found.items() if rows is not None}
    assert len(matrices) == 4
    for layer in range(2):
        assert matrices[f"model.layers.{layer}.gau.i_dense.weight"] == (24, 24, 10)
        assert matrices[f"model.layers.{layer}.gau.o_dense.weight"] == (16,)


def test_fused_matrices_of_other_architectures_are_taken_apart():
    config = ModernBertConfig(**SIZES, intermediate_size=24, num_attention_heads=2, pad_token_id=0)
    found = blocks_by_name(ModernBertForMaskedLM(config))
    assert found["model.layers.0.attn.Wqkv.weight"] == (16, 16, 16)
    assert found["model.layers.0.mlp.Wi.weight"] == (24, 24)
    assert found["model.layers.0.mlp.Wo.weight"] == (16,)
    assert found["head.dense.weight"] is None and found["model.embeddings.tok_embeddings.weight"] is None
    found = blocks_by_name(BertForMaskedLM(BertConfig(**SIZES, intermediate_size=24, num_attention_heads=2)))
    assert found["bert.encoder.layer.0.attention.self.query.weight"] == (16,)
    assert found["cls.predictions.transform.dense.weight"] is None
    found = blocks_by_name(BertModel(BertConfig(**SIZES, intermediate_size=24, num_attention_heads=2)))
    assert found["pooler.dense.weight"] is None and found["encoder.layer.0.output.dense.weight"] == (16,)


def test_an_overflow_of_float16_changes_nothing():
    matrix, vector = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    groups = [{"params": [matrix], "row_blocks": (3,), "weight_decay": 0.1}, {"params": [vector]}]
    optimizer, scaler = MuonAdamW(groups, lr=0.1, fused=True), torch.amp.GradScaler("cpu")
    scaler.scale((matrix.sum() + vector.sum()) * 1e38).backward()
    scaler.step(optimizer)
    scaler.update()
    assert (matrix == 1).all() and (vector == 1).all() and not optimizer.state


def test_frozen_layers_are_left_alone():
    model = make_gau()
    model.model.layers[0].requires_grad_(False)
    begin = copy.deepcopy(model.state_dict())
    optimizer = MuonAdamW(muon_groups(model, [], 0.1), lr=0.1)
    ids = torch.arange(20).view(2, 10)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, begin[name])}
    assert not any(name.startswith("model.layers.0.") for name in changed)
    assert {"model.layers.1.gau.i_dense.weight", "model.embeddings.word_embeddings.weight"} <= changed


def test_the_command_line_knows_it(tmp_path):
    words = ["--output_dir", str(tmp_path), "--use_cpu", "--optim", "muon", "--optim_args", "ns_steps=4"]
    (args,) = parse_arguments((PretrainingArguments,), words, description="")
    assert args.optim == "muon"
    model = make_gau()
    trainer = RunTrainer(model=model, args=args)
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, MuonAdamW) and optimizer.param_groups[0]["ns_steps"] == 4
    # The rate that the width gives, for matrices and for the rest.
    assert {group["lr"] for group in optimizer.param_groups} == {args.learning_rate}
    (args,) = parse_arguments((PretrainingArguments,), words[:3], description="")
    assert not isinstance(RunTrainer(model=model, args=args).create_optimizer(), MuonAdamW)


def test_options(tmp_path):
    assert muon_options(None) == {}
    assert muon_options("momentum=0.9, ns_steps=4") == {"momentum": 0.9, "ns_steps": 4}
    for wrong in ("momentum=1", "ns_steps=0", "ns_steps=2.5", "beta=1", "momentum=nan"):
        with pytest.raises(GAUError, match=f"--optim_args {wrong}: --optim muon has momentum"):
            muon_options(wrong)
    args = RunArguments(output_dir=str(tmp_path), optim="muon", optim_args="momentum=2", **QUIET)
    with pytest.raises(GAUError, match="momentum=2"):
        args.check_optimization()
    assert args.to_dict()["optim"] == "muon"
