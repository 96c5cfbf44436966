# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What SECURITY.md says of loading: the code and the pickles of a checkpoint are not executed."""

from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from transformers import AutoModel

from modeling_gau import GAUConfig, GAUModel
from modeling_gau.runs.recipes import read_recipe


class Touch:
    """Unpickles by creating a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    fields = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "attention_key_size": 4}
    GAUModel(GAUConfig(num_hidden_layers=1, **fields)).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_with_the_package_code_of_a_checkpoint_does_not_run(checkpoint, tmp_path):
    codes = list(checkpoint.glob("*_gau.py"))
    assert len(codes) == 5
    for code in codes:
        code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    for trust in (None, True):
        assert type(AutoModel.from_pretrained(checkpoint, trust_remote_code=trust)) is GAUModel
    assert not (tmp_path / "ran").exists()


def test_pickles_with_other_objects_than_tensors_are_refused(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").unlink()
    torch.save({"embeddings": Touch(tmp_path / "ran")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        AutoModel.from_pretrained(checkpoint)
    assert not (tmp_path / "ran").exists()


def test_recipes_construct_no_objects(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"output_dir: !!python/object/apply:builtins.open ['{tmp_path / 'ran'}', w]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="python/object"):
        read_recipe(recipe)
    assert not (tmp_path / "ran").exists()
