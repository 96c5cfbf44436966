# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Loading through accelerate's device maps, with layers kept on disk, and in bfloat16."""

from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from modeling_gau import GAUForMaskedLM


LAYERS = 3


def make_batch() -> dict[str, torch.Tensor]:
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, 5:], mask[-1, :3] = 0, 0
    ids = torch.randint(1, 40, (3, 9), generator=torch.Generator().manual_seed(0)) * mask
    return {"input_ids": ids, "attention_mask": mask}


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**make_batch()).logits


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, make_model) -> tuple[Path, torch.Tensor]:
    """A checkpoint and its logits."""
    model, folder = make_model(num_hidden_layers=LAYERS), tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    return folder, logits_of(model)


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_device_map_on_cpu(checkpoint, device_map):
    folder, expected = checkpoint
    model = GAUForMaskedLM.from_pretrained(folder, device_map=device_map)
    if not torch.cuda.is_available():
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    torch.testing.assert_close(logits_of(model).cpu(), expected)


def test_layers_on_disk(checkpoint, tmp_path):
    """The middle layer stays on disk and is read when it runs: tensors that are no parameters must follow it."""
    folder, expected = checkpoint
    device_map = {"model.embeddings": "cpu", "model.rotary_emb": "cpu", "decoder": "cpu"}
    device_map |= {f"model.layers.{i}": "disk" if i == 1 else "cpu" for i in range(LAYERS)}
    model = GAUForMaskedLM.from_pretrained(folder, device_map=device_map, offload_folder=tmp_path)
    on_meta = {name for name, parameter in model.named_parameters() if parameter.is_meta}
    assert on_meta and all(name.startswith("model.layers.1.") for name in on_meta)
    torch.testing.assert_close(logits_of(model), expected)


def test_every_submodule_off_the_device(checkpoint):
    """Each submodule holds its weights only while it runs, so no module may reach into another one."""
    folder, expected = checkpoint
    model = GAUForMaskedLM.from_pretrained(folder)
    cpu_offload(model, execution_device="cpu", offload_buffers=True)
    assert all(parameter.is_meta for parameter in model.parameters())
    torch.testing.assert_close(logits_of(model), expected)


def test_layers_are_not_split(make_model):
    model = make_model()
    names = {type(module).__name__ for module in model.modules()}
    assert {"GAULayer", "GAUEmbeddings"} <= set(model._no_split_modules) <= names


@pytest.mark.parametrize("backend", [None, "eager", "sdpa"])
def test_loaded_in_bfloat16(checkpoint, backend):
    folder, expected = checkpoint
    model = GAUForMaskedLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=backend)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    # Angles of rotary positions lose whole turns in bfloat16.
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    logits = logits_of(model)
    assert logits.dtype == torch.bfloat16
    error = (logits.float() - expected).norm() / expected.norm()
    assert error < 0.05


def test_saved_in_bfloat16_loads_so(checkpoint, tmp_path):
    folder, _ = checkpoint
    GAUForMaskedLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert GAUForMaskedLM.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16
